//! All that the writer has, under one mutex: what announcements do to slots, table, sets and lanes.

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use super::evict::Room;
use super::lanes::LaneState;
use super::owners::Owners;
use super::sets::{Numbers, Sets};
use super::slots::{Pages, Slots};
use super::table::Table;
use super::{
    Lane, LanesExhausted, Parent, Root, Secrets, Stored, StoredBlock, Tier, UnknownParent, chain,
};

/// Blocks whose memory is asked for before the first of them is worked on.
const BATCH: usize = 64;

/// A block to be marked as held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// The engine's hash, mixed.
    pub(super) mixed: u64,
    pub(super) key: u64,
    /// Key of the block before; none for the first of a prompt and where it is not known.
    pub(super) parent: Option<u64>,
}

/// The last change of a holder word: blocks of a run mostly share theirs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) from: u32,
    pub(super) to: u32,
}

#[derive(Debug)]
pub(super) struct Writer {
    /// What readers see.
    root: Arc<ArcSwap<Root>>,
    pub(super) secrets: Secrets,
    pub(super) slots: Slots,
    pub(super) table: Table,
    pub(super) sets: Sets,
    pub(super) lanes: Vec<LaneState>,
    pub(super) owners: Owners,
    /// Key of the parent of a block whose parent is not in the slot before.
    pub(super) parents: HashMap<u32, u64>,
    items: Vec<Item>,
    /// Bytes of all lanes.
    pub(super) lane_bytes: usize,
    pub(super) pairs: usize,
    pub(super) admitted_pairs: u64,
    pub(super) budget: usize,
    pub(super) evicted_pairs: u64,
    pub(super) cut_blocks: u64,
    /// Chunk at which eviction goes on.
    pub(super) hand: u32,
}

impl Writer {
    pub(super) fn new(budget: usize, secrets: Secrets) -> Self {
        let table = Table::new();
        let root = Root {
            pages: Pages::default(),
            shards: table.published().clone(),
            numbers: Numbers::default(),
            lanes: Arc::default(),
        };
        Self {
            root: Arc::new(ArcSwap::from_pointee(root)),
            secrets,
            slots: Slots::default(),
            table,
            sets: Sets::new(secrets.sets),
            lanes: Vec::new(),
            owners: Owners::default(),
            parents: HashMap::new(),
            items: Vec::new(),
            lane_bytes: 0,
            pairs: 0,
            admitted_pairs: 0,
            budget,
            evicted_pairs: 0,
            cut_blocks: 0,
            hand: 0,
        }
    }

    /// What readers see, shared with them.
    pub(super) fn root(&self) -> Arc<ArcSwap<Root>> {
        self.root.clone()
    }

    pub(super) fn open(&mut self, owner: u32, tier: Tier) -> Result<Lane, LanesExhausted> {
        let (lane, new) = self.owners.open(owner, tier)?;
        let at = usize::from(lane.0);
        if new {
            if at >= self.lanes.len() {
                self.lanes.resize_with(at + 1, LaneState::default);
            }
            self.lanes[at] = LaneState {
                owner,
                open: true,
                ..LaneState::default()
            };
        }
        Ok(lane)
    }

    /// The key that a chain goes on from; none at its beginning.
    fn parent(&self, lane: Lane, parent: Parent) -> Result<(u64, Option<u64>), UnknownParent> {
        match parent {
            Parent::Root(root) => Ok((root, None)),
            Parent::Block(engine) => {
                let slot = self.known(lane, engine).ok_or(UnknownParent { engine })?;
                let key = self.slots.key(slot);
                Ok((key, Some(key)))
            }
        }
    }

    /// Slot of a block by the engine's hash, in the lane or another one of its owner.
    pub(super) fn known(&self, lane: Lane, engine: u64) -> Option<u32> {
        let mixed = self.secrets.engine(engine);
        let own = self.lanes.get(usize::from(lane.0))?;
        let found = own.entries.find(mixed).map(|place| own.entries.slot(place));
        found.ok().or_else(|| {
            self.owners.lanes(own.owner).iter().find_map(|(_, other)| {
                let entries = &self.lanes[usize::from(*other)].entries;
                entries.find(mixed).map(|place| entries.slot(place)).ok()
            })
        })
    }

