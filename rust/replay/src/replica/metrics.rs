//! What the replica's metrics page would say.

use super::{Replica, ReplicaMetrics};

impl Replica {
    /// The metrics page now, that is at the time last advanced to.
    pub fn metrics(&self) -> ReplicaMetrics {
        let mut metrics = self.counters.clone();
        metrics.waiting = self.waiting.len() as u32;
        metrics.running = self.running.len() as u32;
        let mut used = self.cache.total() - self.cache.free();
        if let Some(stage) = self.stage.as_ref().filter(|stage| stage.done > 0) {
            let tokens = self.running.len() as u64 * u64::from(stage.done);
            metrics.output_tokens += tokens;
            metrics.token_gaps += tokens;
            metrics.token_gap_seconds +=
                stage.token_age + self.running.len() as f64 * stage.pace.seconds(stage.done);
            // The step that runs has its blocks.
            used += self.blocks_missing(stage.done + 1);
        }
        metrics.kv_usage = f64::from(used) / f64::from(self.cache.total());
        if self.with_adapter > 0 {
            metrics.running_loras =
                self.adapters_of(self.running.iter().map(|running| running.slot));
            metrics.waiting_loras = self.adapters_of(self.waiting.iter().copied());
        }
        metrics
    }

    fn adapters_of(&self, slots: impl Iterator<Item = u32>) -> Vec<u16> {
        let mut loras: Vec<u16> = slots
            .map(|slot| self.sequences[slot as usize].lora)
            .filter(|&lora| lora > 0)
            .collect();
        loras.sort_unstable();
        loras.dedup();
        loras
    }
}
