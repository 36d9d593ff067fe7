//! The prompt as plugins may know it: names of its beginnings, and what was sent before.

use crate::prefix::ApproximateIndex;

/// A prompt without its text. Nothing of it is known before a profile runs, and where nothing consumes prefix matches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompt<'a> {
    /// Chained hashes of the blocks of its first sequence: hash `i` stands for the first `i + 1` blocks under the model and the cache salt, in every picker that
    /// cuts blocks of the same size. Empty: unknown.
    pub chain: &'a [u64],
    /// Tokens in a block.
    pub block_tokens: u32,
    /// What was sent to whom, by slot: the approximate index behind the matches that are meant where no producer is named.
    pub sent: Option<&'a ApproximateIndex>,
}

impl Prompt<'_> {
    /// The hash that stands for its first `tokens` tokens, rounded up to whole blocks, or for all of a shorter prompt; `None` where no block is known.
    pub fn head(&self, tokens: u32) -> Option<u64> {
        let blocks = tokens.div_ceil(self.block_tokens.max(1)).max(1) as usize;
        let last = self.chain.len().min(blocks).checked_sub(1)?;
        Some(self.chain[last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_blocks_and_no_longer_than_the_prompt() {
        let prompt = Prompt {
            chain: &[11, 22, 33],
            block_tokens: 64,
            sent: None,
        };
        for (tokens, head) in [(0, 11), (1, 11), (64, 11), (65, 22), (128, 22), (9999, 33)] {
            assert_eq!(prompt.head(tokens), Some(head), "{tokens}");
        }
        assert_eq!(Prompt::default().head(64), None);
    }
}
