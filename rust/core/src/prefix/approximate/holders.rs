//! Which endpoints hold which block: one shard of the map that all endpoints share.

use hashbrown::HashTable;

use super::lru::SMALL_TABLE;
use super::slab::Slab;
use super::spread::Spread;

/// Marks a block whose holders are in `Shard::shared`, and an empty place in a short list.
const NO_SLOT: u32 = u32::MAX;

/// Blocks allocated at a time: 1 KiB, small because there are many shards.
const CHUNK: usize = 64;

/// Most of the blocks of a busy index have one holder, so that one is kept in place: 16 bytes, and 6 to 12 in the table that finds it.
#[derive(Clone, Copy, Debug)]
struct Block {
    hash: u64,
    /// The only holder, or `NO_SLOT`.
    slot: u32,
    /// Without an only holder: where its holders are in `Shard::shared`.
    shared: u32,
}

/// The holders of a block that has, or had, several.
#[derive(Debug)]
struct Shared {
    /// The block they belong to.
    block: u32,
    set: Holders,
}

#[derive(Debug)]
enum Holders {
    /// Up to four, in place, unordered, `NO_SLOT` at the end.
    Few([u32; 4]),
    /// As long as that is smaller than a bit for every endpoint; unordered.
    List(Vec<u32>),
    /// One bit an endpoint.
    Bits(Box<[u64]>),
}

/// A part of the map block → holders.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    blocks: Slab<Block, CHUNK>,
    shared: Slab<Shared, CHUNK>,
    /// Heap bytes of the lists and bit sets.
    set_bytes: usize,
}

impl Shard {
    pub(super) const fn new() -> Self {
        Self { table: HashTable::new(), blocks: Slab::new(), shared: Slab::new(), set_bytes: 0 }
    }

    /// Distinct blocks.
    pub(super) const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes on the heap.
    pub(super) fn allocated(&self) -> usize {
        self.table.allocation_size() + self.blocks.allocated() + self.shared.allocated() + self.set_bytes
    }

    /// Adds a holder; `words` is the length of a bit set that covers all endpoints. Idempotent.
    pub(super) fn add(&mut self, spread: Spread, hash: u64, slot: u32, words: usize) {
        let Some(index) = self.find(spread, hash) else {
            let index = self.blocks.push(Block { hash, slot, shared: 0 });
            let blocks = &self.blocks;
            self.table.insert_unique(spread.of(hash), index, |&index| spread.of(blocks.get(index).hash));
            return;
        };
        let block = *self.blocks.get(index);
        if block.slot == slot {
            return;
        }
        if block.slot == NO_SLOT {
            let set = &mut self.shared.get_mut(block.shared).set;
            let before = set.heap_bytes();
            set.add(slot, words);
            let after = set.heap_bytes();
            self.set_bytes = self.set_bytes + after - before;
        } else {
            let shared = self.shared.push(Shared { block: index, set: Holders::Few([block.slot, slot, NO_SLOT, NO_SLOT]) });
            *self.blocks.get_mut(index) = Block { hash, slot: NO_SLOT, shared };
        }
    }

    /// Removes a holder, and the block with its last one. Idempotent.
    pub(super) fn remove(&mut self, spread: Spread, hash: u64, slot: u32) {
        let Some(index) = self.find(spread, hash) else { return };
        let block = *self.blocks.get(index);
        if block.slot == slot {
            self.remove_block(spread, hash, index);
        } else if block.slot == NO_SLOT {
            let set = &mut self.shared.get_mut(block.shared).set;
            let before = set.heap_bytes();
            set.remove(slot);
            let after = set.heap_bytes();
            self.set_bytes = self.set_bytes + after - before;
            if let Some(only) = self.shared.get(block.shared).set.only() {
                self.remove_shared(block.shared);
                *self.blocks.get_mut(index) = Block { hash, slot: only, shared: 0 };
            }
        }
    }

    /// Writes into `next` the endpoints of `alive` that hold the block; false when it is unknown. Both have the same length.
    pub(super) fn intersect(&self, spread: Spread, hash: u64, alive: &[u64], next: &mut [u64]) -> bool {
        let Some(index) = self.find(spread, hash) else { return false };
        let block = self.blocks.get(index);
        if block.slot != NO_SLOT {
            next.fill(0);
            keep(alive, next, block.slot);
            return true;
        }
        match &self.shared.get(block.shared).set {
            Holders::Bits(bits) => {
                for (word, (next, alive)) in next.iter_mut().zip(alive).enumerate() {
                    *next = alive & bits.get(word).copied().unwrap_or(0);
                }
            }
            set => {
                next.fill(0);
                set.for_each(|slot| keep(alive, next, slot));
            }
        }
        true
    }

    /// Whether an endpoint holds a block.
    pub(super) fn holds(&self, spread: Spread, hash: u64, slot: u32) -> bool {
        self.find(spread, hash).is_some_and(|index| {
            let block = self.blocks.get(index);
            block.slot == slot || (block.slot == NO_SLOT && self.shared.get(block.shared).set.contains(slot))
        })
    }

    /// Calls back for each (block, holder).
    #[cfg(test)]
    pub(super) fn for_each(&self, mut call: impl FnMut(u64, u32)) {
        for index in 0..self.len() as u32 {
            let block = self.blocks.get(index);
            if block.slot == NO_SLOT {
                self.shared.get(block.shared).set.for_each(|slot| call(block.hash, slot));
            } else {
                call(block.hash, block.slot);
            }
        }
    }

    fn find(&self, spread: Spread, hash: u64) -> Option<u32> {
        self.table.find(spread.of(hash), |&index| self.blocks.get(index).hash == hash).copied()
    }

