//! What prefix producers found: `prefix_indexer_*` of the reference (8.4), one series a producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::buckets;
use super::export::PLUGIN;
use super::family::{Family, Kind, Sample, SampleValue};
use super::number::Histogram;

/// The counters of one producer.
#[derive(Debug)]
pub struct PrefixStats {
    /// Name and type of the plugin.
    labels: [Arc<str>; 2],
    entries: AtomicU64,
    hit_ratio: Histogram,
    hit_bytes: Histogram,
}

impl PrefixStats {
    /// All zero.
    pub fn new(plugin_name: &Arc<str>, plugin_type: &Arc<str>) -> Self {
        Self {
            labels: [Arc::clone(plugin_name), Arc::clone(plugin_type)],
            entries: AtomicU64::new(0),
            hit_ratio: Histogram::new(buckets::RATIO),
            hit_bytes: Histogram::new(buckets::HIT_BYTES),
        }
    }

    pub(super) fn is_of(&self, plugin_name: &str, plugin_type: &str) -> bool {
        *self.labels[0] == *plugin_name && *self.labels[1] == *plugin_type
    }

    /// Entries in the producer's index now.
    pub fn set_entries(&self, entries: u64) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// What the chosen endpoint held of a prompt: the share of its blocks (0 to 1) and their bytes.
    pub fn hit(&self, ratio: f64, bytes: u64) {
        self.hit_ratio.observe(ratio);
        self.hit_bytes.observe(bytes as f64);
    }

    fn labelled(&self, value: SampleValue) -> Sample {
        Sample {
            labels: self.labels.to_vec(),
            value,
        }
    }
}

pub(super) fn families(producers: &[Arc<PrefixStats>]) -> [Family; 3] {
    let histogram = |name, help, buckets, select: fn(&PrefixStats) -> &Histogram| Family {
        name,
        kind: Kind::Histogram,
        help,
        label_names: PLUGIN,
        buckets,
        samples: producers
            .iter()
            .filter_map(|stats| Some(stats.labelled(select(stats).observed()?)))
            .collect(),
    };
    [
        Family {
            name: "prefix_indexer_size",
            kind: Kind::Gauge,
            help: "[ALPHA] Entries in the prefix index.",
            label_names: PLUGIN,
            buckets: &[],
            samples: producers
                .iter()
                .map(|stats| {
                    let entries = stats.entries.load(Ordering::Relaxed);
                    stats.labelled(SampleValue::Number(entries as f64))
                })
                .collect(),
        },
        histogram(
            "prefix_indexer_hit_ratio",
            "[ALPHA] Share of a prompt's blocks that the chosen endpoint held.",
            buckets::RATIO,
            |stats| &stats.hit_ratio,
        ),
        histogram(
            "prefix_indexer_hit_bytes",
            "[ALPHA] Bytes of a prompt that the chosen endpoint held.",
            buckets::HIT_BYTES,
            |stats| &stats.hit_bytes,
        ),
    ]
}
