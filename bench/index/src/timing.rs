//! Times of single calls.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use crate::subject::Subject;

/// Calls of the clock that its own cost is taken from.
const CLOCK_CALLS: usize = 10_000;

/// Wall times of single calls in nanoseconds; the clock's own cost is within them.
#[derive(Clone, Debug, Serialize)]
pub struct Times {
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Arithmetic mean.
    pub mean_ns: f64,
    /// Calls.
    pub samples: usize,
}

impl Times {
    /// Of at least one sample.
    ///
    /// # Panics
    ///
    /// Without samples.
    pub fn of(mut samples: Vec<u64>) -> Self {
        assert!(!samples.is_empty(), "nothing was timed");
        samples.sort_unstable();
        let count = samples.len();
        Self {
            p50_ns: samples[count / 2],
            p99_ns: samples[(count * 99 / 100).min(count - 1)],
            mean_ns: samples.iter().sum::<u64>() as f64 / count as f64,
            samples: count,
        }
    }
}

/// The nanoseconds that timing adds to each call.
pub fn clock_cost() -> Times {
    Times::of((0..CLOCK_CALLS).map(|_| elapsed(|| ())).collect())
}

/// Time of one answer to what was asked.
pub fn answer<S: Subject>(subject: &S, asked: &mut S::Asked) -> u64 {
    elapsed(|| {
        black_box(subject.answer(asked));
    })
}

/// Time of one call.
pub fn elapsed(work: impl FnOnce()) -> u64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as u64
}