    fn remove_block(&mut self, spread: Spread, hash: u64, index: u32) {
        if let Ok(entry) = self.table.find_entry(spread.of(hash), |&candidate| candidate == index) {
            entry.remove();
        }
        let last = (self.blocks.len() - 1) as u32;
        if index != last {
            let moved = *self.blocks.get(last);
            if let Some(number) = self.table.find_mut(spread.of(moved.hash), |&candidate| candidate == last) {
                *number = index;
            }
            if moved.slot == NO_SLOT {
                self.shared.get_mut(moved.shared).block = index;
            }
        }
        self.blocks.swap_remove(index);
        if self.table.len() * 4 < self.table.capacity() && self.table.capacity() > SMALL_TABLE {
            let blocks = &self.blocks;
            self.table.shrink_to(self.blocks.len() * 3 / 2, |&index| spread.of(blocks.get(index).hash));
        }
    }

    fn remove_shared(&mut self, index: u32) {
        let last = (self.shared.len() - 1) as u32;
        if index != last {
            let block = self.shared.get(last).block;
            self.blocks.get_mut(block).shared = index;
        }
        if let Some(removed) = self.shared.swap_remove(index) {
            self.set_bytes -= removed.set.heap_bytes();
        }
    }
}

impl Holders {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(_) => 0,
            Self::List(slots) => slots.capacity() * size_of::<u32>(),
            Self::Bits(bits) => size_of_val::<[u64]>(bits),
        }
    }

    fn contains(&self, slot: u32) -> bool {
        match self {
            Self::Few(slots) => slots.contains(&slot),
            Self::List(slots) => slots.contains(&slot),
            Self::Bits(bits) => bits.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1),
        }
    }

    fn for_each(&self, mut call: impl FnMut(u32)) {
        match self {
            Self::Few(slots) => slots.iter().take_while(|&&slot| slot != NO_SLOT).for_each(|&slot| call(slot)),
            Self::List(slots) => slots.iter().for_each(|&slot| call(slot)),
            Self::Bits(bits) => {
                for (word, &bits) in bits.iter().enumerate() {
                    each_bit(word, bits, &mut call);
                }
            }
        }
    }

    fn add(&mut self, slot: u32, words: usize) {
        if self.contains(slot) {
            return;
        }
        match self {
            Self::Few(slots) => {
                if let Some(place) = slots.iter_mut().find(|place| **place == NO_SLOT) {
                    *place = slot;
                    return;
                }
                let mut list = Vec::with_capacity(8);
                list.extend_from_slice(slots);
                list.push(slot);
                *self = Self::List(list);
                self.prefer_bits(words);
            }
            Self::List(slots) => {
                slots.push(slot);
                self.prefer_bits(words);
            }
            Self::Bits(bits) => {
                let word = slot as usize / 64;
                if word >= bits.len() {
                    let mut longer = vec![0; words.max(word + 1)];
                    longer[..bits.len()].copy_from_slice(bits);
                    *bits = longer.into_boxed_slice();
                }
                bits[word] |= 1 << (slot % 64);
            }
        }
    }

    /// A list becomes a bit set as soon as that is no bigger: it is intersected faster.
    fn prefer_bits(&mut self, words: usize) {
        let Self::List(slots) = self else { return };
        let words = slots.iter().fold(words, |words, &slot| words.max(slot as usize / 64 + 1));
        if slots.len() < 2 * words {
            return;
        }
        let mut bits = vec![0_u64; words];
        for &slot in slots.iter() {
            bits[slot as usize / 64] |= 1 << (slot % 64);
        }
        *self = Self::Bits(bits.into_boxed_slice());
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Few(slots) => {
                if let Some(place) = slots.iter().position(|&held| held == slot) {
                    slots[place..].rotate_left(1);
                    slots[3] = NO_SLOT;
                }
            }
            Self::List(slots) => {
                slots.retain(|&held| held != slot);
            }
            Self::Bits(bits) => {
                if let Some(word) = bits.get_mut(slot as usize / 64) {
                    *word &= !(1 << (slot % 64));
                }
            }
        }
        self.prefer_few();
    }

    /// Back to the form without memory of its own; one below its capacity, so that a holder that comes and goes does not convert each time.
    fn prefer_few(&mut self) {
        let count = match self {
            Self::Few(_) => return,
            Self::List(slots) => slots.len(),
            Self::Bits(bits) => bits.iter().map(|word| word.count_ones() as usize).sum(),
        };
        if count > 3 {
            return;
        }
        let mut few = [NO_SLOT; 4];
        let mut filled = 0;
        self.for_each(|slot| {
            few[filled] = slot;
            filled += 1;
        });
        *self = Self::Few(few);
    }

    /// The last holder left, when there is one only.
    fn only(&self) -> Option<u32> {
        match self {
            Self::Few([only, NO_SLOT, ..]) => Some(*only),
            _ => None,
        }
    }
}

fn keep(alive: &[u64], next: &mut [u64], slot: u32) {
    let word = slot as usize / 64;
    // A slot beyond the row of words was added after the caller took their number.
    if let (Some(alive), Some(next)) = (alive.get(word), next.get_mut(word)) {
        *next |= alive & (1 << (slot % 64));
    }
}

/// Calls back with the number of each bit set in word number `word`.
pub(super) fn each_bit(word: usize, mut bits: u64, mut call: impl FnMut(u32)) {
    while bits != 0 {
        call(word as u32 * 64 + bits.trailing_zeros());
        bits &= bits - 1;
    }
}
