//! Whose lane a number is: lanes are opened in place and closed by a copy, so that a number is used again only when no query can still take it for its former owner's.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::atomics::{AtomicBool, AtomicU32, Ordering};
use super::{Lane, LanesExhausted, MAX_TIERS, Tier};

/// Lanes that can be open at once: holder words and sets give a lane 16 bits.
const MOST: usize = 65_535;

const CLOSED: u32 = u32::MAX;

/// Owner and tier of each lane, as readers hold them.
#[derive(Debug, Default)]
pub(super) struct LaneMap {
    lanes: Box<[AtomicU32]>,
    /// Some owner has, or had, several lanes.
    tiered: AtomicBool,
}

impl LaneMap {
    fn grown(&self, room: usize) -> Self {
        let lanes = (0..room)
            .map(|at| {
                let lane = self.lanes.get(at);
                AtomicU32::new(lane.map_or(CLOSED, |lane| lane.load(Ordering::Relaxed)))
            })
            .collect();
        Self {
            lanes,
            tiered: AtomicBool::new(self.tiered.load(Ordering::Relaxed)),
        }
    }

    /// Owner and tier of a lane; none if it is closed, or was opened after this map was taken.
    #[inline]
    pub(super) fn get(&self, lane: u16) -> Option<(u32, usize)> {
        let packed = self.lanes.get(usize::from(lane))?.load(Ordering::Acquire);
        (packed != CLOSED).then_some((packed / MAX_TIERS as u32, packed as usize % MAX_TIERS))
    }

    /// Whether a block may be held by an owner in several lanes.
    #[inline]
    pub(super) fn tiered(&self) -> bool {
        self.tiered.load(Ordering::Acquire)
    }

    /// Lanes that the map has room for.
    pub(super) fn room(&self) -> usize {
        self.lanes.len()
    }
}

/// The writer's side: numbers of lanes.
#[derive(Debug, Default)]
pub(super) struct Owners {
    map: Arc<LaneMap>,
    changed: bool,
    /// Lanes by owner, in the order of their tiers.
    owned: hashbrown::HashMap<u32, Vec<(Tier, u16)>>,
    next: usize,
    /// Closed numbers in the order of closing, each with the last map that says whose it was.
    resting: VecDeque<(u16, Weak<LaneMap>)>,
}

impl Owners {
    /// Lanes of an owner, by rising tier.
    pub(super) fn lanes(&self, owner: u32) -> &[(Tier, u16)] {
        self.owned.get(&owner).map_or(&[], Vec::as_slice)
    }

    /// The lane of an owner and tier; true if it is new.
    pub(super) fn open(&mut self, owner: u32, tier: Tier) -> Result<(Lane, bool), LanesExhausted> {
        if let Some((_, lane)) = self.lanes(owner).iter().find(|lane| lane.0 == tier) {
            return Ok((Lane(*lane), false));
        }
        let rested = self
            .resting
            .front()
            .is_some_and(|(_, map)| map.strong_count() == 0);
        let lane = if rested {
            self.resting.pop_front().map(|lane| usize::from(lane.0))
        } else {
            Some(self.next).filter(|next| *next < MOST)
        };
        let lane = lane.ok_or(LanesExhausted { most: MOST })?;
        self.next = self.next.max(lane + 1);
        if lane >= self.map.room() {
            self.map = Arc::new(self.map.grown((lane + 1).next_power_of_two().max(64)));
            self.changed = true;
        }
        let packed = owner * MAX_TIERS as u32 + u32::from(tier.0) % MAX_TIERS as u32;
        self.map.lanes[lane].store(packed, Ordering::Release);
        let lanes = self.owned.entry(owner).or_default();
        lanes.insert(
            lanes.partition_point(|other| other.0.0 < tier.0),
            (tier, lane as u16),
        );
        if lanes.len() > 1 {
            self.map.tiered.store(true, Ordering::Release);
        }
        Ok((Lane(lane as u16), true))
    }

    /// Closes the lanes of an owner, which hold nothing any more.
    pub(super) fn close(&mut self, owner: u32) {
        let Some(lanes) = self.owned.remove(&owner) else {
            return;
        };
        let map = self.map.grown(self.map.room());
        for (_, lane) in &lanes {
            map.lanes[usize::from(*lane)].store(CLOSED, Ordering::Relaxed);
        }
        let tiered = self.owned.values().any(|owned| owned.len() > 1);
        map.tiered.store(tiered, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.map, Arc::new(map));
        let before = Arc::downgrade(&before);
        self.resting
            .extend(lanes.iter().map(|(_, lane)| (*lane, before.clone())));
        self.changed = true;
    }

    /// The map, if it is another than the one last asked for.
    pub(super) fn changed(&mut self) -> Option<Arc<LaneMap>> {
        std::mem::take(&mut self.changed).then(|| self.map.clone())
    }

    /// Bytes on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        self.map.room() * size_of::<AtomicU32>()
            + self.resting.capacity() * size_of::<(u16, Weak<LaneMap>)>()
            + self.owned.allocation_size()
            + self.next * size_of::<(Tier, u16)>()
    }
}
