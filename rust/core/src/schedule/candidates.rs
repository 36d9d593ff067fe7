//! What plugins see: the request's facts and one row of numbers per candidate endpoint.

use crate::Nanos;
use crate::pool::Snapshot;

/// What is known of a request when it is scheduled.
#[derive(Clone, Debug, Default)]
pub struct RequestFacts {
    /// Model that the engine will be asked for (after a rewrite); empty for payloads without one.
    pub target_model: Box<str>,
    /// Prompt tokens, exact where the body carries token ids, else bytes / 4 rounded up.
    pub prompt_tokens: u32,
    /// Blocks of the prompt that can be matched, over all its sequences.
    pub total_blocks: u32,
    /// Tokens in a block of the prefix index.
    pub block_tokens: u32,
    /// The client's limit on output tokens.
    pub max_tokens: Option<u32>,
    /// Request headers, lower-case names.
    pub headers: Vec<crate::exchange::Header>,
    /// Priority of the objective; 0 when none is named.
    pub priority: i32,
}

/// The candidates, a structure of arrays: row `i` of each column is the same endpoint.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Position of the row's endpoint in `Snapshot::endpoints`.
    pub position: Vec<u32>,
    /// Requests waiting in the engine; 0 where unknown.
    pub waiting: Vec<f64>,
    /// Requests running in the engine; 0 where unknown.
    pub running: Vec<f64>,
    /// KV cache usage 0..1; 0 where unknown.
    pub kv_usage: Vec<f64>,
    /// Requests in flight through this picker.
    pub inflight_requests: Vec<f64>,
    /// Uncached prompt tokens in flight through this picker.
    pub inflight_tokens: Vec<f64>,
    /// Uncached prompt tokens reserved and not yet prefilled (P).
    pub prefill_tokens: Vec<f64>,
    /// Blocks of this prompt matched from the start, summed over its sequences.
    pub matched_blocks: Vec<u32>,
}

impl Candidates {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.position.len()
    }

    /// True when no endpoint is a candidate.
    pub fn is_empty(&self) -> bool {
        self.position.is_empty()
    }
}

/// All that a plugin may read for one decision.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The request.
    pub request: &'a RequestFacts,
    /// The pool, for what has no column (labels, adapters).
    pub snapshot: &'a Snapshot,
    /// The rows.
    pub candidates: &'a Candidates,
    /// Now.
    pub now: Nanos,
}

impl Context<'_> {
    /// Prompt tokens that the endpoint of `row` would have to prefill; at least 1.
    pub fn uncached_tokens(&self, row: usize) -> f64 {
        let matched =
            u64::from(self.candidates.matched_blocks[row]) * u64::from(self.request.block_tokens);
        u64::from(self.request.prompt_tokens)
            .saturating_sub(matched)
            .max(1) as f64
    }
}
