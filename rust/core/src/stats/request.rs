//! The series of one label set: what a request adds to while it runs.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::buckets;
use super::labels::OVERFLOW;
use super::number::Histogram;

/// Distinct error codes kept per label set; the engine's own are fewer than ten, an upstream could invent more.
const ERROR_CODES: usize = 32;

/// Everything counted for one (`model_name`, `target_model_name`, `fairness_id`, `priority`).
#[derive(Debug)]
pub struct RequestSeries {
    pub(super) labels: [Arc<str>; 4],
    pub(super) total: AtomicU64,
    pub(super) running: AtomicU64,
    errors: Mutex<Vec<(Box<str>, u64)>>,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) input_tokens: Histogram,
    pub(super) output_tokens: Histogram,
    pub(super) cached_tokens: Histogram,
    pub(super) ntpot: Histogram,
    pub(super) ttft_streaming: Histogram,
    pub(super) ttft_whole: Histogram,
    pub(super) tpot: Histogram,
    pub(super) itl: Histogram,
}

impl RequestSeries {
    pub(super) fn new(labels: [Arc<str>; 4]) -> Self {
        Self {
            labels,
            total: AtomicU64::new(0),
            running: AtomicU64::new(0),
            errors: Mutex::default(),
            duration: Histogram::new(buckets::LATENCY),
            request_bytes: Histogram::new(buckets::REQUEST_BYTES),
            response_bytes: Histogram::new(buckets::RESPONSE_BYTES),
            input_tokens: Histogram::new(buckets::TOKENS),
            output_tokens: Histogram::new(buckets::OUTPUT_TOKENS),
            cached_tokens: Histogram::new(buckets::TOKENS),
            ntpot: Histogram::new(buckets::NTPOT),
            ttft_streaming: Histogram::new(buckets::TTFT),
            ttft_whole: Histogram::new(buckets::TTFT),
            tpot: Histogram::new(buckets::TPOT),
            itl: Histogram::new(buckets::ITL),
        }
    }

    /// A request with a body of `size_bytes` begins; it counts as running until the result is dropped.
    #[must_use = "the request counts as running only as long as this lives"]
    pub fn started(self: &Arc<Self>, size_bytes: u64) -> RunningRequest {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        self.request_bytes.observe(size_bytes as f64);
        RunningRequest {
            series: Arc::clone(self),
        }
    }

    /// The request ended in an error with this code (`error_code`); codes beyond 32 distinct ones count as `other`.
    pub fn error(&self, code: &str) {
        let mut errors = self.errors.lock();
        let known = |errors: &[(Box<str>, u64)], code: &str| {
            errors.iter().position(|(known, _)| known.as_ref() == code)
        };
        let code = if known(&errors, code).is_none() && errors.len() >= ERROR_CODES {
            OVERFLOW
        } else {
            code
        };
        match known(&errors, code) {
            Some(index) => errors[index].1 += 1,
            None => errors.push((code.into(), 1)),
        }
    }

    pub(super) fn errors(&self) -> Vec<(Box<str>, u64)> {
        self.errors.lock().clone()
    }

    /// From the first byte of the request to the last of the response.
    pub fn duration(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }

    /// Size of the response body.
    pub fn response_size(&self, bytes: u64) {
        self.response_bytes.observe(bytes as f64);
    }

    /// Prompt tokens, as the model server reported them.
    pub fn input_tokens(&self, tokens: u64) {
        self.input_tokens.observe(tokens as f64);
    }

    /// Generated tokens, as the model server reported them.
    pub fn output_tokens(&self, tokens: u64) {
        self.output_tokens.observe(tokens as f64);
    }

    /// Prompt tokens found in the model server's cache, as it reported them.
    pub fn cached_tokens(&self, tokens: u64) {
        self.cached_tokens.observe(tokens as f64);
    }

    /// Time to the first token; of an answer that is not streamed, to the answer.
    pub fn ttft(&self, duration: Duration, streaming: bool) {
        let histogram = if streaming {
            &self.ttft_streaming
        } else {
            &self.ttft_whole
        };
        histogram.observe(duration.as_secs_f64());
    }

    /// Mean time per output token after the first, of one streamed answer.
    pub fn tpot(&self, duration: Duration) {
        self.tpot.observe(duration.as_secs_f64());
    }

    /// Time between two tokens of a streamed answer.
    pub fn itl(&self, duration: Duration) {
        self.itl.observe(duration.as_secs_f64());
    }

    /// Whole duration over output tokens.
    pub fn ntpot(&self, duration: Duration) {
        self.ntpot.observe(duration.as_secs_f64());
    }
}

/// A request that counts as running; gives access to its series.
#[derive(Debug)]
pub struct RunningRequest {
    series: Arc<RequestSeries>,
}

impl Deref for RunningRequest {
    type Target = RequestSeries;

    fn deref(&self) -> &RequestSeries {
        &self.series
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.series.running.fetch_sub(1, Ordering::Relaxed);
    }
}
