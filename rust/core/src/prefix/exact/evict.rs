//! The byte budget: what goes when a store would pass it.
//!
//! Whole chunks go, about a sixteenth of all blocks at a time, those first in which no query has been since the hand last passed. One sweep over the lanes then takes out the entries
//! of what is gone, before any of its slots is used again. What remains answers as before; what went counts as not held until it is announced again.
//!
//! A query passes what comes before a block to get to it, so a chunk in which none has been has nothing behind it that one has been in: what follows evicted blocks goes next,
//! and keeps them, empty, only until then. When nothing is held any more, nothing is kept.

use super::cell::{EMPTY, holders};
use super::slots::CHUNK;
use super::writer::{Change, Writer};

/// Part of the blocks that goes at a time.
const PART: usize = 16;

impl Writer {
    /// Makes room for `blocks` more in a lane. Returns how many there is room for.
    pub(super) fn make_room(&mut self, at: usize, blocks: usize) -> usize {
        loop {
            let fits = |blocks: usize| {
                let needed =
                    self.paths.bytes_for(blocks) + self.lanes[at].entries.bytes_for(blocks);
                self.bytes() + needed + 2 * blocks.min(64) * size_of::<[u64; 2]>() <= self.budget
            };
            if fits(blocks) {
                return blocks;
            }
            if self.pairs == 0 {
                // The most that fits; more blocks never need less.
                let (mut fitting, mut step) = (0, blocks.next_power_of_two());
                while step > 0 {
                    if fitting + step <= blocks && fits(fitting + step) {
                        fitting += step;
                    }
                    step /= 2;
                }
                return fitting;
            }
            self.evict(self.paths.held().div_ceil(PART));
        }
    }

    /// Evicts until the budget holds.
    pub(super) fn keep_budget(&mut self) {
        while self.bytes() > self.budget && self.pairs > 0 {
            self.evict(self.paths.held().div_ceil(PART));
        }
    }

    /// Takes out chunks with `blocks` blocks or a few more.
    fn evict(&mut self, blocks: usize) {
        let chunks = self.paths.slots.chunk_numbers();
        let mut gone = vec![0_u64; chunks.div_ceil(64) as usize];
        let is_gone = |gone: &[u64], slot: u32| {
            let number = slot / CHUNK;
            gone[number as usize / 64] >> (number % 64) & 1 != 0
        };
        let mut left = blocks;
        // In the second round nothing is marked as touched any more, but for what queries touch meanwhile; the third takes that too.
        for step in 0..3 * chunks {
            let number = (self.hand + step) % chunks;
            let used = self.paths.slots.used_count(number);
            if used == 0 || (self.paths.slots.take_touched(number) && step < 2 * chunks) {
                continue;
            }
            gone[number as usize / 64] |= 1 << (number % 64);
            left = left.saturating_sub(self.empty_chunk(number));
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

    /// Takes all holders off the blocks of a chunk. Returns how many blocks had some. Blocks that others follow, in other chunks, stay for those.
    fn empty_chunk(&mut self, number: u32) -> usize {
        let slots: Vec<u32> = self.paths.slots.used(number).collect();
        let mut emptied = 0;
        for slot in slots.into_iter().rev() {
            // It may have gone with the block behind it.
            if !self.paths.slots.is_used(slot) {
                continue;
            }
            let word = holders(self.paths.slots.word(slot));
            if word == EMPTY {
                continue;
            }
            let mut pairs = 0;
            self.sets.for_each(word, |_| pairs += 1);
            self.pairs -= pairs;
            self.evicted_pairs += pairs as u64;
            self.sets.moved(word, EMPTY);
            self.paths.abandon(slot);
            emptied += 1;
        }
        emptied
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
