//! Which endpoint was sent which blocks: the index that needs no help from the engines.
//!
//! Each endpoint has a least-recently-used list of the blocks it was sent, sized as its engine's cache, so that what the list forgot the engine has
//! probably forgotten too (`policy.md`: as good as an exact index at 1.0 × the real capacity, with one router). A map shared by all endpoints says who
//! holds a block, once per distinct block.
//!
//! A chained hash names a whole prefix, so the blocks of a prompt can be grouped by their place in it: the first of each `GROUP` blocks chooses the shard
//! of the map for all of them, in every prompt alike. A change then takes one lock for a group, not one for a block, and the processor can wait for
//! several cache misses at once.
//!
//! An endpoint never has a gap: it holds the first blocks of a prompt, or none. So matching and noting do not walk along a prompt, they bisect it, and
//! cost little more for one of a thousand blocks than for one of ten, but for the blocks that are new.
//!
//! Locks: a writer holds the list of its own endpoint for one call and one shard of the map for a few blocks; a reader holds one shard for one
//! look-up. Lists are always taken before shards, never two of a kind, so no order can dead-lock, and no reader waits for more than a few blocks' change.
//! A block that its endpoint already holds is refreshed without touching the map: hot prefixes do not make readers and writers meet.

mod holders;
mod lru;
mod slab;
mod spread;
mod table;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use smallvec::{SmallVec, smallvec};

use holders::Shard;
use lru::{Changes, Lru};
use spread::Spread;
use writer::Writer;

/// Parts of the map. More than cores that a picker has; a part's table is small enough to grow without a noticeable pause.
const SHARDS: usize = 128;

/// Blocks in a row of a prompt that are in one part of the map.
const GROUP: usize = 16;

/// Slots from here on are not indexed: memory grows with the highest slot.
const SLOT_LIMIT: u32 = 1 << 16;

/// Blocks taken from one endpoint at a time while over the byte budget.
const EVICTION_BATCH: usize = 64;

/// Endpoints whose state fits on the stack while matching.
const STACK_WORDS: usize = 64;

/// A bit an endpoint, by slot.
type Slots = SmallVec<[u64; STACK_WORDS]>;

/// Blocks of a prompt that are noted without memory from the heap.
const STACK_BLOCKS: usize = 64;

/// What the index holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexUsage {
    /// Distinct blocks.
    pub blocks: usize,
    /// (block, endpoint) pairs.
    pub pairs: usize,
    /// Bytes allocated, spare room included.
    pub bytes: usize,
    /// Pairs dropped since the start because an endpoint's capacity or the byte budget was full; pairs that left with their endpoint are not counted.
    pub evictions: u64,
}

impl IndexUsage {
    /// Of two indexes together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            pairs: self.pairs + other.pairs,
            bytes: self.bytes + other.bytes,
            evictions: self.evictions + other.evictions,
        }
    }
}

/// Blocks by the endpoints they were sent to, within a byte budget.
///
/// All methods take `&self` and may be called from many threads at once.
#[derive(Debug)]
pub struct ApproximateIndex {
    byte_budget: usize,
    spread: Spread,
    shards: Box<[RwLock<Shard>]>,
    /// By slot; grows, never shrinks (a few dozen bytes for each slot ever used).
    endpoints: ArcSwap<Vec<Arc<EndpointBlocks>>>,
    /// Serialises changes of `endpoints`.
    grow: Mutex<()>,
    bytes: AtomicUsize,
    evictions: AtomicU64,
}

/// One slot.
#[derive(Debug, Default)]
struct EndpointBlocks {
    /// Blocks held, readable without the lock.
    count: AtomicUsize,
    /// `None`: no endpoint has this slot.
    lru: Mutex<Option<Lru>>,
}

impl ApproximateIndex {
    /// An empty index that will not allocate more than `byte_budget` bytes, its fixed part of some 20 KiB and 100 bytes a slot included;
    /// one call may overshoot by what it adds before it evicts.
    pub fn new(byte_budget: usize) -> Self {
        Self {
            byte_budget,
            spread: Spread::random(),
            shards: (0..SHARDS).map(|_| RwLock::new(Shard::new())).collect(),
            endpoints: ArcSwap::default(),
            grow: Mutex::new(()),
            bytes: AtomicUsize::new(SHARDS * size_of::<RwLock<Shard>>()),
            evictions: AtomicU64::new(0),
        }
    }

