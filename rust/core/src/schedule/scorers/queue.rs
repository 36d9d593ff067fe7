//! `queue-scorer`: the shorter the engine's queue, the better.

use super::relative::lower_is_better;
use crate::plugin::{Parts, PluginKind, Role};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "queue-scorer",
    roles: &[Role::Scorer],
    summary: "Requests waiting in the engine, from 1 for the shortest queue among the candidates to 0 for the longest; all 1 when equal.",
    build: |_| Ok(Parts::scorer(QueueScorer)),
    ..PluginKind::BASE
};

/// `(longest − own) / (longest − shortest)` over the candidates; all 1 when equal. Unknown queues count as empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueScorer;

impl Scorer for QueueScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        lower_is_better(&context.candidates.waiting, scores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    #[test]
    fn the_shortest_queue_scores_best() {
        let mut scene = Scene::new(3);
        scene.candidates.waiting = vec![10.0, 5.0, 0.0];
        assert_eq!(scene.scores(&QueueScorer), [0.0, 0.5, 1.0]);
    }

    #[test]
    fn equal_queues_one_endpoint_and_missing_metrics_score_one() {
        assert_eq!(Scene::new(3).scores(&QueueScorer), [1.0; 3]);
        assert_eq!(Scene::new(1).scores(&QueueScorer), [1.0]);
    }
}
