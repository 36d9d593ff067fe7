//! `endpoint-attribute-filter`: endpoints by one number that an extractor publishes of them.

use super::narrow::narrow;
use crate::plugin::{ParameterError, ParameterKind, Parts, PluginKind, Role, Shape, Stability};
use crate::schedule::endpoint_attribute::EndpointAttribute;
use crate::schedule::{Context, Filter};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "endpoint-attribute-filter",
    roles: &[Role::Filter],
    stability: Stability::Alpha,
    summary: "Only endpoints whose number, as an extractor publishes it, compares with a threshold as asked for.",
    parameters: &[
        ParameterKind {
            name: "attribute",
            default: "",
            summary: "Key of the number, such as WaitingQueueSize or that of a custom metric.",
            ..ParameterKind::BASE
        },
        EndpointAttribute::PRODUCER,
        ParameterKind {
            name: "onMissing",
            shape: Shape::Choice(&["Pass", "Fail"]),
            default: "\"Pass\"",
            summary: "Whether endpoints without the number are kept (Pass) or dropped (Fail).",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "fallbackOnEmpty",
            shape: Shape::Boolean,
            default: "false",
            summary: "Keep all where none would be left.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "algorithm",
            shape: Shape::Object(&[
                ParameterKind {
                    name: "type",
                    shape: Shape::Choice(&["threshold"]),
                    default: "",
                    summary: "How endpoints are told apart.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "threshold",
                    shape: Shape::Object(THRESHOLD),
                    summary: "Parameters of type threshold; required.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "",
            summary: "Which endpoints are kept.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        let attribute = EndpointAttribute::from_parameters(parameters, "attribute")?;
        let algorithm = parameters.object("algorithm");
        let Some(threshold) = algorithm.and_then(|algorithm| algorithm.object("threshold")) else {
            return Err(
                ParameterError::new("threshold", "required and missing").within("algorithm", None)
            );
        };
        Ok(Parts::filter(EndpointAttributeFilter {
            attribute,
            operator: match threshold.text("operator") {
                "LessThan" => Operator::LessThan,
                "LessThanOrEqual" => Operator::LessThanOrEqual,
                "GreaterThan" => Operator::GreaterThan,
                "GreaterThanOrEqual" => Operator::GreaterThanOrEqual,
                "Equal" => Operator::Equal,
                _ => Operator::NotEqual,
            },
            threshold: threshold.number("value"),
            keep_missing: parameters.text("onMissing") == "Pass",
            fallback_on_empty: parameters.boolean("fallbackOnEmpty"),
        })
        .with_needs(EndpointAttribute::needs(parameters, "attribute")))
    },
    ..PluginKind::BASE
};

const THRESHOLD: &[ParameterKind] = &[
    ParameterKind {
        name: "operator",
        shape: Shape::Choice(&[
            "LessThan",
            "LessThanOrEqual",
            "GreaterThan",
            "GreaterThanOrEqual",
            "Equal",
            "NotEqual",
        ]),
        default: "",
        summary: "How an endpoint's number has to compare with the value.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "value",
        shape: Shape::Number {
            least: f64::NEG_INFINITY,
            most: f64::INFINITY,
        },
        default: "0",
        summary: "What it is compared with.",
        ..ParameterKind::BASE
    },
];

#[derive(Clone, Copy, Debug)]
enum Operator {
    LessThan,
    LessThanOrEqual,
    GreaterThan,
    GreaterThanOrEqual,
    Equal,
    NotEqual,
}

impl Operator {
    #[expect(
        clippy::float_cmp,
        reason = "the configuration asks for equality, and the numbers are as the engine printed them"
    )]
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::LessThan => value < threshold,
            Self::LessThanOrEqual => value <= threshold,
            Self::GreaterThan => value > threshold,
            Self::GreaterThanOrEqual => value >= threshold,
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }
}

