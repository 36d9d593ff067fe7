//! From a key to its slot: buckets of one cache line, in 1,024 shards that grow and shrink by themselves.
//!
//! A bucket has twelve tags of eight bits and twelve slots. The full key is in the slot and verified there. An entry that finds its bucket full goes to the next one, and each bucket
//! that it passed counts it, so a look-up knows whether to go on, and entries never move: a reader beside the writer does not miss one.
//! A shard that grows is built anew beside the old one, which readers keep until they have taken the new root.

use std::sync::Arc;

use super::atomics::{AtomicU32, AtomicU64, Ordering};

/// Shards, as a power of two.
const SHARD_BITS: u32 = if cfg!(test) { 3 } else { 10 };
const SHARDS: usize = 1 << SHARD_BITS;

/// Shards that are published together.
const GROUP: usize = if cfg!(test) { 4 } else { 32 };

/// Entries of a bucket.
const CELLS: usize = 12;

/// A shard grows when more than this part of its cells would be in use.
const FULLEST: (usize, usize) = (6, 7);

/// Twelve entries; the line is all that a look-up that misses reads.
#[repr(align(64))]
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// One byte an entry: 0 for none.
    tags: AtomicU64,
    more_tags: AtomicU32,
    /// Entries that belong here or further back and live further on.
    passed: AtomicU32,
    slots: [AtomicU32; CELLS],
}

impl Bucket {
    /// Cells whose tag is `tag`: the highest bit of each one's byte.
    #[inline]
    fn tagged(&self, tag: u8) -> (u64, u32) {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const REST: u64 = LOW * 0x7f;
        let first = self.tags.load(Ordering::Acquire) ^ (LOW * u64::from(tag));
        let second = self.more_tags.load(Ordering::Acquire) ^ (LOW as u32 * u32::from(tag));
        // A byte's carry stays in its own highest bit, so no neighbour is taken for a zero.
        (
            !(((first & REST) + REST) | first | REST),
            !(((second & REST as u32) + REST as u32) | second | REST as u32),
        )
    }

    /// The cell of the first entry of `tag` for which `is_it` holds for its slot.
    #[inline]
    fn find(&self, tag: u8, mut is_it: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let (mut first, mut second) = self.tagged(tag);
        while first != 0 {
            let cell = first.trailing_zeros() as usize / 8;
            let slot = self.slots[cell].load(Ordering::Relaxed);
            if is_it(slot) {
                return Some((cell, slot));
            }
            first &= first - 1;
        }
        while second != 0 {
            let cell = 8 + second.trailing_zeros() as usize / 8;
            let slot = self.slots[cell].load(Ordering::Relaxed);
            if is_it(slot) {
                return Some((cell, slot));
            }
            second &= second - 1;
        }
        None
    }

    fn set(&self, cell: usize, tag: u8, slot: u32) {
        self.slots[cell].store(slot, Ordering::Relaxed);
        if cell < 8 {
            let tags = self.tags.load(Ordering::Relaxed) & !(0xff << (cell * 8));
            self.tags
                .store(tags | u64::from(tag) << (cell * 8), Ordering::Release);
        } else {
            let shift = (cell - 8) * 8;
            let tags = self.more_tags.load(Ordering::Relaxed) & !(0xff << shift);
            self.more_tags
                .store(tags | u32::from(tag) << shift, Ordering::Release);
        }
    }
}

/// Buckets of one shard.
type Shard = Arc<[Bucket]>;

/// The shards as readers hold them.
#[derive(Clone, Debug)]
pub(super) struct Shards([Arc<[Shard; GROUP]>; SHARDS / GROUP]);

impl Shards {
    /// The first slot under `hash` for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = shard_of(hash);
        find(&self.0[shard / GROUP][shard % GROUP], hash, is_it).map(|found| found.2)
    }
}

#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARD_BITS)) as usize
}

