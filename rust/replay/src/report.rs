//! The numbers of a simulation.

mod tally;

use serde::Serialize;
use warmroute_core::learn::Curve;

pub(crate) use tally::{Answer, Tally};

/// Mean and percentiles of some quantity; NaN (null in JSON) where there is nothing to take them of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Summary {
    /// Of some values, exactly: percentiles between two values are interpolated.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let percentile = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let at = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
            let (low, high) = (at(place.floor()), at(place.ceil()));
            low + (high - low) * place.fract()
        };
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
        }
    }
}

/// How unevenly the replicas were used; 1: evenly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Imbalance {
    /// Most requests of a replica over their mean.
    pub requests: f64,
    /// Most requests in flight on a replica over their mean, averaged over the time in which there were any.
    pub inflight: f64,
}

/// What became of every request, by its number (the trace's, those of its second repetition after those of the first).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Seconds since the beginning; NaN as in all columns: not sent, or not answered.
    pub arrival: Vec<f64>,
    /// Seconds to the first token.
    pub ttft: Vec<f64>,
    /// Seconds since the beginning.
    pub finish: Vec<f64>,
    /// Number of the replica; -1: none.
    pub replica: Vec<i32>,
    /// Prompt tokens that the replica had in its cache.
    pub cached: Vec<u32>,
}

/// What the picker had learnt when the last request came that waits for no other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learnt {
    /// Of the pool.
    pub curve: LearntCurve,
    /// By replica, how much slower than the pool it prefills.
    pub prefill_factors: Vec<f64>,
    /// By replica, how much slower than the pool it decodes.
    pub decode_factors: Vec<f64>,
    /// By replica, the best signal of the last minute.
    pub signals: Vec<&'static str>,
}

/// `warmroute_core::learn::Curve`, for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LearntCurve {
    /// a: seconds to a first token that nothing has to be computed for.
    pub prefill_base: f64,
    /// 1/R: seconds per token to prefill.
    pub prefill_token: f64,
    /// A: seconds per output token of a request that is alone.
    pub decode_base: f64,
    /// B: seconds that each request in flight adds to each output token.
    pub decode_request: f64,
    /// o: output tokens of a request.
    pub output_tokens: f64,
}

impl From<Curve> for LearntCurve {
    fn from(curve: Curve) -> Self {
        Self {
            prefill_base: curve.prefill_base,
            prefill_token: curve.prefill_token,
            decode_base: curve.decode_base,
            decode_request: curve.decode_request,
            output_tokens: curve.output_tokens,
        }
    }
}

/// The numbers of a simulation. Times in seconds.
///
/// Statistics are of the answered requests that arrived after the warm-up. Where requests wait for others, the warm-up lasts until as many conversations
/// are open as the rate asks for (at most three quarters of the time), and what comes after the last conversation began does not count: the pool only empties.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Requests of the trace, repetitions counted: answered, refused, too long, unfinished and never sent together.
    pub requests: u64,
    /// Answered.
    pub answered: u64,
    /// Of those, the ones that the statistics are of.
    pub measured: u64,
    /// The picker refused them.
    pub refused: u64,
    /// Prompt and answer are more than the smallest replica's cache holds; sent nowhere.
    pub too_long: u64,
    /// In flight when the simulation ended.
    pub unfinished: u64,
    /// Their time had not come when the simulation ended, or the turn before them was refused or too long.
    pub never_sent: u64,
    /// Simulated, up to the last answer.
    pub seconds: f64,
    /// Seconds from arrival to the first token.
    pub ttft: Summary,
    /// Seconds per output token after the first, of answers with at least two.
    pub tpot: Summary,
    /// Seconds from arrival to the last token.
    pub e2e: Summary,
    /// The same per output token.
    pub normalized: Summary,
    /// Requests that came a second between the first measured arrival and the last one.
    pub offered: f64,
    /// Answers a second between the first measured arrival and the last one.
    pub throughput: f64,
    /// Output tokens of these answers a second.
    pub output_tokens_per_second: f64,
    /// Share of the prompts' tokens that replicas had in their caches.
    pub hit_ratio: f64,
    /// Share that the picker expected there.
    pub predicted_hit_ratio: f64,
    /// How unevenly the replicas were used.
    pub imbalance: Imbalance,
    /// Requests that replicas put back into their queues, warm-up included.
    pub preemptions: u64,
    /// Measured requests by replica.
    pub picks: Vec<u64>,
    /// What the picker had learnt.
    pub learnt: Learnt,
    /// What became of every request, where that was asked for.
    #[serde(skip)]
    pub details: Option<Details>,
}
