//! What is counted about KV events (`endpoint-picker.md` 8.4): names, labels and meanings are the reference's, `kv_events_*` are ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::names::Kind;
use crate::stats::{Family, Kind as FamilyKind, Sample, SampleValue};

/// Operations of a socket that may fail, as label values.
const OPERATIONS: [&str; 8] = [
    "other",
    "connect",
    "bind",
    "subscribe",
    "recv",
    "monitor",
    "replay_connect",
    "replay",
];

/// Of one publisher: they go with it.
#[derive(Debug, Default)]
pub(super) struct PublisherStats {
    pub(super) messages: AtomicU64,
    pub(super) reconnections: AtomicU64,
    errors: [AtomicU64; OPERATIONS.len()],
    /// Messages that wait for a replay.
    pub(super) held: AtomicU64,
}

impl PublisherStats {
    pub(super) fn error(&self, operation: &str) {
        let known = OPERATIONS.iter().position(|known| *known == operation);
        add(&self.errors[known.unwrap_or(0)], 1);
    }
}

/// Of all publishers since the start.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) removals_suppressed: AtomicU64,
    pub(super) removals_forwarded: AtomicU64,
    stores_skipped: Mutex<BTreeMap<[&'static str; 2], u64>>,
    removals_skipped: Mutex<BTreeMap<[&'static str; 2], u64>>,
    pub(super) unknown_events: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) holes: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) resized: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) replays_asked: AtomicU64,
    pub(super) replays_complete: AtomicU64,
    pub(super) replays_incomplete: AtomicU64,
    pub(super) bad_sequences: AtomicU64,
    pub(super) bad_messages: AtomicU64,
    pub(super) bad_events: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

impl Stats {
    pub(super) fn store_skipped(&self, kind: Kind, reason: &'static str, events: u64) {
        *self
            .stores_skipped
            .lock()
            .entry([kind.label(), reason])
            .or_default() += events;
    }

    pub(super) fn removal_skipped(&self, kind: Kind, reason: &'static str) {
        *self
            .removals_skipped
            .lock()
            .entry([kind.label(), reason])
            .or_default() += 1;
    }

