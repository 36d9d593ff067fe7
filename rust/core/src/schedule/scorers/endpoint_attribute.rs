//! `endpoint-attribute-scorer`: endpoints by one number that an extractor publishes of them.

use crate::plugin::{
    ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape, Stability,
};
use crate::schedule::endpoint_attribute::EndpointAttribute;
use crate::schedule::{Context, Scorer};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "endpoint-attribute-scorer",
    roles: &[Role::Scorer],
    stability: Stability::Alpha,
    summary: "A number that an extractor publishes, on a line from 0 to 1 over a fixed range or over the candidates'; 0 where it is missing.",
    parameters: &[
        ParameterKind {
            name: "attributeKey",
            default: "",
            summary: "Key of the number, such as WaitingQueueSize or that of a custom metric.",
            ..ParameterKind::BASE
        },
        EndpointAttribute::PRODUCER,
        ParameterKind {
            name: "algorithm",
            shape: Shape::Object(&[
                ParameterKind {
                    name: "type",
                    shape: Shape::Choice(&[LOWER, HIGHER]),
                    default: "",
                    summary: "Which end of the range scores 1.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "normalization",
                    shape: Shape::Object(NORMALIZATIONS),
                    default: "{}",
                    summary: "The range; at most one of the fields, adaptiveRange where none is given.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "",
            summary: "How the number becomes a score.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        let attribute = EndpointAttribute::from_parameters(parameters, "attributeKey")?;
        let algorithm = parameters.object("algorithm");
        let normalization = algorithm.and_then(|algorithm| algorithm.object("normalization"));
        Ok(Parts::scorer(EndpointAttributeScorer {
            attribute,
            lower_is_better: algorithm.is_some_and(|algorithm| algorithm.text("type") == LOWER),
            fixed_range: match normalization {
                Some(normalization) => fixed_range(&normalization).map_err(|error| {
                    error
                        .within("normalization", None)
                        .within("algorithm", None)
                })?,
                None => None,
            },
        })
        .with_needs(EndpointAttribute::needs(parameters, "attributeKey")))
    },
    ..PluginKind::BASE
};

const LOWER: &str = "linear_lower_is_better";
const HIGHER: &str = "linear_higher_is_better";

const ANY_NUMBER: Shape = Shape::Number {
    least: f64::NEG_INFINITY,
    most: f64::INFINITY,
};

const NORMALIZATIONS: &[ParameterKind] = &[
    ParameterKind {
        name: "fixedRange",
        shape: Shape::Object(&[
            ParameterKind {
                name: "min",
                shape: ANY_NUMBER,
                default: "0",
                summary: "Lower end.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "max",
                shape: ANY_NUMBER,
                default: "0",
                summary: "Upper end; more than min.",
                ..ParameterKind::BASE
            },
        ]),
        summary: "The range is this one; numbers outside count as its ends.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "adaptiveRange",
        shape: Shape::Object(&[]),
        summary: "The range is that of the candidates' numbers; all score 1 where those are equal.",
        ..ParameterKind::BASE
    },
];

/// `(value − min) / (max − min)`, or 1 minus that.
#[derive(Clone, Debug)]
pub struct EndpointAttributeScorer {
    attribute: EndpointAttribute,
    lower_is_better: bool,
    /// `None`: that of the candidates.
    fixed_range: Option<(f64, f64)>,
}

impl Scorer for EndpointAttributeScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        for (row, score) in scores.iter_mut().enumerate() {
            *score = self.attribute.of(context, row).unwrap_or(f64::NAN);
        }
        // `f64::min` and `f64::max` pass over what is missing.
        let (min, max) = self.fixed_range.unwrap_or_else(|| {
            scores
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| {
                    (min.min(*value), max.max(*value))
                })
        });
        for score in scores {
            *score = if score.is_nan() {
                0.0
            } else if min >= max {
                1.0
            } else {
                let share = ((*score - min) / (max - min)).clamp(0.0, 1.0);
                if self.lower_is_better {
                    1.0 - share
                } else {
                    share
                }
            };
        }
    }
}

