//! What the data producers that are built into the engine are set to.

use std::time::Duration;

/// The approximate prefix index, as `approx-prefix-cache-producer` describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixSettings {
    /// Follow the block size and the number of blocks that the engines tell.
    pub auto_tune: bool,
    /// Tokens in a block where the engines do not tell.
    pub block_tokens: u32,
    /// Longest prefix that is matched.
    pub longest: PrefixLimit,
    /// Blocks remembered of an endpoint whose engine does not tell its number of blocks.
    pub lru_capacity: usize,
}

/// The longest prefix that is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixLimit {
    /// So many tokens (at least 1), in whole blocks, and one block at least.
    Tokens(u32),
    /// So many blocks (at least 1), of whatever size they come to have.
    Blocks(u32),
    /// Any.
    None,
}

impl PrefixLimit {
    /// In blocks of so many tokens (at least 1).
    pub fn blocks(self, block_tokens: u32) -> usize {
        match self {
            Self::Tokens(tokens) => (tokens / block_tokens).max(1) as usize,
            Self::Blocks(blocks) => blocks as usize,
            Self::None => usize::MAX,
        }
    }
}

impl Default for PrefixSettings {
    fn default() -> Self {
        Self {
            auto_tune: true,
            block_tokens: 16,
            longest: PrefixLimit::Tokens(131_072),
            lru_capacity: 31_250,
        }
    }
}

/// The exact prefix index, as `precise-prefix-cache-producer` describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactSettings {
    /// What a block in a medium of that (lower-case) name counts; 1 for others.
    pub weights: Vec<(Box<str>, f32)>,
    /// Bytes that the index may take.
    pub byte_budget: usize,
    /// How long what was just sent counts as held before the engine has said so; `None`: it does not.
    pub speculative_ttl: Option<Duration>,
}

/// Who makes token ids of prompts, as `token-producer` describes it. A host opens it, the engine only calls it.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerSettings {
    /// None at all: only prompts that are token ids already are read.
    TokenIds,
    /// A Hugging Face tokenizer on this machine.
    Local {
        /// A folder with `tokenizer.json`, or that file.
        path: Box<str>,
        /// File of the chat template; `None`: the one of the folder.
        chat_template: Option<Box<str>>,
        /// Use the template that a request brings.
        trust_request_template: bool,
        /// Bytes for prefixes that need not be tokenised again; 0: none.
        cache_bytes: usize,
    },
    /// A model server or renderer.
    Remote {
        /// `http://host:port`.
        url: Box<str>,
        /// Model to ask for; `None`: that of the request.
        model: Option<Box<str>>,
        /// For a prompt of text.
        timeout: Duration,
        /// For one with media.
        media_timeout: Duration,
    },
}

/// How a request counts while it is in flight, as `inflight-load-producer` describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct InFlightSettings {
    /// Count estimated output tokens, until the end of the request. Without, prompt tokens count, until the first token.
    pub add_estimated_output_tokens: bool,
    /// Output tokens expected for each prompt token.
    pub output_ratio: f64,
    /// Most output tokens expected.
    pub max_estimated_output_tokens: Option<u32>,
    /// Whose prefix matches tell what is cached; `None`: those of the producer that is meant where none is named.
    pub prefix_producer: Option<Box<str>>,
}

impl Default for InFlightSettings {
    fn default() -> Self {
        Self {
            add_estimated_output_tokens: false,
            output_ratio: 1.5,
            max_estimated_output_tokens: None,
            prefix_producer: None,
        }
    }
}

impl InFlightSettings {
    /// Output tokens to count for a request: `min(round(prompt · ratio), the client's limit, the configured limit)`, 0 where none are counted.
    pub fn output_tokens(&self, prompt_tokens: u32, client_limit: Option<u32>) -> u32 {
        if !self.add_estimated_output_tokens {
            return 0;
        }
        let expected = (f64::from(prompt_tokens) * self.output_ratio).round() as u32;
        let limits = [client_limit, self.max_estimated_output_tokens];
        limits.into_iter().flatten().fold(expected, u32::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_output_is_bounded_by_both_limits() {
        let mut settings = InFlightSettings::default();
        assert_eq!(settings.output_tokens(100, Some(10)), 0);
        settings.add_estimated_output_tokens = true;
        assert_eq!(settings.output_tokens(101, None), 152);
        assert_eq!(settings.output_tokens(100, Some(10)), 10);
        settings.max_estimated_output_tokens = Some(7);
        assert_eq!(settings.output_tokens(100, Some(10)), 7);
    }
}
