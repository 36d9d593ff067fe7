//! Blocks announced without their tokens: a copy, in another tier, of what the same endpoint has announced before.

use super::Lane;
use super::cell::{EMPTY, holders};
use super::writer::{Change, Writer};

impl Writer {
    /// Marks a block that another lane of the owner knows, and `blocks - 1` before it. Returns how many were found and are covered now.
    pub(super) fn hold(&mut self, lane: Lane, engine: u64, blocks: u32) -> usize {
        let at = usize::from(lane.0);
        let open = self.lanes.get(at).is_some_and(|lane| lane.open);
        if !open || blocks == 0 || self.make_room(at, 1) == 0 {
            return 0;
        }
        let Some(slot) = self.known(lane, engine) else {
            return 0;
        };
        let bytes = self.lanes[at].bytes();
        let mixed = self.secrets.engine(engine);
        let held = if self.lanes[at].entries.find(mixed).is_ok() {
            *self.lanes[at].repeats.entry(mixed).or_default() += 1;
            1 + self.lanes[at]
                .covers
                .get(&mixed)
                .map_or(0, |slots| slots.len())
        } else {
            let mut change = Change::default();
            self.mark(at, slot, &mut change);
            self.lanes[at].entries.reserve(1);
            let (Ok(place) | Err(place)) = self.lanes[at].entries.find(mixed);
            self.lanes[at].entries.insert(place, mixed, slot);
            let covered = self.ancestors(slot, blocks - 1);
            for ancestor in &covered {
                self.mark(at, *ancestor, &mut change);
            }
            let held = 1 + covered.len();
            if !covered.is_empty() {
                self.lanes[at].covered += covered.len();
                self.lanes[at].covers.insert(mixed, covered);
            }
            held
        };
        self.lane_bytes = self.lane_bytes + self.lanes[at].bytes() - bytes;
        held
    }

    /// Slots of the blocks before one, nearest first, as far as somebody holds them.
    fn ancestors(&self, slot: u32, most: u32) -> Box<[u32]> {
        let parents = std::iter::successors(self.held_parent(slot), |slot| self.held_parent(*slot));
        parents.take(most as usize).collect()
    }

    fn held_parent(&self, slot: u32) -> Option<u32> {
        let parent = self.paths.parent(slot)?;
        (holders(self.paths.slots.word(parent)) != EMPTY).then_some(parent)
    }
}
