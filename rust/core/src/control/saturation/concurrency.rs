//! `concurrency-detector`: saturation by the requests and tokens in flight through this picker.

use std::sync::Arc;

use crate::control::SaturationDetector;
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::filters::narrow;
use crate::schedule::{Context, Filter};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "concurrency-detector",
    roles: &[Role::SaturationDetector, Role::Filter],
    summary: "Requests in flight over maxConcurrency for each endpoint, tokens over maxTokenConcurrency, or (hybrid) the mean over the endpoints of the larger ratio. As a filter: only endpoints below the limit times (1 + headroom), none where none is.",
    parameters: &[
        ParameterKind {
            name: "maxConcurrency",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "100",
            unit: "requests",
            summary: "Requests in flight at which an endpoint is saturated.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "maxTokenConcurrency",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "1000000",
            unit: "tokens",
            summary: "Tokens in flight at which an endpoint is saturated.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "concurrencyMode",
            shape: Shape::Choice(&["requests", "tokens", "hybrid"]),
            default: "\"requests\"",
            summary: "What is counted: requests, tokens, or both (hybrid).",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "headroom",
            shape: Shape::Number {
                least: 0.0,
                most: f64::INFINITY,
            },
            default: "0",
            summary: "Share of the limits by which the filter lets an endpoint exceed them: 0.2 for 20 %.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "inFlightLoadProducerName",
            shape: Shape::ProducerName(Data::InFlightLoad),
            summary: "Whose count of the load is compared.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::InFlightLoad],
    build: |parameters| {
        let detector = Arc::new(ConcurrencyDetector {
            requests: parameters.number("maxConcurrency"),
            tokens: parameters.number("maxTokenConcurrency"),
            mode: match parameters.text("concurrencyMode") {
                "tokens" => Mode::Tokens,
                "hybrid" => Mode::Hybrid,
                _ => Mode::Requests,
            },
            headroom: parameters.number("headroom"),
        });
        let filter: Arc<dyn Filter> = Arc::clone(&detector) as _;
        Ok(Parts::default()
            .with_filter(filter)
            .with_saturation(detector))
    },
    ..PluginKind::BASE
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests in flight.
    Requests,
    /// Tokens in flight.
    Tokens,
    /// Both; the scarcer one counts.
    Hybrid,
}

/// Compares the load of each endpoint with limits.
#[derive(Clone, Copy, Debug)]
pub struct ConcurrencyDetector {
    /// Requests for each endpoint, positive.
    pub requests: f64,
    /// Tokens for each endpoint, positive.
    pub tokens: f64,
    /// What is counted.
    pub mode: Mode,
    /// At least 0.
    pub headroom: f64,
}

impl ConcurrencyDetector {
    /// Share of its limits that an endpoint has taken. All limits are the same, so that the mean of the shares is the sum of the loads over that of the limits.
    fn of_endpoint(self, context: &Context<'_>, row: usize) -> f64 {
        let requests = context.candidates.inflight_requests[row] / self.requests;
        let tokens = context.candidates.inflight_tokens[row] / self.tokens;
        match self.mode {
            Mode::Requests => requests,
            Mode::Tokens => tokens,
            Mode::Hybrid => requests.max(tokens),
        }
    }

    /// A limit with its headroom; whole, as in the reference.
    fn with_headroom(self, limit: f64) -> f64 {
        (limit * (1.0 + self.headroom)).floor()
    }
}

impl SaturationDetector for ConcurrencyDetector {
    fn saturation(&self, context: &Context<'_>) -> f64 {
        super::mean(context, |row| self.of_endpoint(context, row))
    }
}

impl Filter for ConcurrencyDetector {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        let requests = self.with_headroom(self.requests);
        let tokens = self.with_headroom(self.tokens);
        let candidates = context.candidates;
        narrow(keep, false, |row| {
            (self.mode == Mode::Tokens || candidates.inflight_requests[row] < requests)
                && (self.mode == Mode::Requests || candidates.inflight_tokens[row] < tokens)
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    /// One endpoint for each (requests, tokens).
    fn scene(load: &[(f64, f64)]) -> Scene {
        let mut scene = Scene::new(load.len() as u8);
        scene.candidates.inflight_requests = load.iter().map(|(requests, _)| *requests).collect();
        scene.candidates.inflight_tokens = load.iter().map(|(_, tokens)| *tokens).collect();
        scene
    }

    fn limits(mode: &str, headroom: f64) -> Value {
        json!({"maxConcurrency": 10, "maxTokenConcurrency": 1000, "concurrencyMode": mode, "headroom": headroom})
    }

    #[test]
    fn saturation_is_the_share_of_the_pools_capacity() {
        let load = scene(&[(5.0, 0.0), (0.0, 1000.0), (20.0, 500.0)]);
        for (scene, mode, expected) in [
            (&load, "requests", 25.0 / 30.0),
            (&load, "tokens", 0.5),
            (&load, "hybrid", (0.5 + 1.0 + 2.0) / 3.0),
            (&scene(&[(10.0, 0.0)]), "requests", 1.0),
            (&scene(&[(0.0, 0.0)]), "hybrid", 0.0),
            (&scene(&[]), "requests", 1.0),
            (&scene(&[]), "hybrid", 1.0),
        ] {
            // Headroom is the filter's.
            for headroom in [0.0, 1.0] {
                let detector = built(&KIND, &limits(mode, headroom))
                    .saturation
                    .expect("a detector");
                let found = detector.saturation(&scene.context());
                assert!((found - expected).abs() < 1e-12, "{mode} {found}");
            }
        }
        let found = built(&KIND, &json!({}))
            .saturation
            .expect("a detector")
            .saturation(&scene(&[(50.0, 9e9)]).context());
        assert!((found - 0.5).abs() < 1e-12, "{found}");
    }

    #[test]
    fn the_filter_keeps_what_is_below_the_limits_and_may_keep_nothing() {
        let load = scene(&[(9.0, 999.0), (10.0, 0.0), (11.0, 1000.0), (0.0, 1050.0)]);
        for (mode, headroom, expected) in [
            ("requests", 0.0, [true, false, false, true]),
            ("tokens", 0.0, [true, true, false, false]),
            ("hybrid", 0.0, [true, false, false, false]),
            // 11.5 requests are 11.
            ("requests", 0.15, [true, true, false, true]),
            ("tokens", 0.05, [true, true, true, false]),
            ("hybrid", 0.2, [true, true, true, true]),
        ] {
            assert_eq!(
                load.kept(&built(&KIND, &limits(mode, headroom))),
                expected,
                "{mode} {headroom}"
            );
        }
        let full = scene(&[(100.0, 0.0), (f64::NAN, 0.0)]);
        assert_eq!(full.kept(&built(&KIND, &json!({}))), [false; 2]);
    }

    #[test]
    fn limits_that_cannot_be_meant_are_refused() {
        for (parameters, error) in [
            (
                json!({"maxConcurrency": 0}),
                "maxConcurrency: must be a whole number of at least 1, not 0",
            ),
            (
                json!({"maxTokenConcurrency": -1}),
                "maxTokenConcurrency: must be a whole number of at least 1, not -1",
            ),
            (
                json!({"headroom": -1}),
                "headroom: must be a number of at least 0, not -1",
            ),
            (
                json!({"concurrencyMode": "both"}),
                "concurrencyMode: must be one of \"requests\", \"tokens\", \"hybrid\", not \"both\"",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
