//! What is looked up in the exact prefix index and what it holds: `kv_cache_index_*` of the reference (8.4), and its bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::buckets;
use super::family::{Family, FamilySource, Kind, Sample, SampleValue};
use super::number::Histogram;
use crate::pool::Snapshot;
use crate::prefix::exact::ExactUsage;

/// The counters of the exact prefix index.
#[derive(Debug)]
pub struct ExactStats {
    lookups: AtomicU64,
    hits: AtomicU64,
    most_hits: AtomicU64,
    latency: Histogram,
    usage: Mutex<ExactUsage>,
    /// By reason, of which there are a handful.
    fallbacks: Mutex<Vec<(&'static str, u64)>>,
}

impl Default for ExactStats {
    fn default() -> Self {
        Self {
            lookups: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            most_hits: AtomicU64::new(0),
            latency: Histogram::new(buckets::DEFAULT),
            usage: Mutex::default(),
            fallbacks: Mutex::default(),
        }
    }
}

impl ExactStats {
    /// A prompt was looked up; `most_blocks`: held by the endpoint that holds most of it.
    pub fn looked_up(&self, took: Duration, most_blocks: u32) {
        self.lookups.fetch_add(1, Relaxed);
        self.latency.observe(took.as_secs_f64());
        if most_blocks > 0 {
            self.hits.fetch_add(1, Relaxed);
            self.most_hits.fetch_add(u64::from(most_blocks), Relaxed);
        }
    }

    /// A prompt could not be looked up.
    pub fn fell_back(&self, reason: &'static str) {
        let mut fallbacks = self.fallbacks.lock();
        match fallbacks.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => fallbacks.push((reason, 1)),
        }
    }

    /// How full the index is now.
    pub fn set_usage(&self, usage: ExactUsage) {
        *self.usage.lock() = usage;
    }
}

impl FamilySource for ExactStats {
    fn families(&self, _snapshot: &Snapshot) -> Vec<Family> {
        let usage = *self.usage.lock();
        let one = |name, kind, help, value: u64| Family {
            name,
            kind,
            help,
            label_names: &[],
            buckets: &[],
            samples: vec![Sample {
                labels: Vec::new(),
                value: SampleValue::Number(value as f64),
            }],
        };
        let counter = |name, help, value| one(name, Kind::Counter, help, value);
        let gauge = |name, help, value: usize| one(name, Kind::Gauge, help, value as u64);
        let mut fallbacks = self.fallbacks.lock().clone();
        fallbacks.sort_unstable();
        vec![
            counter(
                "kv_cache_index_admissions_total",
                "[ALPHA] Pairs of a block and an endpoint that were added to the exact prefix index.",
                usage.admitted_pairs,
            ),
            counter(
                "kv_cache_index_evictions_total",
                "[ALPHA] Pairs of a block and an endpoint that left the exact prefix index.",
                usage.admitted_pairs - usage.pairs as u64,
            ),
            counter(
                "kv_cache_index_lookup_requests_total",
                "[ALPHA] Prompts that were looked up in the exact prefix index.",
                self.lookups.load(Relaxed),
            ),
            counter(
                "kv_cache_index_lookup_hits_total",
                "[ALPHA] Those of them of which some endpoint held the first block.",
                self.hits.load(Relaxed),
            ),
            counter(
                "kv_cache_index_max_pod_hit_count_total",
                "[ALPHA] Blocks held by the endpoint that held most of a prompt, summed over prompts.",
                self.most_hits.load(Relaxed),
            ),
            Family {
                name: "kv_cache_index_lookup_latency_seconds",
                kind: Kind::Histogram,
                help: "[ALPHA] Time of a look-up in seconds.",
                label_names: &[],
                buckets: buckets::DEFAULT,
                samples: self
                    .latency
                    .observed()
                    .map(|value| Sample {
                        labels: Vec::new(),
                        value,
                    })
                    .into_iter()
                    .collect(),
            },
            gauge(
                "kv_cache_index_bytes",
                "[ALPHA] Bytes that the exact prefix index takes.",
                usage.bytes,
            ),
            gauge(
                "kv_cache_index_budget_bytes",
                "[ALPHA] Bytes that the exact prefix index may take.",
                usage.budget_bytes,
            ),
            gauge(
                "kv_cache_index_pairs",
                "[ALPHA] Pairs of a block and an endpoint that holds it.",
                usage.pairs,
            ),
            gauge(
                "kv_cache_index_blocks",
                "[ALPHA] Distinct blocks.",
                usage.blocks,
            ),
            counter(
                "kv_cache_index_budget_evictions_total",
                "[ALPHA] Pairs that had to leave because the budget was full.",
                usage.evicted_pairs,
            ),
            Family {
                name: "prefix_fallbacks_total",
                kind: Kind::Counter,
                help: "[ALPHA] Prompts that were matched against what was sent before instead of what engines say that they hold, by reason.",
                label_names: &["reason"],
                buckets: &[],
                samples: fallbacks
                    .into_iter()
                    .map(|(reason, count)| Sample {
                        labels: vec![reason.into()],
                        value: SampleValue::Number(count as f64),
                    })
                    .collect(),
            },
        ]
    }
}
