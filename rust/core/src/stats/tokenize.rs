//! Prompts that become tokens: how long that takes and how many wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::buckets;
use super::family::{Family, Kind, Sample, SampleValue};
use super::number::Histogram;

/// Counters of jobs for the tokenizer.
#[derive(Debug, Default)]
pub struct TokenizeStats {
    queued: AtomicU64,
    /// By outcome, of which there are a handful.
    durations: RwLock<Vec<(&'static str, Histogram)>>,
    /// By outcome, what was said the last time.
    errors: Mutex<Vec<(&'static str, Box<str>)>>,
}

/// One outcome of tokenising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOutcome {
    /// `ok`, or why there were no tokens (`abandoned`: the request was gone before they came).
    pub outcome: &'static str,
    /// Requests since the start.
    pub count: u64,
    /// What the tokenizer said the last time; empty for `ok`.
    pub last: Box<str>,
}

/// A job that waits for a thread; counts as queued until it is dropped.
#[derive(Debug)]
pub struct QueuedJob(Arc<TokenizeStats>);

impl QueuedJob {
    /// Where it counts.
    pub(crate) fn stats(&self) -> &Arc<TokenizeStats> {
        &self.0
    }
}

impl TokenizeStats {
    /// A job begins to wait.
    #[must_use = "the job counts as queued only as long as this lives"]
    pub fn enqueue(self: &Arc<Self>) -> QueuedJob {
        self.queued.fetch_add(1, Ordering::Relaxed);
        QueuedJob(Arc::clone(self))
    }

    /// Jobs that wait for a thread now.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// A request got its answer, after `duration` in the tokenizer.
    pub fn answered(&self, outcome: &'static str, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let observe = |durations: &[(&str, Histogram)]| {
            let known = durations.iter().find(|(known, _)| *known == outcome);
            known.map(|(_, histogram)| histogram.observe(seconds))
        };
        if observe(&self.durations.read()).is_some() {
            return;
        }
        let mut durations = self.durations.write();
        if observe(&durations).is_none() {
            let histogram = Histogram::new(buckets::TOKENIZE);
            histogram.observe(seconds);
            durations.push((outcome, histogram));
        }
    }

    /// What the tokenizer said, to a request that was counted under `outcome`.
    pub fn failed(&self, outcome: &'static str, text: &str) {
        let mut errors = self.errors.lock();
        match errors.iter_mut().find(|(known, _)| *known == outcome) {
            // A server that is away says the same to every request.
            Some((_, last)) if **last == *text => {}
            Some((_, last)) => *last = text.into(),
            None => errors.push((outcome, text.into())),
        }
    }

    /// How requests fared since the start.
    pub fn outcomes(&self) -> Vec<TokenOutcome> {
        let errors = self.errors.lock().clone();
        let durations = self.durations.read();
        durations
            .iter()
            .map(|(outcome, histogram)| TokenOutcome {
                outcome,
                count: histogram.count(),
                last: errors
                    .iter()
                    .find(|(known, _)| known == outcome)
                    .map(|(_, text)| text.clone())
                    .unwrap_or_default(),
            })
            .collect()
    }

    pub(super) fn families(&self) -> [Family; 2] {
        let mut samples: Vec<Sample> = self
            .durations
            .read()
            .iter()
            .map(|(outcome, histogram)| Sample {
                labels: vec![Arc::from(*outcome)],
                value: histogram.value(),
            })
            .collect();
        samples.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        [
            Family {
                name: "tokenize_duration_seconds",
                kind: Kind::Histogram,
                help: "[ALPHA] Time that the tokenizer took for a request in seconds, by outcome.",
                label_names: &["outcome"],
                buckets: buckets::TOKENIZE,
                samples,
            },
            Family {
                name: "tokenize_queued",
                kind: Kind::Gauge,
                help: "[ALPHA] Requests that wait for a thread to tokenise them.",
                label_names: &[],
                buckets: &[],
                samples: vec![Sample {
                    labels: Vec::new(),
                    value: SampleValue::Number(self.queued() as f64),
                }],
            },
        ]
    }
}

impl Drop for QueuedJob {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