#[inline]
fn home(hash: u64, buckets: usize) -> usize {
    ((((hash << SHARD_BITS) >> 32) * buckets as u64) >> 32) as usize
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// Bucket, cell and slot of an entry.
#[inline]
fn find(
    buckets: &[Bucket],
    hash: u64,
    mut is_it: impl FnMut(u32) -> bool,
) -> Option<(usize, usize, u32)> {
    let mut place = home(hash, buckets.len());
    let tag = tag_of(hash);
    for _ in 0..buckets.len() {
        let bucket = &buckets[place];
        if let Some((cell, slot)) = bucket.find(tag, &mut is_it) {
            return Some((place, cell, slot));
        }
        if bucket.passed.load(Ordering::Acquire) == 0 {
            return None;
        }
        place = after(place, buckets.len());
    }
    None
}

#[inline]
fn after(place: usize, buckets: usize) -> usize {
    if place + 1 == buckets { 0 } else { place + 1 }
}

/// Adds an entry to a shard that has a free cell.
fn put(buckets: &[Bucket], hash: u64, slot: u32) {
    let mut place = home(hash, buckets.len());
    loop {
        let bucket = &buckets[place];
        if let Some((cell, _)) = bucket.find(0, |_| true) {
            bucket.set(cell, tag_of(hash), slot);
            return;
        }
        bucket
            .passed
            .store(bucket.passed.load(Ordering::Relaxed) + 1, Ordering::Release);
        place = after(place, buckets.len());
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Shard>,
    lens: Vec<u32>,
    buckets: usize,
    /// One bit a group that is not what was last published.
    changed: u64,
    published: Shards,
}

impl Table {
    pub(super) fn new() -> Self {
        let none: Shard = Arc::default();
        let group: Arc<[Shard; GROUP]> = Arc::new(std::array::from_fn(|_| none.clone()));
        Self {
            shards: vec![none; SHARDS],
            lens: vec![0; SHARDS],
            buckets: 0,
            changed: 0,
            published: Shards(std::array::from_fn(|_| group.clone())),
        }
    }

    /// The shards as they were last published, or are at the beginning.
    pub(super) fn published(&self) -> &Shards {
        &self.published
    }

    /// Loads the line where a look-up begins; the result only keeps the load from being left out.
    #[inline]
    pub(super) fn warm(&self, hash: u64) -> u64 {
        let shard = &self.shards[shard_of(hash)];
        shard
            .get(home(hash, shard.len()))
            .map_or(0, |bucket| bucket.tags.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        find(&self.shards[shard_of(hash)], hash, is_it).map(|found| found.2)
    }

    /// Adds an entry that is not there. `hash_of` tells the hash of any slot in the table.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let number = shard_of(hash);
        let len = self.lens[number] as usize + 1;
        let buckets = self.shards[number].len();
        if len * FULLEST.1 > buckets * CELLS * FULLEST.0 {
            // Shards grow by different steps, so that they do not all grow at the same time.
            self.rebuild(number, buckets * (22 + number % 8) / 16 + 1, hash_of);
        }
        put(&self.shards[number], hash, slot);
        self.lens[number] += 1;
    }

    /// Takes out the entry of a slot. Whether it was there.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let number = shard_of(hash);
        let buckets = &self.shards[number];
        let Some((place, cell, _)) = find(buckets, hash, |held| held == slot) else {
            return false;
        };
        buckets[place].set(cell, 0, 0);
        let mut passed = home(hash, buckets.len());
        while passed != place {
            let count = &buckets[passed].passed;
            count.store(count.load(Ordering::Relaxed) - 1, Ordering::Release);
            passed = after(passed, buckets.len());
        }
        self.lens[number] -= 1;
        let len = self.lens[number] as usize;
        if len * 5 < buckets.len() * CELLS * 2 && buckets.len() > 1 || len == 0 {
            self.rebuild(number, (len * 3).div_ceil(CELLS * 2), hash_of);
        }
        true
    }

    fn rebuild(&mut self, number: usize, buckets: usize, hash_of: impl Fn(u32) -> u64) {
        let new: Shard = (0..buckets).map(|_| Bucket::default()).collect();
        // A few buckets at a time: their keys lie anywhere, and are waited for together.
        for old in self.shards[number].chunks(4) {
            let mut entries = [(0, 0); 4 * CELLS + 1];
            let mut count = 0;
            for bucket in old {
                let tags = u128::from(bucket.tags.load(Ordering::Relaxed))
                    | u128::from(bucket.more_tags.load(Ordering::Relaxed)) << 64;
                for cell in 0..CELLS {
                    entries[count].1 = bucket.slots[cell].load(Ordering::Relaxed);
                    count += usize::from((tags >> (cell * 8)) as u8 != 0);
                }
            }
            for entry in &mut entries[..count] {
                entry.0 = hash_of(entry.1);
            }
            for (hash, slot) in &entries[..count] {
                put(&new, *hash, *slot);
            }
        }
        self.buckets = self.buckets + buckets - self.shards[number].len();
        self.shards[number] = new;
        self.changed |= 1 << (number / GROUP);
    }

    /// The shards, if they are others than those last asked for.
    pub(super) fn changed(&mut self) -> Option<Shards> {
        if self.changed == 0 {
            return None;
        }
        for group in 0..SHARDS / GROUP {
            if self.changed >> group & 1 != 0 {
                self.published.0[group] = Arc::new(std::array::from_fn(|at| {
                    self.shards[group * GROUP + at].clone()
                }));
            }
        }
        self.changed = 0;
        Some(self.published.clone())
    }

    /// Bytes that a few shards take when they grow.
    pub(super) fn growth(&self) -> usize {
        self.buckets * size_of::<Bucket>() * 8 / SHARDS
    }

    /// Entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lens.iter().map(|len| *len as usize).sum()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.buckets * size_of::<Bucket>() + SHARDS * (2 * size_of::<Shard>() + size_of::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Few shards and homes, so that entries pass buckets.
    fn clumsy(slot: u32) -> u64 {
        u64::from(slot % 5) << 53 | u64::from(slot % 3)
    }

    proptest! {
        #[test]
        fn holds_what_was_put_in_and_not_taken_out(operations in proptest::collection::vec((any::<bool>(), 0u32..300), 0..800)) {
            let mut table = Table::new();
            let mut model = BTreeSet::new();
            for (add, slot) in operations {
                if add && model.insert(slot) {
                    table.insert(clumsy(slot), slot, clumsy);
                } else if !add {
                    prop_assert_eq!(table.remove(clumsy(slot), slot, clumsy), model.remove(&slot));
                }
            }
            let shards = table.changed().unwrap_or_else(|| table.published().clone());
            prop_assert_eq!(table.len(), model.len());
            for slot in 0..300 {
                prop_assert_eq!(table.find(clumsy(slot), |held| held == slot).is_some(), model.contains(&slot));
                prop_assert_eq!(shards.find(clumsy(slot), |held| held == slot).is_some(), model.contains(&slot));
            }
            for slot in model {
                table.remove(clumsy(slot), slot, clumsy);
            }
            prop_assert_eq!(table.buckets, 0);
        }
    }
}