/// `None`: the candidates' own.
fn fixed_range(normalization: &Parameters<'_>) -> Result<Option<(f64, f64)>, ParameterError> {
    let Some(fixed) = normalization.object("fixedRange") else {
        return Ok(None);
    };
    if normalization.value("adaptiveRange").is_some() {
        return Err(ParameterError::new(
            "adaptiveRange",
            "cannot be given together with fixedRange; remove one of them",
        ));
    }
    let (min, max) = (fixed.number("min"), fixed.number("max"));
    if min >= max {
        let problem = format!("must be more than min ({min}), not {max}");
        return Err(ParameterError::new("max", problem).within("fixedRange", None));
    }
    Ok(Some((min, max)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::pool::EngineMetrics;
    use crate::schedule::testing::Scene;

    /// One endpoint for each value of `load`, as `producer` publishes it.
    fn scene(producer: &str, values: &[Option<f64>]) -> Scene {
        let scene = Scene::new(values.len() as u8);
        for (endpoint, value) in scene.snapshot.endpoints.iter().zip(values) {
            let published: Vec<_> = value
                .iter()
                .map(|value| (Arc::from("load"), *value))
                .collect();
            endpoint.set_attributes(producer, false, &published);
        }
        scene
    }

    fn parameters(kind: &str, normalization: &Value) -> Value {
        json!({"attributeKey": "load", "algorithm": {"type": kind, "normalization": normalization}})
    }

    fn rated(values: &[Option<f64>], kind: &str, normalization: &Value) -> Vec<f64> {
        let plugin = built(&KIND, &parameters(kind, normalization));
        scene("core-metrics-extractor", values).rated(&plugin)
    }

    #[test]
    fn values_score_on_a_line_over_the_range() {
        let fixed = json!({"fixedRange": {"min": 10, "max": 20}});
        let values = [Some(10.0), Some(15.0), Some(30.0), None];
        for (normalization, lower, higher) in [
            (&json!({}), [1.0, 0.75, 0.0, 0.0], [0.0, 0.25, 1.0, 0.0]),
            (
                &json!({"adaptiveRange": {}}),
                [1.0, 0.75, 0.0, 0.0],
                [0.0, 0.25, 1.0, 0.0],
            ),
            (&fixed, [1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 1.0, 0.0]),
        ] {
            assert_eq!(
                rated(&values, LOWER, normalization),
                lower,
                "{normalization}"
            );
            assert_eq!(
                rated(&values, HIGHER, normalization),
                higher,
                "{normalization}"
            );
        }
        // Below the range.
        assert_eq!(
            rated(&[Some(-1.0)], LOWER, &json!({"fixedRange": {"max": 1}})),
            [1.0]
        );
    }

    #[test]
    fn one_endpoint_equal_values_and_values_that_are_no_numbers() {
        for kind in [LOWER, HIGHER] {
            for (values, expected) in [
                (&[Some(7.0)][..], &[1.0][..]),
                (&[Some(7.0), Some(7.0), None], &[1.0, 1.0, 0.0]),
                (&[None, None], &[0.0, 0.0]),
                (
                    &[Some(f64::NAN), Some(f64::INFINITY), Some(7.0)],
                    &[0.0, 0.0, 1.0],
                ),
            ] {
                assert_eq!(
                    rated(values, kind, &json!({})),
                    expected,
                    "{kind} {values:?}"
                );
            }
        }
    }

    #[test]
    fn the_producer_is_the_core_metrics_extractor_unless_another_is_named() {
        let scene = scene("mine", &[Some(1.0), Some(2.0)]);
        let mut parameters = parameters(HIGHER, &json!({}));
        assert_eq!(scene.rated(&built(&KIND, &parameters)), [0.0, 0.0]);
        parameters["producer"] = json!("mine");
        assert_eq!(scene.rated(&built(&KIND, &parameters)), [0.0, 1.0]);
    }

    #[test]
    fn the_engines_own_metrics_have_keys() {
        let scene = Scene::new(3);
        for (row, waiting) in [(0, Some(4.0)), (1, Some(0.0)), (2, None)] {
            scene.set_metrics(
                row,
                EngineMetrics {
                    waiting,
                    ..EngineMetrics::default()
                },
            );
        }
        let parameters = json!({"attributeKey": "WaitingQueueSize", "algorithm": {"type": LOWER}});
        assert_eq!(scene.rated(&built(&KIND, &parameters)), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let both = json!({"fixedRange": {"max": 1}, "adaptiveRange": {}});
        for (parameters, error) in [
            (
                json!({"algorithm": {"type": LOWER}}),
                "attributeKey: required and missing",
            ),
            (
                json!({"attributeKey": "load"}),
                "algorithm: required and missing",
            ),
            (
                json!({"attributeKey": "load", "algorithm": {}}),
                "algorithm.type: required and missing",
            ),
            (
                json!({"attributeKey": "mine/load", "algorithm": {"type": LOWER}}),
                "attributeKey: holds a \"/\"; name the extractor in producer and its key here, not \"mine/load\"",
            ),
            (
                parameters("linear", &json!({})),
                "algorithm.type: must be one of \"linear_lower_is_better\", \"linear_higher_is_better\", not \"linear\"",
            ),
            (
                parameters(LOWER, &json!({"fixedRange": {"min": 1, "max": 1}})),
                "algorithm.normalization.fixedRange.max: must be more than min (1), not 1",
            ),
            (
                parameters(LOWER, &both),
                "algorithm.normalization.adaptiveRange: cannot be given together with fixedRange; remove one of them",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
        built(
            &KIND,
            &json!({"attributeKey": "a/b", "producer": "mine", "algorithm": {"type": LOWER}}),
        );
    }
}
