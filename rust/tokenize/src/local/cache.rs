//! Tokens of pieces of text that were tokenised before, the least recently used given up first.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// What a piece costs beside its tokens, in bytes: its key, links of the list and table, and two counts.
const ENTRY_BYTES: usize = 112;

/// A bounded cache; texts are known by 128 bits of hash under a seed of the process.
pub(crate) struct ChunkCache {
    seed: u64,
    budget: usize,
    chunks: Mutex<Chunks>,
}

struct Chunks {
    tokens: LruCache<u128, Arc<[u32]>>,
    bytes: usize,
}

impl ChunkCache {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            seed: RandomState::new().build_hasher().finish(),
            budget: budget_bytes,
            chunks: Mutex::new(Chunks {
                tokens: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    pub(crate) fn key(&self, text: &str) -> u128 {
        xxh3_128_with_seed(text.as_bytes(), self.seed)
    }

    /// The tokens of each key, under one lock.
    pub(crate) fn get(&self, keys: impl Iterator<Item = u128>) -> Vec<Option<Arc<[u32]>>> {
        let mut chunks = self.chunks.lock();
        keys.map(|key| chunks.tokens.get(&key).cloned()).collect()
    }

    pub(crate) fn insert(&self, new: Vec<(u128, Arc<[u32]>)>) {
        let mut chunks = self.chunks.lock();
        let Chunks { tokens, bytes } = &mut *chunks;
        for (key, chunk) in new {
            *bytes += cost(&chunk);
            if let Some(before) = tokens.put(key, chunk) {
                *bytes -= cost(&before);
            }
        }
        while *bytes > self.budget
            && let Some((_, oldest)) = tokens.pop_lru()
        {
            *bytes -= cost(&oldest);
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.lock().bytes
    }
}

fn cost(chunk: &[u32]) -> usize {
    size_of_val(chunk) + ENTRY_BYTES
}

impl std::fmt::Debug for ChunkCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chunks = self.chunks.lock();
        formatter
            .debug_struct("ChunkCache")
            .field("budget", &self.budget)
            .field("bytes", &chunks.bytes)
            .field("chunks", &chunks.tokens.len())
            .finish_non_exhaustive()
    }
}
