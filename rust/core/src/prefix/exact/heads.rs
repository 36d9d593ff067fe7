//! Where runs begin: blocks that do not follow the slot before them, found by their parent and content. One entry a run, so it stays in caches.
//!
//! An entry is one number: 32 bits that must agree (the parent's slot, or bits of the hash where there is no parent), and the slot. It never moves while its shard is in use. A shard
//! that gets too small is replaced by a bigger one, which readers are shown before anything else changes; then the old one is marked as retired, and from there on its hits do not
//! count.
//!
//! A reader that finds an entry notes the version of the slot's neighbourhood (see `cell`) and then looks whether the entry is still there and its shard in use. Entries are taken
//! out before their slots are freed, and a shard is retired before any further entry is, so the slot belonged to this head when the version was noted, or the version has been
//! raised since and the second look at it will tell. The entry was put in after its parent got its slot: is the version around the *parent* unchanged after the entry was read,
//! then the parent is the block that the reader came from.

use std::sync::Arc;

use super::atomics::{AtomicBool, AtomicU64, Ordering};

/// Low half of an entry that was taken out; that of slot `s` is `s + 2`, that of a cell never used 0.
const DELETED: u32 = 1;

/// Cells of the smallest shard.
const LEAST: usize = 16;

/// What readers see of a part of the table.
#[derive(Debug)]
pub(super) struct Shard {
    retired: AtomicBool,
    cells: Box<[AtomicU64]>,
}

/// An entry that a reader has found.
pub(super) struct Found<'a> {
    shard: &'a Shard,
    cell: &'a AtomicU64,
    entry: u64,
}

impl Found<'_> {
    #[inline]
    pub(super) fn slot(&self) -> u32 {
        self.entry as u32 - 2
    }

    /// Whether the entry is there now, or was until its shard was replaced just now.
    #[inline]
    pub(super) fn still_there(&self) -> bool {
        self.cell.load(Ordering::Acquire) == self.entry
            && !self.shard.retired.load(Ordering::Acquire)
    }
}

