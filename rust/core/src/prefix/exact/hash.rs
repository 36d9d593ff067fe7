//! Names of blocks in the exact index: what a block is made of becomes a content hash, and a chain of them one key a block.
//!
//! A key names a whole prefix and what it depends on, so equal keys are equal prefixes, whichever engine announced them and however that engine hashes.
//! The engines' own hashes are only mapped to these. The reference's `hashSeed` and `hashAlgorithm` name hashes of the same standing; no value of them changes a match.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What stands before the first block of a chain: the size of blocks, and the `LoRA` adapter that the cache was computed with.
pub fn root(block_tokens: u32, adapter: Option<&str>) -> u64 {
    let mut state = Xxh3::new();
    state.update(&block_tokens.to_le_bytes());
    state.update(&[u8::from(adapter.is_some())]);
    state.update(adapter.unwrap_or_default().as_bytes());
    state.digest()
}

/// Hash of a block by itself. `extras`: what else its cache depends on, in order: hashes of media in it, and in the first block the cache salt; not the adapter.
pub fn content(tokens: &[u32], extras: &[&str]) -> u64 {
    let bytes: &[u8] = bytemuck::cast_slice(tokens);
    if extras.is_empty() {
        return xxh3_64(bytes);
    }
    let mut state = Xxh3::new();
    state.update(bytes);
    for extra in extras {
        state.update(&(extra.len() as u64).to_le_bytes());
        state.update(extra.as_bytes());
    }
    state.digest()
}

/// Key of a block from the key of the one before it (or the root) and its content hash.
pub fn chain(parent: u64, content: u64) -> u64 {
    const PARENT: u64 = 0x9e37_79b9_7f4a_7c15;
    const CONTENT: u64 = 0xd1b5_4a32_d192_ed03;
    let product = u128::from(parent ^ PARENT) * u128::from(content ^ CONTENT);
    (product as u64) ^ ((product >> 64) as u64) ^ content
}
