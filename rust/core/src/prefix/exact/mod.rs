//! Which endpoint holds which blocks, as the engines themselves tell.
//!
//! **A block is a path.** Each block has a slot, which stands for the whole prefix that ends there: the same content after the same blocks, whoever announced it and under whatever
//! hash. Blocks announced together lie side by side, so most of them need no more than their content and a word: who holds them, and that they follow the slot before. Only where
//! a run begins there is an entry in a table. A block that nobody holds any more stays as long as others follow it: a hole, which storing it again heals.
//!
//! | part | subject | bytes |
//! |---|---|---|
//! | `slots`, `cell` | content hash and word of each block | 12 a block |
//! | `heads`, `paths` | where runs begin; what follows what | 11–21 a first block of a prompt, 25–40 another run |
//! | `sets`, `owners` | sets of lanes, each kept once; whose lane a number is | |
//! | `lanes` | engine's own hash → slot, per lane | 15–20 a pair |
//! | `writer`, `marks`, `hold`, `evict` | what announcements change; the byte budget | |
//! | `matches` | the query | |
//!
//! **Readers** take no lock, wait for nobody and are never waited for. They hold a root (directories of chunks, tables, sets and lanes) for the time of a query; what is taken out of
//! use meanwhile lives until they let go of it. Slots, entries and numbers of sets are changed in place under them; how a reader knows that what it found belongs together is argued
//! in `cell`, `heads` and `sets`. An answer is exact in this sense: a lane is never reported for a block that it did not hold at some time during the query, and always for a block
//! that it held throughout. (A query whose slots are filled again under its eyes begins anew; sixteen times in a row, and it answers that nobody holds anything.)
//!
//! **Isolation.** A publisher's announcements change entries of its own lanes, and which blocks those lanes hold; nothing that it claims changes what other lanes hold.
//! Hashes are mixed with secrets, so nobody can aim for one place.

mod cell;
mod evict;
mod hash;
mod heads;
mod hold;
mod lanes;
mod marks;
mod matches;
mod owners;
mod paths;
mod sets;
mod slots;
#[cfg(test)]
mod tests;
mod writer;

/// What the parts share with `tests/loom_exact.rs`, which brings its own.
mod atomics {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

pub use hash::{chain, content, root};
pub use matches::Matches;

use heads::Shards;
use owners::LaneMap;
use sets::Numbers;
use slots::Pages;
use writer::Writer;

/// Memory tiers that are told apart.
pub const MAX_TIERS: usize = 16;

/// Everything that an endpoint holds in one memory tier. Valid until its owner is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane(u16);

/// Number of a memory tier, below [`MAX_TIERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tier(pub u8);

impl Tier {
    /// The engine's own cache on the GPU.
    pub const GPU: Self = Self(0);
    /// Not announced, but expected of what was just routed.
    pub const SPECULATIVE: Self = Self(15);
}

/// What announced blocks follow.
#[derive(Clone, Copy, Debug)]
pub enum Parent {
    /// Nothing: the beginning of a chain, see [`root`].
    Root(u64),
    /// The block of this engine's hash, known in the same lane, or else in another one of the same owner, the lowest tier first.
    Block(u64),
}

/// A block as announced.
#[derive(Clone, Copy, Debug)]
pub struct StoredBlock {
    /// The engine's own hash.
    pub engine: u64,
    /// See [`content`].
    pub content: u64,
}

/// What a store did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Engine hashes that the lane did not know, or used for another block.
    pub new: usize,
    /// Engine hashes that the lane knew: each must be removed once more.
    pub repeated: usize,
    /// Blocks that were not stored because the budget has no room for them.
    pub cut: usize,
}

/// The parent is not known to the owner of the lane; nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownParent {
    /// The engine's hash of the parent.
    pub engine: u64,
}

impl fmt::Display for UnknownParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "blocks follow a block that was not announced or is gone (engine hash {:#018x})",
            self.engine
        )
    }
}

impl Error for UnknownParent {}

/// No more lanes can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanesExhausted {
    /// Lanes that can be open at once.
    pub most: usize,
}

impl fmt::Display for LanesExhausted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "all {} lanes (pairs of endpoint and memory tier) of the prefix index are in use; run fewer endpoints behind one picker",
            self.most
        )
    }
}

