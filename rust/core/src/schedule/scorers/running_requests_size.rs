//! `running-requests-size-scorer`: the fewer requests the engine runs, the better.

use super::relative::lower_is_better;
use crate::plugin::{Parts, PluginKind, Role};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "running-requests-size-scorer",
    roles: &[Role::Scorer],
    summary: "Requests running in the engine, from 1 for the fewest among the candidates to 0 for the most; all 1 when equal.",
    build: |_| Ok(Parts::scorer(RunningRequestsSizeScorer)),
    ..PluginKind::BASE
};

/// `(most − own) / (most − fewest)` over the candidates; all 1 when equal. Unknown numbers count as none.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunningRequestsSizeScorer;

impl Scorer for RunningRequestsSizeScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        lower_is_better(&context.candidates.running, scores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    #[test]
    fn the_fewest_running_requests_score_best() {
        let mut scene = Scene::new(3);
        scene.candidates.running = vec![8.0, 2.0, 4.0];
        let scores = scene.scores(&RunningRequestsSizeScorer);
        assert_eq!((scores[0], scores[1]), (0.0, 1.0));
        assert!((scores[2] - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_numbers_one_endpoint_and_missing_metrics_score_one() {
        assert_eq!(Scene::new(2).scores(&RunningRequestsSizeScorer), [1.0; 2]);
        assert_eq!(Scene::new(1).scores(&RunningRequestsSizeScorer), [1.0]);
    }
}
