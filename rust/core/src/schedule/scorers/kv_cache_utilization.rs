//! `kv-cache-utilization-scorer`: the emptier the KV cache, the better.

use crate::plugin::{Parts, PluginKind, Role};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "kv-cache-utilization-scorer",
    roles: &[Role::Scorer],
    summary: "1 minus the KV cache usage that the engine reports (0 to 1).",
    build: |_| Ok(Parts::scorer(KvCacheUtilizationScorer)),
    ..PluginKind::BASE
};

/// `1 − usage`; an unknown usage counts as 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvCacheUtilizationScorer;

impl Scorer for KvCacheUtilizationScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        for (score, usage) in scores.iter_mut().zip(&context.candidates.kv_usage) {
            *score = 1.0 - usage;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    #[test]
    fn the_emptiest_cache_scores_best() {
        let mut scene = Scene::new(4);
        scene.candidates.kv_usage = vec![0.75, 0.0, 1.0, f64::NAN];
        let scores = scene.scores(&KvCacheUtilizationScorer);
        assert_eq!(scores[..3], [0.25, 1.0, 0.0]);
        assert!(scores[3].is_nan(), "the profile counts it as 0");
    }

    #[test]
    fn missing_metrics_score_one() {
        assert_eq!(Scene::new(1).scores(&KvCacheUtilizationScorer), [1.0]);
    }
}
