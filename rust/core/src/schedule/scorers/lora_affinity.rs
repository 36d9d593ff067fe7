//! `lora-affinity-scorer`: prefer engines that have the model's adapter loaded, then those with room for it.

use crate::plugin::{Parts, PluginKind, Role};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "lora-affinity-scorer",
    roles: &[Role::Scorer],
    summary: "1 where the target model is a running adapter, 0.8 where there is room for another one, 0.6 where it waits, else 0.",
    build: |_| Ok(Parts::scorer(LoraAffinityScorer)),
    ..PluginKind::BASE
};

/// 1 running, 0.8 room (`running + waiting < max_lora`), 0.6 waiting, 0 otherwise; an engine that reports no adapters has no room.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoraAffinityScorer;

impl Scorer for LoraAffinityScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let model = &*context.request.target_model;
        for (score, position) in scores.iter_mut().zip(&context.candidates.position) {
            let Some(endpoint) = context.snapshot.endpoints.get(*position as usize) else {
                continue;
            };
            let metrics = endpoint.metrics.load();
            let loaded = metrics.running_adapters.len() + metrics.waiting_adapters.len();
            *score = if metrics
                .running_adapters
                .iter()
                .any(|adapter| **adapter == *model)
            {
                1.0
            } else if loaded < metrics.max_adapters.unwrap_or(0) as usize {
                0.8
            } else if metrics
                .waiting_adapters
                .iter()
                .any(|adapter| **adapter == *model)
            {
                0.6
            } else {
                0.0
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::EngineMetrics;
    use crate::schedule::testing::Scene;

    fn adapters(running: &[&str], waiting: &[&str], most: Option<u32>) -> EngineMetrics {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        EngineMetrics {
            running_adapters: names(running),
            waiting_adapters: names(waiting),
            max_adapters: most,
            ..EngineMetrics::default()
        }
    }

    #[test]
    fn running_then_room_then_waiting_then_nothing() {
        let mut scene = Scene::new(6);
        scene.request.target_model = "sql".into();
        scene.set_metrics(0, adapters(&["sql", "chat"], &[], Some(2)));
        scene.set_metrics(1, adapters(&["chat"], &[], Some(2)));
        scene.set_metrics(2, adapters(&["chat"], &["sql"], Some(2)));
        scene.set_metrics(3, adapters(&["chat", "code"], &[], Some(2)));
        // With room, waiting does not matter.
        scene.set_metrics(4, adapters(&["chat"], &["sql"], Some(3)));
        assert_eq!(
            scene.scores(&LoraAffinityScorer),
            [1.0, 0.8, 0.6, 0.0, 0.8, 0.0]
        );
    }

    #[test]
    fn missing_metrics_score_nothing() {
        let mut scene = Scene::new(1);
        assert_eq!(scene.scores(&LoraAffinityScorer), [0.0]);
        scene.candidates.position = vec![9];
        assert_eq!(
            scene.scores(&LoraAffinityScorer),
            [0.0],
            "a row without an endpoint"
        );
    }
}
