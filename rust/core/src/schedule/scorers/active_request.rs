//! `active-request-scorer`: the fewer requests are in flight through this picker, the better.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "active-request-scorer",
    roles: &[Role::Scorer],
    summary: "1 for an endpoint with at most idleThreshold requests in flight, else (most − own) / most · maxBusyScore, where most is the largest number among the candidates.",
    parameters: &[
        ParameterKind {
            name: "idleThreshold",
            shape: Shape::Integer {
                least: i64::MIN,
                most: i64::MAX,
            },
            default: "0",
            unit: "requests",
            summary: "Requests in flight up to which an endpoint is idle; less than 0 counts as 0.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "maxBusyScore",
            shape: Shape::Number {
                least: f64::NEG_INFINITY,
                most: f64::INFINITY,
            },
            default: "1",
            summary: "Upper bound of the scores of endpoints that are not idle, 0 to 1; anything else counts as 1.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "inFlightLoadProducerName",
            shape: Shape::ProducerName(Data::InFlightLoad),
            summary: "Whose count of requests is scored.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "requestTimeout",
            summary: "Ignored.",
            deprecated: Some("nothing (a request counts until it ends)"),
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::InFlightLoad],
    build: |parameters| {
        // Both as the reference does with values that it cannot use.
        let busy = parameters.number("maxBusyScore");
        Ok(Parts::scorer(ActiveRequestScorer {
            idle_threshold: parameters.number("idleThreshold").max(0.0),
            max_busy_score: if (0.0..=1.0).contains(&busy) {
                busy
            } else {
                1.0
            },
        }))
    },
    ..PluginKind::BASE
};

/// 1 up to the threshold, `(most − own) / most · max_busy_score` above it.
#[derive(Clone, Copy, Debug)]
pub struct ActiveRequestScorer {
    /// Requests, at least 0.
    pub idle_threshold: f64,
    /// 0 to 1.
    pub max_busy_score: f64,
}

impl Scorer for ActiveRequestScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let counts = &context.candidates.inflight_requests;
        let most = counts.iter().copied().fold(0.0, f64::max);
        for (score, count) in scores.iter_mut().zip(counts) {
            *score = if *count <= self.idle_threshold {
                1.0
            } else {
                // Above the threshold `most` is positive.
                (most - count) / most * self.max_busy_score
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    #[test]
    fn idle_endpoints_score_one_and_busy_ones_by_their_requests() {
        let mut scene = Scene::new(4);
        scene.candidates.inflight_requests = vec![0.0, 1.0, 3.0, 4.0];
        for (parameters, expected) in [
            (json!({}), [1.0, 0.75, 0.25, 0.0]),
            (json!({"maxBusyScore": 0.5}), [1.0, 0.375, 0.125, 0.0]),
            (json!({"maxBusyScore": 0}), [1.0, 0.0, 0.0, 0.0]),
            (
                json!({"idleThreshold": 1, "maxBusyScore": 0.5}),
                [1.0, 1.0, 0.125, 0.0],
            ),
            (json!({"idleThreshold": 4}), [1.0; 4]),
            // Not usable: the defaults.
            (
                json!({"idleThreshold": -1, "maxBusyScore": 1.5}),
                [1.0, 0.75, 0.25, 0.0],
            ),
            (
                json!({"maxBusyScore": -0.5, "requestTimeout": "2m"}),
                [1.0, 0.75, 0.25, 0.0],
            ),
        ] {
            assert_eq!(
                scene.rated(&built(&KIND, &parameters)),
                expected,
                "{parameters}"
            );
        }
        assert_eq!(
            refused(&KIND, &json!({"idleThreshold": 0.5})),
            "idleThreshold: must be a whole number, not 0.5"
        );
    }

    #[test]
    fn one_endpoint_equal_ones_and_no_number() {
        let plugin = built(&KIND, &json!({}));
        assert_eq!(Scene::new(1).rated(&plugin), [1.0]);
        let mut scene = Scene::new(2);
        scene.candidates.inflight_requests = vec![5.0, 5.0];
        assert_eq!(scene.rated(&plugin), [0.0; 2]);
        scene.candidates.inflight_requests = vec![f64::NAN, 5.0];
        let scores = scene.rated(&plugin);
        assert!(scores[0].is_nan(), "the profile counts it as 0");
        assert_eq!(scores[1..], [0.0]);
    }
}
