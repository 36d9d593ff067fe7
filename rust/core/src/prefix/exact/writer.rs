//! All that the writer has, under one mutex: what announcements do to paths, sets and lanes.

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use super::lanes::LaneState;
use super::owners::Owners;
use super::paths::{At, Paths};
use super::sets::{Numbers, Sets, single};
use super::slots::Pages;
use super::{
    Lane, LanesExhausted, Parent, Root, Secrets, Stored, StoredBlock, Tier, UnknownParent, chain,
};

/// Blocks whose memory is asked for before the first of them is worked on.
const BATCH: usize = 64;

/// A block to be marked as held.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// The engine's hash, mixed.
    mixed: u64,
    content: u64,
}

/// The last change of holders: blocks of a run mostly share theirs.
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
    pub(super) paths: Paths,
    pub(super) sets: Sets,
    pub(super) lanes: Vec<LaneState>,
    pub(super) owners: Owners,
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
        let paths = Paths::new(secrets);
        let root = Root {
            pages: Pages::default(),
            firsts: paths.firsts.published().clone(),
            branches: paths.branches.published().clone(),
            numbers: Numbers::default(),
            lanes: Arc::default(),
        };
        Self {
            root: Arc::new(ArcSwap::from_pointee(root)),
            secrets,
            paths,
            sets: Sets::new(secrets.sets),
            lanes: Vec::new(),
            owners: Owners::default(),
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
        let secrets = self.secrets;
        let items = blocks.iter().map(|block| Item {
            mixed: secrets.engine(block.engine),
            content: block.content,
        });
        let place = |writer: &Self| match parent {
            Parent::Root(root) => Some(At::Root(root)),
            Parent::Block(engine) => writer.known(lane, engine).map(At::Slot),
        };
        let stored = self.store_items(lane, place, items);
        stored.ok_or(match parent {
            Parent::Root(engine) | Parent::Block(engine) => UnknownParent { engine },
        })
    }

    /// As [`store`](Self::store) below a root, where nobody has told hashes: the keys stand for them. The first `known` blocks must be there, and are not marked.
    pub(super) fn store_path(
        &mut self,
        lane: Lane,
        root: u64,
        contents: &[u64],
        known: usize,
    ) -> Stored {
        let (known, rest) = contents.split_at(known.min(contents.len()));
        let place = |writer: &Self| {
            let begin = (At::Root(root), root);
            known.iter().try_fold(begin, |(at, key), content| {
                let slot = writer.paths.child(at, *content)?;
                Some((At::Slot(slot), chain(key, *content)))
            })
        };
        let Some((_, mut key)) = place(self) else {
            return Stored::default();
        };
        let secrets = self.secrets;
        let items = rest.iter().map(|content| {
            key = chain(key, *content);
            Item {
                mixed: secrets.engine(key),
                content: *content,
            }
        });
        let place = |writer: &Self| place(writer).map(|(at, _)| at);
        self.store_items(lane, place, items).unwrap_or_default()
    }

    /// `place`: what the blocks follow. None when that is not there, or went for these blocks.
    fn store_items(
        &mut self,
        lane: Lane,
        place: impl Fn(&Self) -> Option<At>,
        blocks: impl ExactSizeIterator<Item = Item>,
    ) -> Option<Stored> {
        let mut stored = Stored::default();
        let lane_at = usize::from(lane.0);
        place(self)?;
        if !self.lanes.get(lane_at).is_some_and(|lane| lane.open) {
            return Some(stored);
        }
        let room = self.make_room(lane_at, blocks.len());
        stored.cut = blocks.len() - room;
        self.cut_blocks += stored.cut as u64;
        let mut at = place(self)?;
        let mut blocks = blocks.take(room);
        let mut items = std::mem::take(&mut self.items);
        let mut change = Change::default();
        while blocks.len() > 0 {
            items.clear();
            items.extend(blocks.by_ref().take(BATCH));
            let bytes = self.lanes[lane_at].bytes();
            let entries = &mut self.lanes[lane_at].entries;
            entries.reserve(items.len());
            // All at once: one wait for memory instead of one a block.
            let warm = items.iter().map(|item| entries.warm(item.mixed));
            black_box(warm.fold(0, |all, one| all ^ one));
            let end = self.store_batch(lane_at, at, &items, &mut change, &mut stored);
            self.lane_bytes = self.lane_bytes + self.lanes[lane_at].bytes() - bytes;
            let Some(end) = end else {
                // No slots are left in the world.
                let kept = stored.new + stored.repeated;
                let cut = room - kept;
                stored.cut += cut;
                self.cut_blocks += cut as u64;
                break;
            };
            at = end;
        }
        self.items = items;
        Some(stored)
    }

    /// Returns the last block's place.
    fn store_batch(
        &mut self,
        lane: usize,
        at: At,
        items: &[Item],
        change: &mut Change,
        stored: &mut Stored,
    ) -> Option<At> {
        let mut at = at;
        let mut known = 0;
        while let Some(item) = items.get(known)
            && let Some(slot) = self.paths.child(at, item.content)
        {
            self.store_known(lane, item.mixed, slot, change, stored);
            at = At::Slot(slot);
            known += 1;
        }
        let mut rest = &items[known..];
        // Nothing can follow a block that was not there.
        while let Some(first) = rest.first() {
            if self.paths.make_room(at, first.content) {
                self.publish();
            }
            let contents = rest.iter().map(|item| item.content);
            let (slot, blocks) = self.paths.grow(at, contents, single(lane as u16))?;
            self.pairs += blocks as usize;
            self.admitted_pairs += u64::from(blocks);
            stored.new += blocks as usize;
            let (filled, left) = rest.split_at(blocks as usize);
            for (item, slot) in filled.iter().zip(slot..) {
                let entries = &mut self.lanes[lane].entries;
                match entries.find(item.mixed) {
                    Err(place) => entries.insert(place, item.mixed, slot),
                    Ok(place) => self.rename(lane, item.mixed, place, slot),
                }
            }
            at = At::Slot(slot + blocks - 1);
            rest = left;
        }
        Some(at)
    }

    /// A block that is in a slot already.
    fn store_known(
        &mut self,
        lane: usize,
        mixed: u64,
        slot: u32,
        change: &mut Change,
        stored: &mut Stored,
    ) {
        let state = &mut self.lanes[lane];
        match state.entries.find(mixed) {
            Ok(place) if state.entries.slot(place) == slot => {
                *state.repeats.entry(mixed).or_default() += 1;
                stored.repeated += 1;
                return;
            }
            Ok(place) => {
                self.mark(lane, slot, change);
                self.rename(lane, mixed, place, slot);
            }
            Err(place) => {
                state.entries.insert(place, mixed, slot);
                self.mark(lane, slot, change);
            }
        }
        stored.new += 1;
    }

    /// The engine uses its hash for another block now; what it said before no longer holds.
    fn rename(&mut self, lane: usize, mixed: u64, place: usize, slot: u32) {
        let state = &mut self.lanes[lane];
        let before = state.entries.slot(place);
        state.entries.set_slot(place, slot);
        state.repeats.remove(&mixed);
        self.uncover(lane, mixed);
        self.unmark(lane, before, &mut Change::default());
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
                loaded ^= self.paths.slots.word(entries.slot(place));
            }
        }
        black_box(loaded);
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
        // In the order of memory, as neighbours share their set and a line is loaded once; backwards, as blocks go when nothing follows them.
        slots.sort_unstable();
        slots.reverse();
        let mut change = Change::default();
        for batch in slots.chunks(BATCH) {
            let words = batch.iter().map(|slot| self.paths.slots.word(*slot));
            black_box(words.fold(0, |all, one| all ^ one));
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
        let _ = self.paths.tidy();
        self.publish();
    }

    pub(super) fn publish(&mut self) {
        let pages = self.paths.slots.changed();
        let firsts = self.paths.firsts.changed();
        let branches = self.paths.branches.changed();
        let numbers = self.sets.changed();
        let lanes = self.owners.changed();
        if pages.is_none()
            && firsts.is_none()
            && branches.is_none()
            && numbers.is_none()
            && lanes.is_none()
        {
            return;
        }
        let root = self.root.load();
        let root = Root {
            pages: pages.unwrap_or_else(|| root.pages.clone()),
            firsts: firsts.unwrap_or_else(|| root.firsts.clone()),
            branches: branches.unwrap_or_else(|| root.branches.clone()),
            numbers: numbers.unwrap_or_else(|| root.numbers.clone()),
            lanes: lanes.unwrap_or_else(|| root.lanes.clone()),
        };
        self.root.store(Arc::new(root));
        self.paths.firsts.retire();
        self.paths.branches.retire();
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.paths.bytes()
            + self.sets.bytes()
            + self.owners.bytes()
            + self.lanes.capacity() * size_of::<LaneState>()
            + self.lane_bytes
            + self.items.capacity() * size_of::<Item>()
    }
}
