//! Candidates for the tests of plugins.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Candidates, Context, PrefixColumn, Prompt, RequestFacts, Scorer};
use crate::Nanos;
use crate::learn::Curve;
use crate::plugin::Parts;
use crate::pool::{EndpointIdentity, EngineMetrics, Pool, Snapshot};

/// Everything that a context points to.
pub(crate) struct Scene {
    pub(crate) request: RequestFacts,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) candidates: Candidates,
    pub(crate) now: Nanos,
    pub(crate) random: RefCell<fastrand::Rng>,
}

impl Scene {
    /// `count` idle endpoints, 10.0.0.1 to 10.0.0.`count`, port 8000, and a prompt of 1,000 tokens in 16 blocks of 64.
    pub(crate) fn new(count: u8) -> Self {
        Self::with_labels(&vec![&[][..]; usize::from(count)])
    }

    /// One endpoint for each list of labels.
    pub(crate) fn with_labels(labels: &[&[(&str, &str)]]) -> Self {
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
            curve: Curve::START,
            position: (0..count as u32).collect(),
            waiting: vec![0.0; count],
            running: vec![0.0; count],
            kv_usage: vec![0.0; count],
            inflight_requests: vec![0.0; count],
            inflight_tokens: vec![0.0; count],
            prefill_tokens: vec![0.0; count],
            pending_prefills: vec![0.0; count],
            prefill_gap: vec![0.0; count],
            prefill_factor: vec![1.0; count],
            decode_factor: vec![1.0; count],
            slots: vec![f64::INFINITY; count],
            sent_since_page: vec![0.0; count],
            kv_tokens: vec![0.0; count],
            page_at: vec![Nanos(0); count],
            prefixes: vec![PrefixColumn {
                producer: "approx-prefix-cache-producer".into(),
                total_blocks: 16,
                block_tokens: 64,
                blocks: vec![0; count],
                held: Vec::new(),
            }],
            media_matched: Vec::new(),
        };
        let request = RequestFacts {
            prompt_tokens: 1000,
            ..RequestFacts::default()
        };
        Self {
            request,
            snapshot: pool.snapshot(),
            candidates,
            now: Nanos(0),
            random: RefCell::new(fastrand::Rng::with_seed(1)),
        }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            request: &self.request,
            snapshot: &self.snapshot,
            candidates: &self.candidates,
            prompt: Prompt::default(),
            now: self.now,
            random: &self.random,
        }
    }

    /// Blocks held of the prompt, by row.
    pub(crate) fn set_matched(&mut self, blocks: Vec<u32>) {
        self.candidates.prefixes[0].blocks = blocks;
    }

    /// Adds a second producer, who knows better.
    pub(crate) fn add_producer(&mut self, name: &str, blocks: Vec<u32>) {
        self.candidates.prefixes.push(PrefixColumn {
            producer: name.into(),
            total_blocks: 32,
            block_tokens: 32,
            blocks,
            held: Vec::new(),
        });
    }

    /// Adds a request header.
    pub(crate) fn header(&mut self, name: &'static str, value: &str) {
        self.request.headers.push(crate::exchange::Header {
            key: bytes::Bytes::from_static(name.as_bytes()),
            value: bytes::Bytes::copy_from_slice(value.as_bytes()),
        });
    }

    pub(crate) fn set_metrics(&self, row: usize, metrics: EngineMetrics) {
        self.snapshot.endpoints[row]
            .metrics
            .store(Arc::new(metrics));
    }

    pub(crate) fn scores(&self, rating: &dyn Scorer) -> Vec<f64> {
        let mut scores = vec![0.0; self.candidates.len()];
        rating.score(&self.context(), &mut scores);
        scores
    }

    /// What a filter keeps.
    pub(crate) fn kept(&self, plugin: &Parts) -> Vec<bool> {
        let mut keep = vec![true; self.candidates.len()];
        plugin
            .filter
            .as_ref()
            .expect("a filter")
            .filter(&self.context(), &mut keep);
        keep
    }

    /// What a scorer gives.
    pub(crate) fn rated(&self, plugin: &Parts) -> Vec<f64> {
        self.scores(plugin.scorer.as_deref().expect("a scorer"))
    }
}