    #[expect(clippy::too_many_lines, reason = "a table of families")]
    pub(super) fn families(&self, publishers: &[(Arc<str>, &PublisherStats)]) -> Vec<Family> {
        let one = |name, help, counter: &AtomicU64| {
            family(
                name,
                FamilyKind::Counter,
                help,
                &[],
                vec![sample(&[], counter.load(Relaxed))],
            )
        };
        let labelled = |name, help, labels, pairs: Vec<(&'static str, &AtomicU64)>| {
            let samples = pairs.into_iter();
            let samples =
                samples.map(|(label, count)| sample(&[label.into()], count.load(Relaxed)));
            family(name, FamilyKind::Counter, help, labels, samples.collect())
        };
        let skipped = |name, help, counts: &Mutex<BTreeMap<[&'static str; 2], u64>>| {
            let counts = counts.lock().clone();
            let samples = counts
                .into_iter()
                .map(|(labels, count)| sample(&labels.map(Arc::from), count));
            family(
                name,
                FamilyKind::Counter,
                help,
                &["cache_kind", "reason"],
                samples.collect(),
            )
        };
        let gauge = |name, help, value| {
            family(name, FamilyKind::Gauge, help, &[], vec![sample(&[], value)])
        };
        let mut pods: BTreeMap<&Arc<str>, [u64; 2 + OPERATIONS.len()]> = BTreeMap::new();
        let mut held = 0;
        for (pod, stats) in publishers {
            let sums = pods.entry(pod).or_default();
            let counters = [&stats.messages, &stats.reconnections];
            for (sum, counter) in sums
                .iter_mut()
                .zip(counters.into_iter().chain(&stats.errors))
            {
                *sum += counter.load(Relaxed);
            }
            held += stats.held.load(Relaxed);
        }
        let by_pod = |name, help, index: usize| {
            let samples = pods
                .iter()
                .map(|(pod, sums)| sample(&[Arc::clone(pod)], sums[index]));
            family(
                name,
                FamilyKind::Counter,
                help,
                &["pod_identifier"],
                samples.collect(),
            )
        };
        let errors = pods.iter().flat_map(|(pod, sums)| {
            let operations = OPERATIONS.iter().zip(&sums[2..]);
            operations
                .filter(|(_, count)| **count > 0)
                .map(|(operation, count)| sample(&[Arc::clone(pod), (*operation).into()], *count))
        });
        vec![
            one(
                "kv_cache_events_dedup_removed_hashes_suppressed_total",
                "[ALPHA] Block hashes whose removal took nothing away: another announcement still holds the block, or none did.",
                &self.removals_suppressed,
            ),
            one(
                "kv_cache_events_dedup_removed_hashes_forwarded_total",
                "[ALPHA] Block hashes whose removal took the block out of the index.",
                &self.removals_forwarded,
            ),
            skipped(
                "kv_cache_events_stores_skipped_total",
                "[ALPHA] Store events that were not put into the index.",
                &self.stores_skipped,
            ),
            skipped(
                "kv_cache_events_removals_skipped_total",
                "[ALPHA] Removal events of groups that are not in the index.",
                &self.removals_skipped,
            ),
            gauge(
                "kv_cache_events_active_subscribers",
                "[ALPHA] Publishers that are subscribed to.",
                publishers.len() as u64,
            ),
            by_pod(
                "kv_cache_events_messages_received_total",
                "[ALPHA] Messages that came from a publisher.",
                0,
            ),
            by_pod(
                "kv_cache_events_subscriber_reconnections_total",
                "[ALPHA] Times that the connection to a publisher was lost and tried again.",
                1,
            ),
            family(
                "kv_cache_events_zmq_errors_total",
                FamilyKind::Counter,
                "[ALPHA] Errors of a publisher's sockets.",
                &["pod_identifier", "operation"],
                errors.collect(),
            ),
            gauge(
                "kv_cache_events_pool_queue_depth",
                "[ALPHA] Messages that wait for a replay.",
                held,
            ),
            gauge(
                "kv_cache_events_pool_capacity",
                "[ALPHA] Threads that apply events.",
                1,
            ),
            one(
                "kv_events_gaps_total",
                "[ALPHA] Times that a publisher's messages had a gap.",
                &self.gaps,
            ),
            one(
                "kv_events_restarts_total",
                "[ALPHA] Publishers that began to count anew: what was known about them was dropped.",
                &self.restarts,
            ),
            labelled(
                "kv_events_replays_total",
                "[ALPHA] Replays that were asked for, that brought all the publisher had, and that did not.",
                &["outcome"],
                vec![
                    ("asked", &self.replays_asked),
                    ("complete", &self.replays_complete),
                    ("incomplete", &self.replays_incomplete),
                ],
            ),
            labelled(
                "kv_events_dropped_total",
                "[ALPHA] Times that a publisher's entries were dropped: messages are missing for good (hole), its blocks changed their size (block_size); messages that came and were not applied (message), that came twice (duplicate).",
                &["what"],
                vec![
                    ("hole", &self.holes),
                    ("block_size", &self.resized),
                    ("message", &self.dropped),
                    ("duplicate", &self.duplicates),
                ],
            ),
            labelled(
                "kv_events_decode_errors_total",
                "[ALPHA] What could not be read: a sequence number that is none, a message from some place on, an event; and events of unknown types.",
                &["what"],
                vec![
                    ("sequence", &self.bad_sequences),
                    ("message", &self.bad_messages),
                    ("event", &self.bad_events),
                    ("unknown_event", &self.unknown_events),
                ],
            ),
        ]
    }
}

fn family(
    name: &'static str,
    kind: FamilyKind,
    help: &'static str,
    label_names: &'static [&'static str],
    samples: Vec<Sample>,
) -> Family {
    Family {
        name,
        kind,
        help,
        label_names,
        buckets: &[],
        samples,
    }
}

fn sample(labels: &[Arc<str>], value: u64) -> Sample {
    Sample {
        labels: labels.to_vec(),
        value: SampleValue::Number(value as f64),
    }
}