/// Compares the number of each endpoint with a threshold. One that is not finite counts as missing.
#[derive(Clone, Debug)]
pub struct EndpointAttributeFilter {
    attribute: EndpointAttribute,
    operator: Operator,
    threshold: f64,
    keep_missing: bool,
    fallback_on_empty: bool,
}

impl Filter for EndpointAttributeFilter {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        narrow(keep, self.fallback_on_empty, |row| {
            self.attribute
                .of(context, row)
                .map_or(self.keep_missing, |value| {
                    self.operator.holds(value, self.threshold)
                })
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    /// 1, 2, 3, no number, nothing; under `load` of the core metrics extractor.
    fn scene() -> Scene {
        let scene = Scene::new(5);
        for (endpoint, value) in scene
            .snapshot
            .endpoints
            .iter()
            .zip([1.0, 2.0, 3.0, f64::NAN])
        {
            endpoint.set_attributes(
                "core-metrics-extractor",
                true,
                &[(Arc::from("load"), value)],
            );
        }
        scene
    }

    fn parameters(threshold: &Value) -> Value {
        json!({"attribute": "load", "algorithm": {"type": "threshold", "threshold": threshold}})
    }

    fn kept(operator: &str, value: f64, more: &[(&str, Value)]) -> Vec<bool> {
        let mut parameters = parameters(&json!({"operator": operator, "value": value}));
        for (field, value) in more {
            parameters[field] = value.clone();
        }
        scene().kept(&built(&KIND, &parameters))
    }

    #[test]
    fn endpoints_stay_by_their_number() {
        for (operator, expected) in [
            ("LessThan", [true, false, false]),
            ("LessThanOrEqual", [true, true, false]),
            ("GreaterThan", [false, false, true]),
            ("GreaterThanOrEqual", [false, true, true]),
            ("Equal", [false, true, false]),
            ("NotEqual", [true, false, true]),
        ] {
            for (on_missing, missing) in [("Pass", true), ("Fail", false)] {
                let kept = kept(operator, 2.0, &[("onMissing", json!(on_missing))]);
                assert_eq!(kept[..3], expected, "{operator}");
                assert_eq!(kept[3..], [missing; 2], "{operator} {on_missing}");
            }
        }
        assert_eq!(
            kept("LessThan", 2.0, &[])[3..],
            [true; 2],
            "missing ones pass by default"
        );
    }

    #[test]
    fn where_none_is_left_all_stay_only_if_asked_for() {
        let fail = ("onMissing", json!("Fail"));
        assert_eq!(
            kept("GreaterThan", 9.0, std::slice::from_ref(&fail)),
            [false; 5]
        );
        let fallback = ("fallbackOnEmpty", json!(true));
        assert_eq!(
            kept("GreaterThan", 9.0, &[fail, fallback.clone()]),
            [true; 5]
        );
        // What lacks the number is left.
        assert_eq!(
            kept("GreaterThan", 9.0, &[fallback]),
            [false, false, false, true, true]
        );
    }

    #[test]
    fn another_producer_is_another_number() {
        let other = ("producer", json!("dcgm-extractor"));
        assert_eq!(
            kept("Equal", 2.0, &[other, ("onMissing", json!("Fail"))]),
            [false; 5]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let mut slashed = parameters(&json!({"operator": "Equal", "value": 1}));
        slashed["attribute"] = json!("a/b");
        for (parameters, error) in [
            (
                json!({"attribute": "load"}),
                "algorithm: required and missing",
            ),
            (
                json!({"attribute": "load", "algorithm": {"type": "threshold"}}),
                "algorithm.threshold: required and missing",
            ),
            (
                json!({"attribute": "load", "algorithm": {"type": "topK"}}),
                "algorithm.type: must be \"threshold\", not \"topK\"",
            ),
            (
                parameters(&json!({"value": 1})),
                "algorithm.threshold.operator: required and missing",
            ),
            (
                slashed,
                "attribute: holds a \"/\"; name the extractor in producer and its key here, not \"a/b\"",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
