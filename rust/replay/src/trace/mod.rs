//! A trace: requests with lengths and block ids instead of text. Read from a file or generated.

mod error;
pub mod generate;
mod granularity;
pub mod mooncake;

pub use error::{LineProblem, TraceError};
pub use generate::GenerateError;
pub use mooncake::Reading;

/// A request's `after` that waits for no other.
pub const AFTER_NOTHING: u32 = u32::MAX;

/// Most block ids in a trace (2 GiB): a longer one is repeated instead, see `simulation::Settings::repeat`.
pub const MOST_BLOCKS: usize = 1 << 28;

/// Seconds that a token of an answer is taken to need where nothing was simulated yet: to put the turns of conversations in an order, and to tell how
/// long a conversation is.
pub(crate) const NOMINAL_TOKEN_SECONDS: f64 = 0.02;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Seconds: since the trace began, or, where `after` names a request, since that one's end (the user's pause).
    pub at: f64,
    /// Index of the request whose answer this one waits for (the turn before), always a smaller one; [`AFTER_NOTHING`]: none.
    pub after: u32,
    /// Tokens; at least 1.
    pub prompt_tokens: u32,
    /// Tokens of the answer; at least 1.
    pub output_tokens: u32,
    /// First of its block ids in [`Trace::blocks`].
    pub first_block: u32,
    /// Number of block ids: `prompt_tokens / unit_tokens`, rounded up.
    pub block_count: u32,
    /// Index into [`Trace::loras`], plus one; 0: the base model.
    pub lora: u16,
}

/// Requests; those that wait for another stand after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Where it comes from, for tables.
    pub name: String,
    /// Tokens that one block id stands for.
    pub unit_tokens: u32,
    /// Seconds to which arrivals were rounded down when the trace was recorded; 0: they are exact. A simulation spreads them again.
    pub granularity: f64,
    /// The requests.
    pub requests: Vec<Request>,
    /// Block ids; requests point into them and may share ranges. An id names a block together with everything before it: equal ids are equal prefixes.
    /// A last block that is not full may have the id that it would have were it full.
    pub blocks: Vec<u64>,
    /// Names of adapters.
    pub loras: Vec<String>,
}

impl Trace {
    /// Block ids of a request.
    pub fn blocks_of(&self, request: &Request) -> &[u64] {
        let first = request.first_block as usize;
        &self.blocks[first..first + request.block_count as usize]
    }

    /// Prompt tokens of all requests.
    pub fn prompt_tokens(&self) -> u64 {
        let tokens = self.requests.iter();
        tokens.map(|request| u64::from(request.prompt_tokens)).sum()
    }

    /// Mean seconds from a conversation's first request to its last; 0 where no request waits for another.
    pub fn session_seconds(&self) -> f64 {
        session_seconds(&self.requests)
    }

    /// Seconds over which requests arrive that wait for no other, up to where a repetition of the trace would begin: the last arrival
    /// and one more gap (or granule).
    pub fn seconds(&self) -> f64 {
        let arrivals = self
            .requests
            .iter()
            .filter(|request| request.after == AFTER_NOTHING);
        let (mut count, mut first, mut last) = (0_u32, f64::INFINITY, 0.0_f64);
        for request in arrivals {
            count += 1;
            first = first.min(request.at);
            last = last.max(request.at);
        }
        if count == 0 {
            return 0.0;
        }
        let gap = (last - first) / f64::from(count.max(2) - 1);
        last + self.granularity.max(gap)
    }
}

/// As [`Trace::session_seconds`], of a trace's first requests: pauses, and answers at a nominal speed.
pub(crate) fn session_seconds(requests: &[Request]) -> f64 {
    let (mut conversations, mut seconds) = (0_u32, 0.0);
    for request in requests {
        if request.after == AFTER_NOTHING {
            conversations += 1;
        } else {
            let answer = requests[request.after as usize].output_tokens;
            seconds += f64::from(answer) * NOMINAL_TOKEN_SECONDS + request.at;
        }
    }
    seconds / f64::from(conversations.max(1))
}