    /// Gives an endpoint room for `capacity_blocks` blocks. For a slot in use this changes the room: what is too much goes, least recently used first.
    ///
    /// Slots are dense numbers: memory grows with the highest one. A slot of 65,536 or more is not indexed: nothing is recorded for it, and it matches nothing.
    pub fn add_endpoint(&self, slot: u32, capacity_blocks: usize) {
        if slot >= SLOT_LIMIT {
            return;
        }
        let endpoint = self.endpoint_or_new(slot);
        let mut guard = endpoint.lru.lock();
        let Some(lru) = guard.as_mut() else {
            *guard = Some(Lru::new(capacity_blocks));
            return;
        };
        lru.set_capacity(capacity_blocks);
        let excess = lru.len().saturating_sub(lru.capacity());
        self.evict(slot, &endpoint, lru, excess);
    }

    /// Forgets an endpoint with all its blocks; its slot can be given to another endpoint. Unknown slots are ignored.
    pub fn remove_endpoint(&self, slot: u32) {
        let endpoints = self.endpoints.load();
        let Some(endpoint) = endpoints.get(slot as usize) else {
            return;
        };
        // The lock is held to the end: a new endpoint with this slot must not be recorded into before the old one's traces are gone.
        let mut guard = endpoint.lru.lock();
        let Some(lru) = guard.take() else { return };
        let mut writer = Writer::new(self);
        for held in lru.iter() {
            writer.remove(held, slot);
        }
        drop(writer);
        endpoint.count.store(0, Relaxed);
        self.bytes.fetch_sub(lru.allocated(), Relaxed);
    }

    /// For each endpoint, how many blocks of `chain` it holds without a gap from the first on.
    ///
    /// `chain`: chained hashes of one sequence (`prefix::chain`), from its first block on. `matched` is resized to the highest slot ever added + 1 and
    /// overwritten; slots without an endpoint get 0. While another thread changes what is held, the answer may be of some moment in between for each slot.
    pub fn longest_match(&self, chain: &[u64], matched: &mut Vec<u32>) {
        let rows = self.endpoints.load().len();
        let words = rows.div_ceil(64);
        matched.clear();
        // Whole words: a slot added by another thread meanwhile may show up in the last one.
        matched.resize(words * 64, 0);
        let all: Slots = smallvec![u64::MAX; words];
        let whole = self.holders(chain, chain.len(), &all);
        holders::each_slot(&whole, |slot| matched[slot as usize] = chain.len() as u32);
        self.narrow(chain, (0, &all), (chain.len(), &whole), matched);
        matched.truncate(rows);
    }

    /// Finds how far between two depths those endpoints hold the chain that hold it to the first and not to the second.
    ///
    /// Who holds a block holds all before it, so where as many hold the deeper block, the same do. Each look-up halves the range: some for each depth
    /// where endpoints part instead of one for each block.
    fn narrow(
        &self,
        chain: &[u64],
        upper: (usize, &[u64]),
        lower: (usize, &[u64]),
        matched: &mut [u32],
    ) {
        if upper.0 == lower.0 || upper.1 == lower.1 {
            return;
        }
        if upper.0 + 1 == lower.0 {
            for (word, (above, below)) in upper.1.iter().zip(lower.1).enumerate() {
                // Nobody is noted for the depth 0, which all hold.
                let ended = if upper.0 == 0 { 0 } else { above & !below };
                holders::each_bit(word, ended, |slot| matched[slot as usize] = upper.0 as u32);
            }
            return;
        }
        let depth = usize::midpoint(upper.0, lower.0);
        let middle = self.holders(chain, depth, upper.1);
        self.narrow(chain, upper, (depth, &middle), matched);
        self.narrow(chain, (depth, &middle), lower, matched);
    }

    /// Those of `among` that hold the first `depth` blocks of `chain`.
    fn holders(&self, chain: &[u64], depth: usize, among: &[u64]) -> Slots {
        let mut holders: Slots = smallvec![0; among.len()];
        match depth.checked_sub(1) {
            None => holders.copy_from_slice(among),
            Some(last) => {
                let shard = self.shard_of(chain[last / GROUP * GROUP]);
                self.shards[shard as usize].read().intersect(
                    self.spread,
                    chain[last],
                    among,
                    &mut holders,
                );
            }
        }
        holders
    }

