//! `probabilistic-admitter`: refuses sheddable requests, the more often the more loaded the candidates are.

use std::sync::Arc;

use crate::control::Admitter;
use crate::plugin::{ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape};
use crate::schedule::Context;

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "probabilistic-admitter",
    roles: &[Role::Admitter],
    summary: "Refuses requests of negative priority with probability min(saturation^power · k, 1); saturation is the mean over the candidates of max(waiting / queueDepthThreshold, KV usage / kvCacheUtilThreshold).",
    parameters: &[
        ParameterKind {
            name: "queueDepthThreshold",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "5",
            unit: "requests",
            summary: "Waiting requests that count as saturation 1.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "kvCacheUtilThreshold",
            shape: POSITIVE,
            default: "0.8",
            summary: "KV cache usage that counts as saturation 1; greater than 0.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "power",
            shape: POSITIVE,
            default: "5",
            summary: "How sharply refusals set in; greater than 0.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "k",
            shape: POSITIVE,
            default: "300",
            summary: "Factor on the powered saturation; greater than 0.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        Ok(Parts {
            admitter: Some(Arc::new(ProbabilisticAdmitter {
                queue_depth_threshold: parameters.integer("queueDepthThreshold") as f64,
                kv_cache_util_threshold: positive(parameters, "kvCacheUtilThreshold")?,
                power: positive(parameters, "power")?,
                k: positive(parameters, "k")?,
            })),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

/// A shape cannot exclude its bound; `positive` does.
const POSITIVE: Shape = Shape::Number {
    least: 0.0,
    most: f64::INFINITY,
};

fn positive(parameters: &Parameters<'_>, field: &str) -> Result<f64, ParameterError> {
    let number = parameters.number(field);
    if number > 0.0 {
        Ok(number)
    } else {
        Err(ParameterError::new(
            field,
            format!("must be greater than 0, not {number}"),
        ))
    }
}

/// See [`KIND`].
#[derive(Debug)]
struct ProbabilisticAdmitter {
    queue_depth_threshold: f64,
    kv_cache_util_threshold: f64,
    power: f64,
    k: f64,
}

impl ProbabilisticAdmitter {
    /// Mean over the candidates; a metric that is no number counts as 0, as one that is not known.
    fn saturation(&self, context: &Context<'_>) -> f64 {
        let candidates = context.candidates;
        let rows = candidates.waiting.iter().zip(&candidates.kv_usage);
        let sum: f64 = rows
            .map(|(waiting, usage)| {
                (waiting / self.queue_depth_threshold)
                    .max(usage / self.kv_cache_util_threshold)
                    .max(0.0)
            })
            .sum();
        sum / candidates.len() as f64
    }
}

impl Admitter for ProbabilisticAdmitter {
    fn admit(&self, context: &Context<'_>) -> Result<(), Box<str>> {
        if context.request.priority >= 0 || context.candidates.is_empty() {
            return Ok(());
        }
        let saturation = self.saturation(context);
        let probability = (saturation.powf(self.power) * self.k).min(1.0);
        if context.random.borrow_mut().f64() >= probability {
            return Ok(());
        }
        // The reference wraps its own error in another, and the client reads both.
        Err(format!(
            "inference error: ResourceExhausted - probabilistic-admitter: rejected, saturation={saturation:.3} prob={probability:.2}"
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn scene(load: &[(f64, f64)]) -> Scene {
        let mut scene = Scene::new(load.len() as u8);
        scene.request.priority = -1;
        scene.candidates.waiting = load.iter().map(|(waiting, _)| *waiting).collect();
        scene.candidates.kv_usage = load.iter().map(|(_, usage)| *usage).collect();
        scene
    }

    fn admitted(scene: &Scene, parameters: &Value) -> Result<(), Box<str>> {
        let parts = built(&KIND, parameters);
        parts.admitter.expect("an admitter").admit(&scene.context())
    }

    /// Share of 20,000 requests that are refused.
    fn refused_share(load: &[(f64, f64)], parameters: &Value) -> f64 {
        let scene = scene(load);
        let admitter = built(&KIND, parameters).admitter.expect("an admitter");
        let refused = (0..20_000)
            .filter(|_| admitter.admit(&scene.context()).is_err())
            .count();
        refused as f64 / 20_000.0
    }

    #[test]
    fn sheddable_requests_are_refused_with_the_formulas_probability() {
        let plain = json!({});
        for (load, parameters, share) in [
            // 0.2^5 · 300 = 0.096; the worse of the two ratios counts.
            (&[(1.0, 0.0)][..], &plain, 0.096),
            (&[(1.0, 0.04)], &plain, 0.096),
            (&[(0.0, 0.16)], &plain, 0.096),
            // The mean of 0.4 and 0.
            (&[(2.0, 0.0), (0.0, 0.0)], &plain, 0.096),
            (&[(0.0, 0.0)], &plain, 0.0),
            (&[(5.0, 0.0)], &plain, 1.0),
            (&[(1.0, 0.0)], &json!({"power": 1, "k": 2}), 0.4),
            (
                &[(1.0, 0.0)],
                &json!({"queueDepthThreshold": 2, "power": 1, "k": 1}),
                0.5,
            ),
            (
                &[(0.0, 0.3)],
                &json!({"kvCacheUtilThreshold": 0.6, "power": 1, "k": 1}),
                0.5,
            ),
            // No number is no load.
            (&[(f64::NAN, f64::NAN), (2.0, f64::NAN)], &plain, 0.096),
        ] {
            let measured = refused_share(load, parameters);
            assert!(
                (measured - share).abs() < 0.01,
                "{load:?} {parameters}: {measured}"
            );
        }
    }

    #[test]
    fn other_requests_and_pools_without_candidates_are_let_in() {
        let mut overloaded = scene(&[(100.0, 1.0)]);
        assert_eq!(
            admitted(&overloaded, &json!({}))
                .expect_err("saturated")
                .as_ref(),
            "inference error: ResourceExhausted - probabilistic-admitter: rejected, saturation=20.000 prob=1.00"
        );
        for priority in [0, 1] {
            overloaded.request.priority = priority;
            assert_eq!(admitted(&overloaded, &json!({})), Ok(()));
        }
        assert_eq!(admitted(&scene(&[]), &json!({})), Ok(()));
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for (parameters, told) in [
            (
                json!({"queueDepthThreshold": 0}),
                "queueDepthThreshold: must be a whole number of at least 1, not 0",
            ),
            (
                json!({"kvCacheUtilThreshold": 0}),
                "kvCacheUtilThreshold: must be greater than 0, not 0",
            ),
            (
                json!({"power": -1}),
                "power: must be a number of at least 0, not -1",
            ),
            (json!({"k": 0.0}), "k: must be greater than 0, not 0"),
        ] {
            assert_eq!(refused(&KIND, &parameters), told);
        }
    }
}
