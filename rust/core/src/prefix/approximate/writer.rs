//! Changes the map shard by shard, and counts the bytes that a change costs or gives back.

use std::hint::black_box;

use parking_lot::RwLockWriteGuard;

use super::ApproximateIndex;
use super::holders::Shard;
use super::lru::Held;

/// Changes the map, keeping the lock of a shard while the next block is in the same one.
pub(super) struct Writer<'a> {
    index: &'a ApproximateIndex,
    open: Option<OpenShard<'a>>,
}

struct OpenShard<'a> {
    number: u32,
    shard: RwLockWriteGuard<'a, Shard>,
    /// Bytes allocated when it was locked.
    before: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(index: &'a ApproximateIndex) -> Self {
        Self { index, open: None }
    }

    /// Fetches what changing these blocks, all of one shard, will read.
    pub(super) fn warm(&mut self, run: &[Held]) {
        let spread = self.index.spread;
        if let Some(first) = run.first() {
            self.with_shard(first.shard, |shard| {
                black_box(
                    run.iter()
                        .fold(0, |loaded, held| loaded ^ shard.warm(spread, held.hash)),
                );
            });
        }
    }

    pub(super) fn add(&mut self, held: Held, slot: u32, words: usize) {
        let spread = self.index.spread;
        self.with_shard(held.shard, |shard| {
            shard.add(spread, held.hash, slot, words);
        });
    }

    pub(super) fn remove(&mut self, held: Held, slot: u32) {
        let spread = self.index.spread;
        self.with_shard(held.shard, |shard| shard.remove(spread, held.hash, slot));
    }

    fn with_shard(&mut self, number: u32, change: impl FnOnce(&mut Shard)) {
        if self.open.as_ref().is_none_or(|open| open.number != number) {
            // Never two at once.
            self.close();
            let shard = self.index.shards[number as usize].write();
            let before = shard.allocated();
            self.open = Some(OpenShard {
                number,
                shard,
                before,
            });
        }
        if let Some(open) = &mut self.open {
            change(&mut open.shard);
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.index.account(open.before, open.shard.allocated());
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.close();
    }
}
