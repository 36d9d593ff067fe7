//! One block and one lane: marking it as held, and taking that back.

use super::cell::EMPTY;
use super::sets::single;
use super::slots::CHUNK;
use super::writer::{Change, Item, Writer};

impl Writer {
    /// Marks a block as held by a lane, for one more reason. None: no slots are left.
    pub(super) fn mark(
        &mut self,
        at: usize,
        item: Item,
        previous: Option<u32>,
        change: &mut Change,
    ) -> Option<u32> {
        if let Some(slot) = previous.and_then(|slot| self.slots.follower(slot, item.key)) {
            self.mark_slot(at, slot, change);
            return Some(slot);
        }
        let hash = self.secrets.key(item.key);
        let slots = &self.slots;
        if let Some(slot) = self.table.find(hash, |slot| slots.key(slot) == item.key) {
            if let Some(parent) = item.parent
                && !self.slots.follows(slot)
            {
                // A prediction may have named it without its parent.
                self.parents.entry(slot).or_insert(parent);
            }
            self.mark_slot(at, slot, change);
            return Some(slot);
        }
        let slot = self.slots.take()?;
        let follows =
            previous.is_some_and(|previous| previous + 1 == slot) && !slot.is_multiple_of(CHUNK);
        if let Some((orphan, parent)) = self.slots.fill(slot, item.key, single(at as u16), follows)
        {
            self.parents.insert(orphan, parent);
        }
        if !follows && let Some(parent) = item.parent {
            self.parents.insert(slot, parent);
        }
        let (slots, secrets) = (&self.slots, self.secrets);
        self.table
            .insert(hash, slot, |slot| secrets.key(slots.key(slot)));
        self.pairs += 1;
        self.admitted_pairs += 1;
        Some(slot)
    }

    /// As [`mark`](Self::mark), for a block that is in a slot.
    pub(super) fn mark_slot(&mut self, at: usize, slot: u32, change: &mut Change) {
        let from = self.slots.word(slot);
        if change.from != from || from == EMPTY {
            self.make_room_for_a_set();
            let to = self.sets.with(from, at as u16);
            *change = Change { from, to };
        }
        if change.to == from {
            *self.lanes[at].aliases.entry(slot).or_default() += 1;
            return;
        }
        self.sets.moved(from, change.to);
        self.slots.set_word(slot, change.to);
        self.pairs += 1;
        self.admitted_pairs += 1;
    }

    /// Takes back one reason why a lane holds a slot. True: it was the last, so the lane does not hold it any more.
    pub(super) fn unmark(&mut self, at: usize, slot: u32, change: &mut Change) -> bool {
        let aliases = &mut self.lanes[at].aliases;
        if !aliases.is_empty()
            && let Some(more) = aliases.get_mut(&slot)
        {
            *more -= 1;
            if *more == 0 {
                aliases.remove(&slot);
            }
            return false;
        }
        let from = self.slots.word(slot);
        if change.from != from || from == EMPTY {
            self.make_room_for_a_set();
            let to = self.sets.without(from, at as u16);
            *change = Change { from, to };
        }
        self.sets.moved(from, change.to);
        self.pairs -= 1;
        if change.to == EMPTY {
            self.free(slot);
        } else {
            self.slots.set_word(slot, change.to);
        }
        true
    }

    /// Takes a block that nobody holds any more out of the index.
    pub(super) fn free(&mut self, slot: u32) {
        let (slots, secrets) = (&self.slots, self.secrets);
        let hash = |slot| secrets.key(slots.key(slot));
        let was_there = self.table.remove(hash(slot), slot, hash);
        debug_assert!(was_there, "a block in a slot is in the table");
        if !self.slots.follows(slot) {
            self.parents.remove(&slot);
        }
        self.slots.free(slot);
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