impl Error for LanesExhausted {}

/// How full the index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactUsage {
    /// Bytes on the heap.
    pub bytes: usize,
    /// Bytes that may be.
    pub budget_bytes: usize,
    /// Pairs of a block and a lane that holds it.
    pub pairs: usize,
    /// Pairs that were added since the beginning; those that are no longer there have left.
    pub admitted_pairs: u64,
    /// Distinct blocks that somebody holds.
    pub blocks: usize,
    /// Distinct sets of two lanes or more.
    pub sets: usize,
    /// Pairs that went for the budget, since the beginning.
    pub evicted_pairs: u64,
    /// Blocks that were not stored because the budget had no room even for their own announcement, since the beginning.
    pub cut_blocks: u64,
}

/// What a reader holds for the time of a query.
#[derive(Debug)]
struct Root {
    pages: Pages,
    firsts: Shards,
    branches: Shards,
    numbers: Numbers,
    lanes: Arc<LaneMap>,
}

/// Random numbers that keep hashes from being aimed.
#[derive(Clone, Copy, Debug)]
struct Secrets {
    engine: u64,
    key: u64,
    sets: u64,
}

impl Secrets {
    /// Places an engine's hash in its lane; no two share a place.
    #[inline]
    fn engine(self, engine: u64) -> u64 {
        let mixed = (engine ^ self.engine).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 32).wrapping_mul(self.sets | 1)
    }

    /// Places a key in a table.
    #[inline]
    fn key(self, key: u64) -> u64 {
        mix(self.key, key)
    }
}

