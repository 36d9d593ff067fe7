//! Candidates for the tests of plugins.

use std::sync::Arc;

use super::{Candidates, Context, RequestFacts, Scorer};
use crate::Nanos;
use crate::pool::{EndpointIdentity, EngineMetrics, Pool, Snapshot};

/// Everything that a context points to.
pub(super) struct Scene {
    pub(super) request: RequestFacts,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) candidates: Candidates,
}

impl Scene {
    /// `count` idle endpoints, 10.0.0.1 to 10.0.0.`count`, port 8000, and a prompt of 1,000 tokens in 16 blocks of 64.
    pub(super) fn new(count: u8) -> Self {
        Self::with_labels(&vec![&[][..]; usize::from(count)])
    }

    /// One endpoint for each list of labels.
    pub(super) fn with_labels(labels: &[&[(&str, &str)]]) -> Self {
        let pool = Pool::new();
        for (number, labels) in (1..).zip(labels) {
            pool.upsert(EndpointIdentity {
                namespace: "default".into(),
                name: format!("endpoint-{number:03}").into(),
                address: [10, 0, 0, number].into(),
                port: 8000,
                metrics_host: None,
                labels: labels
                    .iter()
                    .map(|&(key, value)| (key.into(), value.into()))
                    .collect(),
            });
        }
        let count = labels.len();
        let candidates = Candidates {
            position: (0..count as u32).collect(),
            waiting: vec![0.0; count],
            running: vec![0.0; count],
            kv_usage: vec![0.0; count],
            inflight_requests: vec![0.0; count],
            inflight_tokens: vec![0.0; count],
            prefill_tokens: vec![0.0; count],
            matched_blocks: vec![0; count],
        };
        let request = RequestFacts {
            prompt_tokens: 1000,
            total_blocks: 16,
            block_tokens: 64,
            ..RequestFacts::default()
        };
        Self {
            request,
            snapshot: pool.snapshot(),
            candidates,
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            request: &self.request,
            snapshot: &self.snapshot,
            candidates: &self.candidates,
            now: Nanos(0),
        }
    }

    pub(super) fn set_metrics(&self, row: usize, metrics: EngineMetrics) {
        self.snapshot.endpoints[row]
            .metrics
            .store(Arc::new(metrics));
    }

    pub(super) fn scores(&self, rating: &dyn Scorer) -> Vec<f64> {
        let mut scores = vec![0.0; self.candidates.len()];
        rating.score(&self.context(), &mut scores);
        scores
    }
}
