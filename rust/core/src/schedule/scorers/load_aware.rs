//! `load-aware-scorer`: the shorter the engine's queue, the better, on a fixed scale.

use crate::plugin::{ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "load-aware-scorer",
    roles: &[Role::Scorer],
    summary: "0.5 for an empty queue in the engine, falling to 0 at threshold waiting requests.",
    parameters: &[ParameterKind {
        name: "threshold",
        shape: Shape::Integer {
            least: i64::MIN,
            most: i64::MAX,
        },
        default: "128",
        unit: "requests",
        summary: "Waiting requests at which the score is 0; 0 and less count as 128.",
        ..ParameterKind::BASE
    }],
    build: |parameters| {
        let threshold = parameters.number("threshold");
        Ok(Parts::scorer(LoadAwareScorer {
            // As the reference does.
            threshold: if threshold > 0.0 { threshold } else { 128.0 },
        }))
    },
    ..PluginKind::BASE
};

/// `0.5 · (1 − min(waiting, threshold) / threshold)`. An unknown queue counts as empty, what is no number as full.
#[derive(Clone, Copy, Debug)]
pub struct LoadAwareScorer {
    /// Requests, positive.
    pub threshold: f64,
}

impl Scorer for LoadAwareScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        for (score, waiting) in scores.iter_mut().zip(&context.candidates.waiting) {
            // `f64::min` passes over NaN.
            *score = 0.5 * (1.0 - waiting.min(self.threshold) / self.threshold);
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
    fn an_empty_queue_scores_half_and_a_full_one_nothing() {
        let mut scene = Scene::new(5);
        scene.candidates.waiting = vec![0.0, 64.0, 128.0, 1000.0, f64::NAN];
        for (parameters, expected) in [
            (json!({}), [0.5, 0.25, 0.0, 0.0, 0.0]),
            (json!({"threshold": 256}), [0.5, 0.375, 0.25, 0.0, 0.0]),
            // Not usable: the default.
            (json!({"threshold": 0}), [0.5, 0.25, 0.0, 0.0, 0.0]),
            (json!({"threshold": -5}), [0.5, 0.25, 0.0, 0.0, 0.0]),
        ] {
            assert_eq!(
                scene.rated(&built(&KIND, &parameters)),
                expected,
                "{parameters}"
            );
        }
        assert_eq!(
            refused(&KIND, &json!({"threshold": "128"})),
            "threshold: must be a whole number, not \"128\""
        );
    }

    #[test]
    fn missing_metrics_count_as_an_empty_queue() {
        assert_eq!(Scene::new(1).rated(&built(&KIND, &json!({}))), [0.5]);
    }
}