    pub(super) fn store(
        &mut self,
        lane: Lane,
        parent: Parent,
        blocks: &[StoredBlock],
    ) -> Result<Stored, UnknownParent> {
        let (mut key, mut before) = self.parent(lane, parent)?;
        let secrets = self.secrets;
        let items = blocks.iter().map(|block| {
            key = chain(key, block.content);
            Item {
                mixed: secrets.engine(block.engine),
                key,
                parent: before.replace(key),
            }
        });
        Ok(self.store_items(lane, items))
    }

    pub(super) fn store_keys(&mut self, lane: Lane, keys: &[u64]) -> Stored {
        let secrets = self.secrets;
        let mut before = None;
        let items = keys.iter().map(|key| Item {
            mixed: secrets.engine(*key),
            key: *key,
            parent: before.replace(*key),
        });
        self.store_items(lane, items)
    }

    fn store_items(&mut self, lane: Lane, blocks: impl ExactSizeIterator<Item = Item>) -> Stored {
        let mut stored = Stored::default();
        let at = usize::from(lane.0);
        if !self.lanes.get(at).is_some_and(|lane| lane.open) {
            return stored;
        }
        let mut blocks = blocks;
        let mut items = std::mem::take(&mut self.items);
        let mut previous = None;
        let mut change = Change::default();
        while blocks.len() > 0 {
            match self.make_room(at, blocks.len().min(BATCH)) {
                Room::Enough => {}
                Room::Evicted => (previous, change) = (None, Change::default()),
                Room::None => {
                    stored.cut = blocks.len();
                    self.cut_blocks += blocks.len() as u64;
                    break;
                }
            }
            items.clear();
            items.extend(blocks.by_ref().take(BATCH));
            let bytes = self.lanes[at].bytes();
            self.lanes[at].entries.reserve(items.len());
            self.warm(at, &items);
            for item in &items {
                previous = self.store_item(at, *item, previous, &mut change, &mut stored);
            }
            self.lane_bytes = self.lane_bytes + self.lanes[at].bytes() - bytes;
        }
        self.items = items;
        stored
    }

    /// Loads what a batch will need, all at once: one wait for memory instead of one a block.
    fn warm(&self, at: usize, items: &[Item]) {
        let entries = &self.lanes[at].entries;
        let mut loaded = 0;
        for item in items {
            loaded ^= entries.warm(item.mixed) ^ self.table.warm(self.secrets.key(item.key));
        }
        black_box(loaded);
    }

    fn store_item(
        &mut self,
        at: usize,
        item: Item,
        previous: Option<u32>,
        change: &mut Change,
        stored: &mut Stored,
    ) -> Option<u32> {
        match self.lanes[at].entries.find(item.mixed) {
            Ok(place) => {
                let slot = self.lanes[at].entries.slot(place);
                if self.slots.key(slot) == item.key {
                    *self.lanes[at].repeats.entry(item.mixed).or_default() += 1;
                    stored.repeated += 1;
                    return Some(slot);
                }
                // The engine uses its hash for another block now; what it said before no longer holds.
                self.lanes[at].repeats.remove(&item.mixed);
                self.uncover(at, item.mixed);
                self.unmark(at, slot, &mut Change::default());
                let slot = self.mark(at, item, previous.filter(|other| *other != slot), change)?;
                self.lanes[at].entries.set_slot(place, slot);
                stored.new += 1;
                Some(slot)
            }
            Err(place) => {
                let slot = self.mark(at, item, previous, change)?;
                self.lanes[at].entries.insert(place, item.mixed, slot);
                stored.new += 1;
                Some(slot)
            }
        }
    }

