//! Block hashing: a prompt's canonical bytes become one id per block, then a chain in which each hash names a whole prefix.
//!
//! Formulas as the reference's approximate index: `h0 = xxh64(model ‖ cache salt)`, `id = xxh64(block bytes)`,
//! `h_i = xxh64(LE64(id_i) ‖ LE64(h_{i-1}))`, a final partial block included. Four bytes of text count as one token.

use std::fmt;

use xxhash_rust::xxh64::{Xxh64, xxh64};

/// Bytes of canonical prompt that count as one token: token ids are packed as little-endian u32, text as it is.
pub const BYTES_PER_TOKEN: usize = 4;

/// Splits a stream of bytes into blocks and hashes each as it fills; holds no more than one block.
pub struct BlockHasher {
    block_bytes: usize,
    state: Xxh64,
    filled: usize,
    total_bytes: u64,
    blocks: Vec<u64>,
    max_blocks: usize,
}

impl fmt::Debug for BlockHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BlockHasher")
            .field("blocks", &self.blocks.len())
            .field("total_bytes", &self.total_bytes)
            .finish_non_exhaustive()
    }
}

impl BlockHasher {
    /// Blocks of `block_tokens` tokens (at least 1); ids beyond `max_blocks` are counted as bytes but not kept.
    pub fn new(block_tokens: u32, max_blocks: usize) -> Self {
        Self {
            block_bytes: block_tokens.max(1) as usize * BYTES_PER_TOKEN,
            state: Xxh64::new(0),
            filled: 0,
            total_bytes: 0,
            blocks: Vec::new(),
            max_blocks,
        }
    }

    /// Appends canonical bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        if self.filled > 0 {
            let take = bytes.len().min(self.block_bytes - self.filled);
            self.state.update(&bytes[..take]);
            self.filled += take;
            bytes = &bytes[take..];
            if self.filled < self.block_bytes {
                return;
            }
            self.flush();
        }
        let whole = bytes.chunks_exact(self.block_bytes);
        let rest = whole.remainder();
        let room = self.max_blocks - self.blocks.len().min(self.max_blocks);
        self.blocks
            .extend(whole.take(room).map(|block| xxh64(block, 0)));
        if !rest.is_empty() {
            self.state.update(rest);
            self.filled = rest.len();
        }
    }

    /// Bytes seen so far.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Closes the stream: the block ids (a final partial block included) and the number of bytes.
    pub fn finish(mut self) -> (Vec<u64>, u64) {
        if self.filled > 0 {
            self.flush();
        }
        (self.blocks, self.total_bytes)
    }

    fn flush(&mut self) {
        if self.blocks.len() < self.max_blocks {
            self.blocks.push(self.state.digest());
        }
        self.state.reset(0);
        self.filled = 0;
    }
}

/// First link of a chain: what must be equal besides the prompt.
pub fn seed(model: &str, cache_salt: Option<&str>) -> u64 {
    let mut state = Xxh64::new(0);
    state.update(model.as_bytes());
    if let Some(salt) = cache_salt {
        state.update(salt.as_bytes());
    }
    state.digest()
}

/// Turns block ids into chained hashes: hash `i` names the prompt's first `i + 1` blocks under `seed`.
pub fn chain(seed: u64, block_ids: &[u64]) -> Vec<u64> {
    let mut previous = seed;
    block_ids
        .iter()
        .map(|id| {
            let mut link = [0; 16];
            link[..8].copy_from_slice(&id.to_le_bytes());
            link[8..].copy_from_slice(&previous.to_le_bytes());
            previous = xxh64(&link, 0);
            previous
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splits_do_not_change_the_blocks(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cuts in proptest::collection::vec(0usize..2000, 0..8)) {
            let mut whole = BlockHasher::new(16, usize::MAX);
            whole.push(&bytes);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut parts = BlockHasher::new(16, usize::MAX);
            let mut start = 0;
            for cut in cuts {
                parts.push(&bytes[start..cut]);
                start = cut;
            }
            prop_assert_eq!(whole.finish(), parts.finish());
        }
    }

    #[test]
    fn a_partial_last_block_counts_and_the_limit_holds() {
        let mut hasher = BlockHasher::new(16, 2);
        hasher.push(&[7; 64 * 3 + 1]);
        let (ids, bytes) = hasher.finish();
        assert_eq!((ids.len(), bytes), (2, 193));
    }

    #[test]
    fn equal_prefixes_share_hashes_until_they_part() {
        let left = chain(seed("m", None), &[1, 2, 3, 4]);
        let right = chain(seed("m", None), &[1, 2, 9, 4]);
        assert_eq!(left[..2], right[..2]);
        assert!(left[2] != right[2] && left[3] != right[3]);
        assert_ne!(chain(seed("n", None), &[1])[0], left[0]);
        assert_ne!(chain(seed("m", Some("salt")), &[1])[0], left[0]);
    }
}
