//! The pool's curves, as a decision reads them.

/// How long prefill and decoding take on an endpoint of the pool that is like all others.
///
/// * first token of a request with `x` tokens to prefill, its own and those before it: `prefill_base + prefill_token · x` seconds;
/// * each token after it, with `n` requests in flight: `decode_base + decode_request · n` seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// a: seconds to a first token that nothing has to be computed for.
    pub prefill_base: f64,
    /// 1/R: seconds per token to prefill; more than 0.
    pub prefill_token: f64,
    /// A: seconds per output token of a request that is alone.
    pub decode_base: f64,
    /// B: seconds that each request in flight adds to each output token; more than 0.
    pub decode_request: f64,
    /// o: output tokens of a request; at least 1.
    pub output_tokens: f64,
}

impl Curve {
    /// Before anything was learnt. The rates order endpoints by load as any others would: only their proportions matter,
    /// and the first hundred requests replace them.
    pub const START: Self = Self {
        prefill_base: 0.0,
        prefill_token: 1.0 / 10_000.0,
        decode_base: 0.010,
        decode_request: 0.000_1,
        output_tokens: 100.0,
    };

    /// Seconds to the first token with so many tokens to prefill, its own and those before it.
    pub fn first_token_seconds(&self, tokens: f64) -> f64 {
        self.prefill_base + self.prefill_token * tokens
    }

    /// Seconds per output token with so many requests in flight.
    pub fn token_seconds(&self, requests: f64) -> f64 {
        self.decode_base + self.decode_request * requests
    }
}

impl Default for Curve {
    fn default() -> Self {
        Self::START
    }
}
