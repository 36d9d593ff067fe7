//! The byte budget: what goes when a store would pass it.
//!
//! Whole chunks go, about a sixteenth of all blocks at a time, those first in which no query has been since the hand last passed. One sweep over the lanes then takes out the entries
//! of what is gone, before any of its slots is used again. What remains answers as before; what went counts as not held until it is announced again.

use super::cell::EMPTY;
use super::slots::CHUNK;
use super::writer::{Change, Writer};

/// Part of the blocks that goes at a time.
const PART: usize = 16;

/// Bytes a block takes at most in the table beyond what is counted for slots and lanes; a shard that grows is half empty.
const BYTES_IN_TABLE: usize = 24;

/// Whether blocks may be stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Room {
    Enough,
    /// After others went; slots seen before may not exist any more.
    Evicted,
    None,
}

impl Writer {
    /// Makes room for `blocks` more in a lane.
    pub(super) fn make_room(&mut self, at: usize, blocks: usize) -> Room {
        let mut room = Room::Enough;
        // Shards of the table grow when they must; what they may take in one batch is kept free.
        let reserve = self.table.growth();
        loop {
            let needed = reserve
                + self.slots.bytes_for(blocks)
                + self.lanes[at].entries.bytes_for(blocks)
                + blocks * BYTES_IN_TABLE;
            if self.bytes() + needed <= self.budget {
                return room;
            }
            if self.slots.len() == 0 {
                return Room::None;
            }
            self.evict(self.slots.len().div_ceil(PART));
            room = Room::Evicted;
        }
    }

    /// Evicts until the budget holds.
    pub(super) fn keep_budget(&mut self) {
        while self.bytes() > self.budget && self.slots.len() > 0 {
            self.evict(self.slots.len().div_ceil(PART));
        }
    }

    /// Takes out chunks with `blocks` blocks or a few more.
    fn evict(&mut self, blocks: usize) {
        let chunks = self.slots.chunk_numbers();
        let mut gone = vec![0_u64; chunks.div_ceil(64) as usize];
        let is_gone = |gone: &[u64], slot: u32| {
            let number = slot / CHUNK;
            gone[number as usize / 64] >> (number % 64) & 1 != 0
        };
        let mut left = blocks;
        // In the second round nothing is marked as touched any more, but for what queries touch meanwhile; the third takes that too.
        for step in 0..3 * chunks {
            let number = (self.hand + step) % chunks;
            let used = self.slots.used_count(number);
            if used == 0 || (self.slots.take_touched(number) && step < 2 * chunks) {
                continue;
            }
            gone[number as usize / 64] |= 1 << (number % 64);
            self.empty_chunk(number);
            left = left.saturating_sub(used);
            if left == 0 {
                self.hand = (number + 1) % chunks;
                break;
            }
        }
        for at in 0..self.lanes.len() {
            self.sweep(at, |slot| is_gone(&gone, slot));
        }
        self.sets.tidy();
    }

    fn empty_chunk(&mut self, number: u32) {
        let slots: Vec<u32> = self.slots.used(number).collect();
        for slot in slots {
            let word = self.slots.word(slot);
            let mut holders = 0;
            self.sets.for_each(word, |_| holders += 1);
            self.pairs -= holders;
            self.evicted_pairs += holders as u64;
            self.sets.moved(word, EMPTY);
            self.free(slot);
        }
    }

    /// Takes what is gone out of a lane.
    fn sweep(&mut self, at: usize, is_gone: impl Fn(u32) -> bool) {
        let lane = &mut self.lanes[at];
        if lane.entries.len() == 0 {
            return;
        }
        let bytes = lane.bytes();
        lane.entries.retain(|slot| !is_gone(slot));
        lane.aliases.retain(|slot, _| !is_gone(*slot));
        let entries = &lane.entries;
        lane.repeats.retain(|mixed, _| entries.find(*mixed).is_ok());
        let mut uncovered = Vec::new();
        lane.covers.retain(|mixed, covered| {
            let remaining: Box<[u32]> = covered
                .iter()
                .copied()
                .filter(|slot| !is_gone(*slot))
                .collect();
            if entries.find(*mixed).is_err() {
                uncovered.extend(remaining);
                return false;
            }
            *covered = remaining;
            !covered.is_empty()
        });
        lane.covered = lane.covers.values().map(|covered| covered.len()).sum();
        lane.repeats.shrink_to_fit();
        lane.aliases.shrink_to_fit();
        lane.covers.shrink_to_fit();
        let mut change = Change::default();
        for slot in uncovered {
            self.unmark(at, slot, &mut change);
        }
        self.lane_bytes = self.lane_bytes + self.lanes[at].bytes() - bytes;
    }
}