impl Shard {
    fn new(cells: usize) -> Self {
        Self {
            retired: AtomicBool::new(false),
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Cells from the one that a hash names on, all of them.
    #[inline]
    fn from(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let home = ((u128::from(hash) * self.cells.len() as u128) >> 64) as usize;
        self.cells[home..].iter().chain(&self.cells[..home])
    }

    /// Calls `meet` with each entry that may be the one, until it returns something.
    #[inline]
    fn find<Answer>(
        &self,
        hash: u64,
        check: u32,
        mut meet: impl FnMut(Found) -> Option<Answer>,
    ) -> Option<Answer> {
        for cell in self.from(hash) {
            let entry = cell.load(Ordering::Acquire);
            if entry as u32 == 0 {
                return None;
            }
            if (entry >> 32) as u32 == check && entry as u32 != DELETED {
                let found = Found {
                    shard: self,
                    cell,
                    entry,
                };
                if let Some(answer) = meet(found) {
                    return Some(answer);
                }
            }
        }
        None
    }

    /// Puts an entry where there is room; true if the cell was never used.
    fn put(&self, hash: u64, entry: u64) -> bool {
        for cell in self.from(hash) {
            let old = cell.load(Ordering::Relaxed) as u32;
            if old <= DELETED {
                cell.store(entry, Ordering::Release);
                return old == 0;
            }
        }
        unreachable!("room was made before the entry");
    }
}

/// The table as readers hold it.
#[derive(Clone, Debug)]
pub(super) struct Shards(Arc<[Arc<Shard>]>);

impl Shards {
    /// Calls `meet` with each entry that may be the one, until it returns something. The shard is named by the low bits of the hash, the place in it by the high ones.
    #[inline]
    pub(super) fn find<Answer>(
        &self,
        hash: u64,
        check: u32,
        meet: impl FnMut(Found) -> Option<Answer>,
    ) -> Option<Answer> {
        self.0[hash as usize & (self.0.len() - 1)].find(hash, check, meet)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    entries: usize,
    /// Cells that are not free, entries and what was taken out.
    used: usize,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Heads {
    shards: Shards,
    counts: Vec<Count>,
    changed: bool,
    retiring: Vec<Arc<Shard>>,
    cells: usize,
}

impl Heads {
    /// `shards`: a power of two; they grow one by one.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: Shards((0..shards).map(|_| Arc::new(Shard::new(LEAST))).collect()),
            counts: vec![Count::default(); shards],
            changed: false,
            retiring: Vec::new(),
            cells: shards * LEAST,
        }
    }

    pub(super) fn published(&self) -> &Shards {
        &self.shards
    }

    /// The slot of a head; `is_it` compares what the entry does not say.
    #[inline]
    pub(super) fn find(&self, hash: u64, check: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.shards.find(hash, check, |found| {
            Some(found.slot()).filter(|slot| is_it(*slot))
        })
    }

    /// Makes room for one more entry beside `hash`. True: a shard was replaced, and must be published before anything else changes.
    #[must_use]
    pub(super) fn make_room(&mut self, hash: u64, hash_of: impl Fn(u32, u32) -> u64) -> bool {
        let at = hash as usize & (self.counts.len() - 1);
        let cells = self.shards.0[at].cells.len();
        let count = self.counts[at];
        if (count.used + 1) * 4 <= cells * 3 {
            return false;
        }
        self.rebuild(at, (count.entries * 2).max(LEAST), hash_of);
        true
    }

    /// As [`make_room`](Self::make_room), for a shard that became too big.
    #[must_use]
    pub(super) fn give_back(&mut self, hash_of: impl Fn(u32, u32) -> u64) -> bool {
        let total: usize = self.counts.iter().map(|count| count.entries).sum();
        if total * 8 >= self.cells || self.cells <= self.counts.len() * LEAST * 2 {
            return false;
        }
        for at in 0..self.counts.len() {
            let cells = self.counts[at].entries * 2;
            self.rebuild(at, cells.max(LEAST), &hash_of);
        }
        true
    }

    fn rebuild(&mut self, at: usize, cells: usize, hash_of: impl Fn(u32, u32) -> u64) {
        let shard = Shard::new(cells);
        for cell in &self.shards.0[at].cells {
            let entry = cell.load(Ordering::Relaxed);
            if entry as u32 > DELETED {
                shard.put(hash_of((entry >> 32) as u32, entry as u32 - 2), entry);
            }
        }
        self.cells = self.cells + cells - self.shards.0[at].cells.len();
        self.counts[at].used = self.counts[at].entries;
        let mut shards = self.shards.0.to_vec();
        self.retiring
            .push(std::mem::replace(&mut shards[at], Arc::new(shard)));
        self.shards = Shards(shards.into());
        self.changed = true;
    }

    /// Adds an entry; there is room for it.
    pub(super) fn insert(&mut self, hash: u64, check: u32, slot: u32) {
        let at = hash as usize & (self.counts.len() - 1);
        let entry = u64::from(check) << 32 | u64::from(slot + 2);
        let fresh = self.shards.0[at].put(hash, entry);
        self.counts[at].used += usize::from(fresh);
        self.counts[at].entries += 1;
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, hash: u64, check: u32, slot: u32) {
        let at = hash as usize & (self.counts.len() - 1);
        let removed = self.shards.0[at].find(hash, check, |found| {
            (found.slot() == slot).then(|| {
                let deleted = u64::from(DELETED);
                found.cell.store(deleted, Ordering::Release);
            })
        });
        debug_assert!(removed.is_some(), "a head in a slot is in the table");
        self.counts[at].entries -= 1;
    }

    /// The table, if it is another than the one last asked for.
    pub(super) fn changed(&mut self) -> Option<Shards> {
        std::mem::take(&mut self.changed).then(|| self.shards.clone())
    }

    /// Ends what was replaced, after readers can see what replaced it.
    pub(super) fn retire(&mut self) {
        for shard in self.retiring.drain(..) {
            shard.retired.store(true, Ordering::Release);
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.cells * size_of::<u64>()
            + self.counts.len()
                * (size_of::<Shard>() + 2 * size_of::<usize>() + size_of::<Arc<Shard>>())
            + self.counts.capacity() * size_of::<Count>()
            + self.retiring.capacity() * size_of::<Arc<Shard>>()
    }

    /// Bytes that `heads` more take at most: every shard may have to grow.
    pub(super) fn bytes_for(&self, heads: usize) -> usize {
        let cells: usize = if heads == 1 {
            self.cells / self.counts.len() * 2
        } else {
            self.cells.min(heads * self.cells / self.counts.len() * 2) + heads * 2
        };
        (cells + LEAST) * size_of::<u64>()
    }
}