    pub(super) fn remove(&mut self, lane: Lane, engine: &[u64]) -> usize {
        let at = usize::from(lane.0);
        if at >= self.lanes.len() {
            return 0;
        }
        let bytes = self.lanes[at].bytes();
        let mut change = Change::default();
        let mut removed = 0;
        for batch in engine.chunks(BATCH) {
            self.warm_removal(at, batch);
            for engine in batch {
                let mixed = self.secrets.engine(*engine);
                let lane = &mut self.lanes[at];
                let Ok(place) = lane.entries.find(mixed) else {
                    continue;
                };
                if !lane.repeats.is_empty()
                    && let Some(more) = lane.repeats.get_mut(&mixed)
                {
                    *more -= 1;
                    if *more == 0 {
                        lane.repeats.remove(&mixed);
                    }
                    continue;
                }
                let slot = lane.entries.slot(place);
                lane.entries.remove(place);
                removed += self.uncover(at, mixed);
                removed += usize::from(self.unmark(at, slot, &mut change));
            }
        }
        self.lane_bytes = self.lane_bytes + self.lanes[at].bytes() - bytes;
        removed
    }

    fn warm_removal(&self, at: usize, batch: &[u64]) {
        let entries = &self.lanes[at].entries;
        let mut loaded = 0;
        for engine in batch {
            loaded ^= entries.warm(self.secrets.engine(*engine));
        }
        for engine in batch {
            if let Ok(place) = entries.find(self.secrets.engine(*engine)) {
                loaded ^= self.warm_slot(entries.slot(place));
            }
        }
        black_box(loaded);
    }

    fn warm_slot(&self, slot: u32) -> u64 {
        let key = self.slots.key(slot);
        u64::from(self.slots.word(slot)) ^ self.table.warm(self.secrets.key(key))
    }

    pub(super) fn clear(&mut self, lane: Lane) {
        let at = usize::from(lane.0);
        if at >= self.lanes.len() {
            return;
        }
        self.lane_bytes -= self.lanes[at].bytes();
        let lane = &mut self.lanes[at];
        let entries = std::mem::take(&mut lane.entries);
        let covers = std::mem::take(&mut lane.covers);
        lane.covered = 0;
        lane.repeats = HashMap::new();
        let mut slots: Vec<u32> = entries.slots().collect();
        drop(entries);
        slots.extend(covers.into_values().flatten());
        // In the order of memory: neighbours share their set, and a line is loaded once.
        slots.sort_unstable();
        let mut change = Change::default();
        for batch in slots.chunks(BATCH) {
            black_box(
                batch
                    .iter()
                    .fold(0, |loaded, slot| loaded ^ self.warm_slot(*slot)),
            );
            for slot in batch {
                self.unmark(at, *slot, &mut change);
            }
        }
        self.lanes[at].aliases = HashMap::new();
        self.lane_bytes += self.lanes[at].bytes();
    }

    pub(super) fn close(&mut self, owner: u32) {
        let lanes: Vec<u16> = self.owners.lanes(owner).iter().map(|lane| lane.1).collect();
        for lane in lanes {
            self.clear(Lane(lane));
            self.lane_bytes -= self.lanes[usize::from(lane)].bytes();
            self.lanes[usize::from(lane)] = LaneState::default();
        }
        self.owners.close(owner);
    }

    /// Ends a call: forgets sets that went out of use, and shows readers the directories that changed.
    pub(super) fn finish(&mut self) {
        self.sets.tidy();
        if self.parents.capacity() > 64 && self.parents.len() * 4 < self.parents.capacity() {
            self.parents.shrink_to(self.parents.len() * 2);
        }
        self.publish();
    }

    pub(super) fn publish(&mut self) {
        let pages = self.slots.changed();
        let shards = self.table.changed();
        let numbers = self.sets.changed();
        let lanes = self.owners.changed();
        if pages.is_none() && shards.is_none() && numbers.is_none() && lanes.is_none() {
            return;
        }
        let root = self.root.load();
        let root = Root {
            pages: pages.unwrap_or_else(|| root.pages.clone()),
            shards: shards.unwrap_or_else(|| root.shards.clone()),
            numbers: numbers.unwrap_or_else(|| root.numbers.clone()),
            lanes: lanes.unwrap_or_else(|| root.lanes.clone()),
        };
        self.root.store(Arc::new(root));
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes()
            + self.table.bytes()
            + self.sets.bytes()
            + self.owners.bytes()
            + self.parents.allocation_size()
            + self.lanes.capacity() * size_of::<LaneState>()
            + self.lane_bytes
            + self.items.capacity() * size_of::<Item>()
    }
}
