//! What was measured: counted per load thread, merged, and written as one JSON object.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::Failure;
use crate::pace::Pace;
use crate::process::Usage;

/// Latencies above this are recorded as this: 10 minutes, in nanoseconds.
const HIGHEST: u64 = 600_000_000_000;

/// Latencies with three significant digits.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Self {
        // The bounds are constants that the crate accepts.
        Self(
            Histogram::new_with_bounds(1000, HIGHEST, 3)
                .unwrap_or_else(|_| unreachable!("constant bounds")),
        )
    }

    fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(latency.as_nanos().min(u128::from(HIGHEST)) as u64);
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can fail.
        self.0
            .add(&other.0)
            .unwrap_or_else(|_| unreachable!("equal bounds"));
    }

    fn summary(&self) -> Option<LatencySummary> {
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let quantile = |quantile| milliseconds(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| LatencySummary {
            mean: self.0.mean() / 1e6,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: milliseconds(self.0.max()),
        })
    }
}

/// What one load thread counted.
#[derive(Debug)]
pub struct Recorder {
    pace: Pace,
    latency: Latencies,
    first_byte: Latencies,
    errors: HashMap<Failure, u64>,
    recorded: u64,
    finished_in_window: u64,
    events: u64,
    closed_early: u64,
}

/// What a request that went well reports besides its times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Success {
    /// When the answer was complete; `None`: when the request returned.
    pub answered: Option<Instant>,
    /// When the first byte of the body arrived (event streams only).
    pub first_byte: Option<Instant>,
    /// Server-sent events in the answer.
    pub events: u64,
    /// The picker ended its stream with OK before the response phase (it need not see the response).
    pub closed_early: bool,
}

impl Recorder {
    /// Nothing counted yet.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            latency: Latencies::new(),
            first_byte: Latencies::new(),
            errors: HashMap::new(),
            recorded: 0,
            finished_in_window: 0,
            events: 0,
            closed_early: 0,
        }
    }

    /// Counts one request. Errors count whenever they happen, warm-up included.
    pub fn record(&mut self, intended: Instant, outcome: Result<Success, Failure>) {
        let finished = Instant::now();
        let success = match outcome {
            Ok(success) => success,
            Err(failure) => {
                *self.errors.entry(failure).or_default() += 1;
                return;
            }
        };
        if self.pace.window().contains(finished) {
            self.finished_in_window += 1;
        }
        if self.pace.counts(intended, finished) {
            self.recorded += 1;
            self.latency.record(
                success
                    .answered
                    .unwrap_or(finished)
                    .saturating_duration_since(intended),
            );
            if let Some(first_byte) = success.first_byte {
                self.first_byte
                    .record(first_byte.saturating_duration_since(intended));
            }
            self.events += success.events;
            self.closed_early += u64::from(success.closed_early);
        }
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.first_byte.add(&other.first_byte);
        for (failure, count) in &other.errors {
            *self.errors.entry(*failure).or_default() += count;
        }
        self.recorded += other.recorded;
        self.finished_in_window += other.finished_in_window;
        self.events += other.events;
        self.closed_early += other.closed_early;
    }

    /// The report of the run.
    pub fn report(
        mut self,
        usages: &[ProcessSample],
        generator: (Usage, Usage),
        settings: serde_json::Value,
    ) -> Report {
        let not_sent = self.pace.not_sent();
        if not_sent > 0 {
            self.errors.insert(Failure::NotSent, not_sent);
        }
        let window = self.pace.window();
        let seconds = (window.until - window.from).as_secs_f64();
        let requests = self.finished_in_window;
        let per_request = |before: Usage, after: Usage| {
            let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
            CpuReport {
                cpu_seconds,
                cores: cpu_seconds / seconds,
                cpu_us_per_request: (requests > 0).then(|| cpu_seconds * 1e6 / requests as f64),
            }
        };
        Report {
            settings,
            seconds,
            requests: self.recorded,
            requests_per_second: self.recorded as f64 / seconds,
            error_count: self.errors.values().sum(),
            errors: self
                .errors
                .iter()
                .map(|(failure, count)| (failure.kind().into_owned(), *count))
                .collect(),
            latency_ms: self.latency.summary(),
            first_byte_ms: self.first_byte.summary(),
            events: self.events,
            closed_early: self.closed_early,
            processes: usages
                .iter()
                .map(|sample| ProcessReport {
                    pid: sample.pid,
                    cpu: per_request(sample.before, sample.after),
                    resident_bytes: sample.after.resident_bytes,
                    peak_resident_bytes: sample.after.peak_resident_bytes,
                })
                .collect(),
            generator: per_request(generator.0, generator.1),
        }
    }
}

/// A watched process at the start and at the end of the measured time.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSample {
    /// Its id.
    pub pid: u32,
    /// At the start.
    pub before: Usage,
    /// At the end.
    pub after: Usage,
}

/// Result of a run. Times of latencies in milliseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The options of the run.
    pub settings: serde_json::Value,
    /// Measured time, without warm-up.
    pub seconds: f64,
    /// Requests that went well in that time.
    pub requests: u64,
    /// The same per second.
    pub requests_per_second: f64,
    /// All errors, warm-up included.
    pub error_count: u64,
    /// The same by kind.
    pub errors: BTreeMap<String, u64>,
    /// From the intended send to the complete answer (`ext_proc`: to the last reply of the request phase).
    pub latency_ms: Option<LatencySummary>,
    /// From the intended send to the first byte of the body, for event streams.
    pub first_byte_ms: Option<LatencySummary>,
    /// Server-sent events received.
    pub events: u64,
    /// `ext_proc` streams that the picker ended with OK before the response phase.
    pub closed_early: u64,
    /// The processes watched.
    pub processes: Vec<ProcessReport>,
    /// The generator itself.
    pub generator: CpuReport,
}

/// Latencies in milliseconds.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct LatencySummary {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// CPU used in the measured time.
#[derive(Debug, Serialize)]
pub struct CpuReport {
    /// User and system time.
    pub cpu_seconds: f64,
    /// The same per second of measured time.
    pub cores: f64,
    /// The same per request that ended in the measured time, in microseconds; `None` without any.
    pub cpu_us_per_request: Option<f64>,
}

/// CPU and memory of a watched process.
#[derive(Debug, Serialize)]
pub struct ProcessReport {
    /// Its id.
    pub pid: u32,
    /// CPU in the measured time.
    #[serde(flatten)]
    pub cpu: CpuReport,
    /// Resident memory at the end.
    pub resident_bytes: u64,
    /// Most resident memory ever.
    pub peak_resident_bytes: u64,
}