    /// Notes that an endpoint is sent a prompt: its blocks become the most recently used, the first block last, so that a prefix outlives its tail.
    ///
    /// `chain`: as for [`Self::longest_match`]. Only as many blocks as the endpoint has room for are noted, from the first on. A slot without an endpoint is ignored: it may have left since the choice.
    pub fn record(&self, slot: u32, chain: &[u64]) {
        let endpoints = self.endpoints.load();
        let Some(endpoint) = endpoints.get(slot as usize) else {
            return;
        };
        let words = endpoints.len().div_ceil(64);
        {
            let mut guard = endpoint.lru.lock();
            let Some(lru) = guard.as_mut() else { return };
            let before = lru.allocated();
            let (mut added, mut evicted) = (Changes::new(), Changes::new());
            let shard_of = |group: usize| self.shard_of(chain[group * GROUP]);
            let chain = &chain[..chain.len().min(lru.capacity())];
            lru.record(self.spread, chain, shard_of, &mut added, &mut evicted);
            // Evictions first, a block before the one it hung below, and additions from the first block on: at no moment does the map show a gap.
            let mut writer = Writer::new(self);
            for run in evicted.chunk_by(|left, right| left.shard == right.shard) {
                writer.warm(run);
                for &held in run {
                    writer.remove(held, slot);
                }
            }
            for run in added.chunk_by(|left, right| left.shard == right.shard) {
                writer.warm(run);
                for &held in run {
                    writer.add(held, slot, words);
                }
            }
            drop(writer);
            let evicted = evicted.len() as u64;
            endpoint.count.store(lru.len(), Relaxed);
            self.account(before, lru.allocated());
            if evicted > 0 {
                self.evictions.fetch_add(evicted, Relaxed);
            }
        }
        if self.bytes.load(Relaxed) > self.byte_budget {
            self.enforce_budget(&endpoints);
        }
    }

    /// What the index holds now.
    pub fn usage(&self) -> IndexUsage {
        IndexUsage {
            blocks: self.shards.iter().map(|shard| shard.read().len()).sum(),
            pairs: self
                .endpoints
                .load()
                .iter()
                .map(|endpoint| endpoint.count.load(Relaxed))
                .sum(),
            bytes: self.bytes.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
        }
    }

    /// Blocks that an endpoint holds.
    pub fn blocks_of(&self, slot: u32) -> usize {
        self.endpoints
            .load()
            .get(slot as usize)
            .map_or(0, |endpoint| endpoint.count.load(Relaxed))
    }

    /// The part of the map for the group of blocks that `first` begins.
    fn shard_of(&self, first: u64) -> u32 {
        (self.spread.of(first) >> 24) as u32 % SHARDS as u32
    }

    fn account(&self, before: usize, after: usize) {
        if after > before {
            self.bytes.fetch_add(after - before, Relaxed);
        } else if before > after {
            self.bytes.fetch_sub(before - after, Relaxed);
        }
    }

    fn endpoint_or_new(&self, slot: u32) -> Arc<EndpointBlocks> {
        if let Some(endpoint) = self.endpoints.load().get(slot as usize) {
            return Arc::clone(endpoint);
        }
        let _growing = self.grow.lock();
        let mut endpoints = Vec::clone(&self.endpoints.load());
        let before = endpoints.len();
        if before <= slot as usize {
            endpoints.resize_with(slot as usize + 1, Arc::default);
            self.account(
                0,
                (endpoints.len() - before) * (size_of::<EndpointBlocks>() + 3 * size_of::<usize>()),
            );
        }
        let endpoint = Arc::clone(&endpoints[slot as usize]);
        self.endpoints.store(Arc::new(endpoints));
        endpoint
    }

    /// Drops an endpoint's `count` least recently used blocks. The caller holds the lock around `lru`.
    fn evict(&self, slot: u32, endpoint: &EndpointBlocks, lru: &mut Lru, count: usize) -> usize {
        let before = lru.allocated();
        let mut evicted = 0;
        let mut writer = Writer::new(self);
        while evicted < count {
            let Some(held) = lru.pop_oldest(self.spread) else {
                break;
            };
            writer.remove(held, slot);
            evicted += 1;
        }
        drop(writer);
        lru.compact();
        endpoint.count.store(lru.len(), Relaxed);
        self.account(before, lru.allocated());
        self.evictions.fetch_add(evicted as u64, Relaxed);
        evicted
    }

    /// Evicts until the budget holds, always from the endpoint that holds most: an endpoint with little keeps it, whatever the others do.
    fn enforce_budget(&self, endpoints: &[Arc<EndpointBlocks>]) {
        // With many endpoints, finding the largest costs more than a batch; take more at once.
        let batch = EVICTION_BATCH.max(endpoints.len() / 4);
        while self.bytes.load(Relaxed) > self.byte_budget {
            let largest = endpoints
                .iter()
                .enumerate()
                .max_by_key(|(_, endpoint)| endpoint.count.load(Relaxed));
            let Some((slot, endpoint)) = largest else {
                return;
            };
            if endpoint.count.load(Relaxed) == 0 {
                return;
            }
            // Without a list, or an empty one: another thread was faster, and the count says so by now.
            if let Some(lru) = endpoint.lru.lock().as_mut() {
                self.evict(slot as u32, endpoint, lru, batch);
            }
        }
    }
}

#[cfg(test)]
mod tests;
