//! Which endpoints hold which block: one shard of the map that all endpoints share.

use super::slab::Slab;
use super::spread::Spread;
use super::table::Table;

/// Marks an empty place in a short list.
const NO_SLOT: u32 = u32::MAX;

/// Set in `Block::holder` when it says where in `Shard::shared` the holders are. Slots are smaller.
const SHARED: u32 = 1 << 31;

/// Sets of holders allocated at a time: 512 bytes.
const SHARED_CHUNK: usize = 16;

/// Most of the blocks of a busy index have one holder, so that one is kept in place: 16 bytes with the table's mark, 21 to 24 with its spare room.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// In halves, which need no padding.
    hash: [u32; 2],
    /// The only holder, or `SHARED` and an index.
    holder: u32,
}

impl Block {
    fn new(hash: u64, holder: u32) -> Self {
        Self {
            hash: [hash as u32, (hash >> 32) as u32],
            holder,
        }
    }

    fn hash(&self) -> u64 {
        u64::from(self.hash[0]) | u64::from(self.hash[1]) << 32
    }

    /// Index into `Shard::shared`, unless there is one holder only.
    fn shared(&self) -> Option<u32> {
        (self.holder & SHARED != 0).then_some(self.holder & !SHARED)
    }
}

/// The holders of a block that has, or had, several.
#[derive(Debug)]
struct Shared {
    /// The block they belong to.
    hash: u64,
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
    blocks: Table<Block>,
    shared: Slab<Shared, SHARED_CHUNK>,
    /// Heap bytes of the lists and bit sets.
    set_bytes: usize,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            blocks: Table::new(),
            shared: Slab::new(),
            set_bytes: 0,
        }
    }

    /// Distinct blocks.
    pub(super) const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes on the heap.
    pub(super) fn allocated(&self) -> usize {
        self.blocks.allocated() + self.shared.allocated() + self.set_bytes
    }

    /// Loads what adding or removing a block will need first. Without branches between, the processor waits for the memory of many blocks at once.
    pub(super) fn warm(&self, spread: Spread, hash: u64) -> u32 {
        self.blocks.warm(spread.of(hash))
    }

    /// Adds a holder; `words` is the length of a bit set that covers all endpoints. Idempotent.
    pub(super) fn add(&mut self, spread: Spread, hash: u64, slot: u32, words: usize) {
        let Some(place) = self.find(spread, hash) else {
            self.blocks
                .insert(spread.of(hash), Block::new(hash, slot), |block| {
                    spread.of(block.hash())
                });
            return;
        };
        let block = *self.blocks.get(place);
        if let Some(shared) = block.shared() {
            self.change(shared, |set| set.add(slot, words));
        } else if block.holder != slot {
            let set = Holders::Few([block.holder, slot, NO_SLOT, NO_SLOT]);
            let shared = self.shared.push(Shared { hash, set });
            self.blocks.get_mut(place).holder = SHARED | shared;
        }
    }

    /// Removes a holder, and the block with its last one. Idempotent.
    pub(super) fn remove(&mut self, spread: Spread, hash: u64, slot: u32) {
        let Some(place) = self.find(spread, hash) else {
            return;
        };
        let block = *self.blocks.get(place);
        if let Some(shared) = block.shared() {
            self.change(shared, |set| set.remove(slot));
            if let Some(only) = self.shared.get(shared).set.only() {
                self.blocks.get_mut(place).holder = only;
                self.remove_shared(spread, shared);
            }
        } else if block.holder == slot {
            self.blocks.remove(place, |block| spread.of(block.hash()));
        }
    }

    /// Writes into `next`, all 0 before, the endpoints of `alive` that hold the block. Both have the same length.
    pub(super) fn intersect(&self, spread: Spread, hash: u64, alive: &[u64], next: &mut [u64]) {
        let Some(place) = self.find(spread, hash) else {
            return;
        };
        let block = self.blocks.get(place);
        let Some(shared) = block.shared() else {
            keep(alive, next, block.holder);
            return;
        };
        match &self.shared.get(shared).set {
            Holders::Bits(bits) => {
                for (word, (next, alive)) in next.iter_mut().zip(alive).enumerate() {
                    *next = alive & bits.get(word).copied().unwrap_or(0);
                }
            }
            set => set.for_each(|slot| keep(alive, next, slot)),
        }
    }

    /// Calls back for each (block, holder).
    #[cfg(test)]
    pub(super) fn for_each(&self, mut call: impl FnMut(u64, u32)) {
        for block in self.blocks.iter() {
            match block.shared() {
                Some(shared) => self
                    .shared
                    .get(shared)
                    .set
                    .for_each(|slot| call(block.hash(), slot)),
                None => call(block.hash(), block.holder),
            }
        }
    }

    fn find(&self, spread: Spread, hash: u64) -> Option<usize> {
        self.blocks
            .find(spread.of(hash), |block| block.hash() == hash)
    }

    fn change(&mut self, shared: u32, change: impl FnOnce(&mut Holders)) {
        let set = &mut self.shared.get_mut(shared).set;
        let before = set.heap_bytes();
        change(set);
        let after = set.heap_bytes();
        self.set_bytes = self.set_bytes + after - before;
    }

    fn remove_shared(&mut self, spread: Spread, index: u32) {
        let last = (self.shared.len() - 1) as u32;
        if index != last {
            let hash = self.shared.get(last).hash;
            if let Some(place) = self.find(spread, hash) {
                self.blocks.get_mut(place).holder = SHARED | index;
            }
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
            Self::Bits(bits) => bits
                .get(slot as usize / 64)
                .is_some_and(|word| word >> (slot % 64) & 1 == 1),
        }
    }

    fn for_each(&self, mut call: impl FnMut(u32)) {
        match self {
            Self::Few(slots) => slots
                .iter()
                .take_while(|&&slot| slot != NO_SLOT)
                .for_each(|&slot| call(slot)),
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
        let words = slots
            .iter()
            .fold(words, |words, &slot| words.max(slot as usize / 64 + 1));
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

/// Calls back with the number of each bit set.
pub(super) fn each_slot(words: &[u64], mut call: impl FnMut(u32)) {
    for (word, &bits) in words.iter().enumerate() {
        each_bit(word, bits, &mut call);
    }
}

/// Calls back with the number of each bit set in word number `word`.
pub(super) fn each_bit(word: usize, mut bits: u64, mut call: impl FnMut(u32)) {
    while bits != 0 {
        call(word as u32 * 64 + bits.trailing_zeros());
        bits &= bits - 1;
    }
}
