//! A trace: requests with lengths and block ids instead of text.

/// A request's `after` that waits for no other.
pub const AFTER_NOTHING: u32 = u32::MAX;

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

/// Requests in the order of their times (those that wait for another stand after it).
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Where it comes from, for tables.
    pub name: String,
    /// Tokens that one block id stands for.
    pub unit_tokens: u32,
    /// The requests.
    pub requests: Vec<Request>,
    /// Block ids of all requests, one after the other. An id names a block together with everything before it: equal ids are equal prefixes.
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
}