#[inline]
fn mix(secret: u64, value: u64) -> u64 {
    let product = u128::from(value ^ secret) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// The index. Share it between threads; only stores, removals and the like wait for each other.
pub struct ExactIndex {
    root: Arc<ArcSwap<Root>>,
    secrets: Secrets,
    writer: Mutex<Writer>,
    usage: Usage,
}

/// [`ExactUsage`] as it was after the last change.
#[derive(Debug, Default)]
struct Usage {
    bytes: AtomicUsize,
    budget_bytes: AtomicUsize,
    pairs: AtomicUsize,
    admitted_pairs: AtomicU64,
    blocks: AtomicUsize,
    sets: AtomicUsize,
    evicted_pairs: AtomicU64,
    cut_blocks: AtomicU64,
}

impl fmt::Debug for ExactIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExactIndex")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl ExactIndex {
    /// An empty index that stays below `budget_bytes` of heap. (An empty one takes about 60 KB.)
    pub fn new(budget_bytes: usize) -> Self {
        let secrets = Secrets {
            engine: fastrand::u64(..),
            key: fastrand::u64(..),
            sets: fastrand::u64(..),
        };
        let writer = Writer::new(budget_bytes, secrets);
        let index = Self {
            root: writer.root(),
            secrets,
            writer: Mutex::new(writer),
            usage: Usage::default(),
        };
        index.change(|_| ());
        index
    }

    /// The lane of an owner (slot of an endpoint in the pool, below 65,535) and a tier: the same one for the same pair.
    ///
    /// # Errors
    ///
    /// When 65,535 lanes are open.
    pub fn open(&self, owner: u32, tier: Tier) -> Result<Lane, LanesExhausted> {
        self.change(|writer| writer.open(owner, tier))
    }

    /// Blocks that the engine has stored, each following the one before. A repeated announcement of an engine's hash in a lane is counted.
    ///
    /// # Errors
    ///
    /// When the parent is not known; nothing is stored then.
    pub fn store(
        &self,
        lane: Lane,
        parent: Parent,
        blocks: &[StoredBlock],
    ) -> Result<Stored, UnknownParent> {
        self.change(|writer| writer.store(lane, parent, blocks))
    }

    /// Blocks that a lane is expected to hold: those of `contents`, content hashes from a root on, without the first `known`, which must be there. Their keys (see [`chain`]) stand
    /// for the engine's hashes: they take them back.
    pub fn store_path(&self, lane: Lane, root: u64, contents: &[u64], known: usize) -> Stored {
        self.change(|writer| writer.store_path(lane, root, contents, known))
    }

    /// A block announced without its tokens (a copy in another tier): it is known by the engine's hash from any lane of the same owner. `blocks` above 1: a bigger block of a slower
    /// tier, that covers as many blocks up to this one; those before it that nobody holds end it. Removed as one. Returns the blocks covered, 0 if the hash is unknown.
    pub fn hold(&self, lane: Lane, engine: u64, blocks: u32) -> usize {
        self.change(|writer| writer.hold(lane, engine, blocks))
    }

    /// As `store_path` into the lane of that owner and tier, unless another thread is changing the index: then nothing is stored. Lanes that cannot be opened store nothing.
    pub fn try_store_path(
        &self,
        owner: u32,
        tier: Tier,
        root: u64,
        contents: &[u64],
        known: usize,
    ) -> Option<Stored> {
        let writer = self.writer.try_lock()?;
        let store = |writer: &mut Writer| {
            let lane = writer.open(owner, tier);
            lane.map(|lane| writer.store_path(lane, root, contents, known))
        };
        Some(self.apply(writer, store).unwrap_or_default())
    }

    /// Blocks that the engine has removed. Returns those that the lane does not hold any more: the last of their announcements is gone.
    pub fn remove(&self, lane: Lane, engine: &[u64]) -> usize {
        self.change(|writer| writer.remove(lane, engine))
    }

    /// The lane holds nothing any more.
    pub fn clear(&self, lane: Lane) {
        self.change(|writer| writer.clear(lane));
    }

    /// The owner is gone, with all its lanes.
    pub fn close(&self, owner: u32) {
        self.change(|writer| writer.close(owner));
    }

    /// Another budget; evicts at once if it is below what is used.
    pub fn set_budget(&self, bytes: usize) {
        self.change(|writer| writer.budget = bytes);
    }

    /// How full the index is, as of the last change.
    pub fn usage(&self) -> ExactUsage {
        let usage = &self.usage;
        ExactUsage {
            bytes: usage.bytes.load(Ordering::Relaxed),
            budget_bytes: usage.budget_bytes.load(Ordering::Relaxed),
            pairs: usage.pairs.load(Ordering::Relaxed),
            admitted_pairs: usage.admitted_pairs.load(Ordering::Relaxed),
            blocks: usage.blocks.load(Ordering::Relaxed),
            sets: usage.sets.load(Ordering::Relaxed),
            evicted_pairs: usage.evicted_pairs.load(Ordering::Relaxed),
            cut_blocks: usage.cut_blocks.load(Ordering::Relaxed),
        }
    }

    /// How many of the leading blocks, given by their content hashes from a root on, each owner holds, each block in any tier, and the weights (one a tier) of the best tiers summed.
    pub fn matches(
        &self,
        root: u64,
        contents: &[u64],
        weights: &[f32; MAX_TIERS],
        out: &mut Matches,
    ) {
        /// Times that a query begins anew.
        const WALKS: usize = 16;
        for _ in 0..WALKS {
            let current = self.root.load();
            let lanes = &current.lanes;
            if matches::walk(&current, lanes, root, contents, weights, self.secrets, out).is_ok() {
                return;
            }
        }
        out.clear();
    }

    fn change<Answer>(&self, change: impl FnOnce(&mut Writer) -> Answer) -> Answer {
        self.apply(self.writer.lock(), change)
    }

    fn apply<Answer>(
        &self,
        mut writer: MutexGuard<Writer>,
        change: impl FnOnce(&mut Writer) -> Answer,
    ) -> Answer {
        let answer = change(&mut writer);
        writer.keep_budget();
        writer.finish();
        self.tell_usage(&writer);
        answer
    }

    fn tell_usage(&self, writer: &MutexGuard<Writer>) {
        let usage = &self.usage;
        usage.bytes.store(writer.bytes(), Ordering::Relaxed);
        usage.budget_bytes.store(writer.budget, Ordering::Relaxed);
        usage.pairs.store(writer.pairs, Ordering::Relaxed);
        usage
            .admitted_pairs
            .store(writer.admitted_pairs, Ordering::Relaxed);
        usage.blocks.store(writer.paths.held(), Ordering::Relaxed);
        usage.sets.store(writer.sets.len(), Ordering::Relaxed);
        usage
            .evicted_pairs
            .store(writer.evicted_pairs, Ordering::Relaxed);
        usage.cut_blocks.store(writer.cut_blocks, Ordering::Relaxed);
    }
}
