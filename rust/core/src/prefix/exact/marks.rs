//! One block and one lane: marking it as held, and taking that back.

use super::cell::{EMPTY, holders};
use super::writer::{Change, Writer};

impl Writer {
    /// Marks a block as held by a lane, for one more reason.
    pub(super) fn mark(&mut self, lane: usize, slot: u32, change: &mut Change) {
        let word = self.paths.slots.word(slot);
        let from = holders(word);
        if change.from != from || from == EMPTY {
            self.make_room_for_a_set();
            let to = self.sets.with(from, lane as u16);
            *change = Change { from, to };
        }
        if change.to == from {
            *self.lanes[lane].aliases.entry(slot).or_default() += 1;
            return;
        }
        self.sets.moved(from, change.to);
        self.paths.slots.set_word(slot, word ^ from | change.to);
        self.paths.unheld -= usize::from(from == EMPTY);
        self.pairs += 1;
        self.admitted_pairs += 1;
    }

    /// Takes back one reason why a lane holds a slot. True: it was the last, so the lane does not hold it any more.
    pub(super) fn unmark(&mut self, lane: usize, slot: u32, change: &mut Change) -> bool {
        let aliases = &mut self.lanes[lane].aliases;
        if !aliases.is_empty()
            && let Some(more) = aliases.get_mut(&slot)
        {
            *more -= 1;
            if *more == 0 {
                aliases.remove(&slot);
            }
            return false;
        }
        let word = self.paths.slots.word(slot);
        let from = holders(word);
        if change.from != from || from == EMPTY {
            self.make_room_for_a_set();
            let to = self.sets.without(from, lane as u16);
            *change = Change { from, to };
        }
        self.sets.moved(from, change.to);
        self.pairs -= 1;
        if change.to == EMPTY {
            self.paths.abandon(slot);
        } else {
            self.paths.slots.set_word(slot, word ^ from | change.to);
        }
        true
    }

    /// Takes back what an entry covers besides its own slot. Returns the number of blocks that the lane does not hold any more.
    pub(super) fn uncover(&mut self, at: usize, mixed: u64) -> usize {
        if self.lanes[at].covers.is_empty() {
            return 0;
        }
        let Some(covered) = self.lanes[at].covers.remove(&mixed) else {
            return 0;
        };
        self.lanes[at].covered -= covered.len();
        let mut change = Change::default();
        covered
            .iter()
            .filter(|slot| self.unmark(at, **slot, &mut change))
            .count()
    }

    fn make_room_for_a_set(&mut self) {
        if self.sets.make_room() {
            self.publish();
        }
    }
}
