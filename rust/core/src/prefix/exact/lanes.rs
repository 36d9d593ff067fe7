//! What one lane holds: the engine's own hashes, each with the slot of its block. Twelve bytes an entry.
//!
//! Entries stand in the order of their mixed hashes, each as near as that order allows behind the place that its hash names (linear probing, kept sorted). So a look-up that
//! misses stops early, and growing and shrinking are one pass from front to back, which lets the table grow by small steps.

use hashbrown::HashMap;

/// No slot; not a slot either, there are fewer.
const NONE: u32 = u32::MAX;

/// Mixed hash of a place without an entry. An engine's hash that mixes to it is moved to the one before; which one that is is a secret.
const FREE: u64 = u64::MAX;

/// Places behind the last that a hash can name, so that nothing wraps around.
const TAIL: usize = 8;

/// A table grows when more than this part of its places would be in use.
const FULLEST: (usize, usize) = (4, 5);

/// The entries of a lane, by mixed hash.
#[derive(Debug, Default)]
pub(super) struct Entries {
    hashes: Vec<u64>,
    slots: Vec<u32>,
    /// Places that a hash can name; there are more behind.
    places: usize,
    len: usize,
}

impl Entries {
    #[inline]
    fn home(&self, mixed: u64) -> usize {
        ((u128::from(mixed) * self.places as u128) >> 64) as usize
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Loads the line where a look-up begins; the result only keeps the load from being left out.
    #[inline]
    pub(super) fn warm(&self, mixed: u64) -> u64 {
        let home = self.home(mixed);
        let hash = self.hashes.get(home).copied().unwrap_or_default();
        hash ^ u64::from(self.slots.get(home).copied().unwrap_or_default())
    }

    /// Where the entry is, or where it would go. Good until the next change.
    #[inline]
    pub(super) fn find(&self, mixed: u64) -> Result<usize, usize> {
        let mixed = mixed.min(FREE - 1);
        let mut place = self.home(mixed);
        loop {
            match self.hashes.get(place) {
                Some(hash) if *hash < mixed => place += 1,
                Some(hash) if *hash == mixed => return Ok(place),
                _ => return Err(place),
            }
        }
    }

    #[inline]
    pub(super) fn slot(&self, place: usize) -> u32 {
        self.slots[place]
    }

    pub(super) fn set_slot(&mut self, place: usize, slot: u32) {
        self.slots[place] = slot;
    }

    /// Makes room for `more` entries.
    pub(super) fn reserve(&mut self, more: usize) {
        if let Some(places) = self.places_for(more) {
            self.rebuild(places, TAIL, |_| true);
        }
    }

    fn places_for(&self, more: usize) -> Option<usize> {
        let wanted = self.len + more;
        (wanted * FULLEST.1 > self.places * FULLEST.0)
            .then(|| (wanted * FULLEST.1 / FULLEST.0 + 1).max(self.places * 4 / 3))
    }

    /// Bytes that the table grows by for `more` entries.
    pub(super) fn bytes_for(&self, more: usize) -> usize {
        self.places_for(more).map_or(0, |places| {
            (places + TAIL).saturating_sub(self.hashes.len()) * 12
        })
    }

    /// Adds an entry where [`find`](Self::find) said; there is room for it.
    #[inline]
    pub(super) fn insert(&mut self, place: usize, mixed: u64, slot: u32) {
        let mixed = mixed.min(FREE - 1);
        let mut place = place;
        let free = loop {
            let free = self.hashes[place..].iter().position(|hash| *hash == FREE);
            if let Some(free) = free {
                break place + free;
            }
            // The tail is full of the greatest hashes.
            self.rebuild(self.places, 2 * (self.hashes.len() - self.places), |_| true);
            place = match self.find(mixed) {
                Ok(place) | Err(place) => place,
            };
        };
        self.hashes.copy_within(place..free, place + 1);
        self.slots.copy_within(place..free, place + 1);
        self.hashes[place] = mixed;
        self.slots[place] = slot;
        self.len += 1;
    }

    /// Takes out the entry at a place that [`find`](Self::find) found.
    pub(super) fn remove(&mut self, place: usize) {
        let mut end = place + 1;
        // Those behind that are not where their hashes name move up.
        while let Some(hash) = self.hashes.get(end)
            && *hash != FREE
            && self.home(*hash) < end
        {
            end += 1;
        }
        self.hashes.copy_within(place + 1..end, place);
        self.slots.copy_within(place + 1..end, place);
        self.hashes[end - 1] = FREE;
        self.slots[end - 1] = NONE;
        self.len -= 1;
        if self.len * 2 < self.places {
            self.rebuild(self.len * 3 / 2, TAIL, |_| true);
        }
    }

    /// Slots of all entries.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().copied().filter(|slot| *slot != NONE)
    }

    /// Keeps the entries whose slots `keep` wants.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let kept = self.slots().filter(|slot| keep(*slot)).count();
        if kept < self.len {
            self.rebuild(kept * 5 / 4, TAIL, keep);
        }
    }

    fn rebuild(&mut self, places: usize, tail: usize, keep: impl Fn(u32) -> bool) {
        if self.len == 0 && places == 0 {
            *self = Self::default();
            return;
        }
        let mut new = Self {
            hashes: Vec::with_capacity(places + tail),
            slots: Vec::with_capacity(places + tail),
            places,
            len: 0,
        };
        let entries = self.hashes.iter().zip(&self.slots);
        for (hash, slot) in entries.filter(|(hash, slot)| **hash != FREE && keep(**slot)) {
            let place = new.home(*hash).max(new.hashes.len());
            new.hashes.resize(place, FREE);
            new.slots.resize(place, NONE);
            new.hashes.push(*hash);
            new.slots.push(*slot);
            new.len += 1;
        }
        let end = new.hashes.len().max(places + tail);
        new.hashes.resize(end, FREE);
        new.slots.resize(end, NONE);
        *self = new;
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<u64>() + self.slots.capacity() * size_of::<u32>()
    }
}

/// What the writer knows of a lane.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub(super) owner: u32,
    pub(super) open: bool,
    pub(super) entries: Entries,
    /// Announcements beyond the first of an engine's hash, by mixed hash.
    pub(super) repeats: HashMap<u64, u32>,
    /// Reasons to hold a slot beyond the first: another engine's hash names the same block, or a bigger block covers it.
    pub(super) aliases: HashMap<u32, u32>,
    /// Slots before that of an entry that it covers as well, by mixed hash.
    pub(super) covers: HashMap<u64, Box<[u32]>>,
    /// Slots in `covers`.
    pub(super) covered: usize,
}

impl LaneState {
    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes()
            + self.repeats.allocation_size()
            + self.aliases.allocation_size()
            + self.covers.allocation_size()
            + self.covered * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_a_map(operations in proptest::collection::vec((0u8..8, 0u64..80, 0u32..1000), 0..400), crowded: bool) {
            let mut entries = Entries::default();
            let mut model = BTreeMap::new();
            for (kind, hash, slot) in operations {
                // Crowded: all at the very end, where the tail must do.
                let mixed = if crowded { u64::MAX - hash } else { hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
                if crowded && hash == 0 {
                    continue;
                }
                entries.reserve(1);
                match (kind, entries.find(mixed)) {
                    (0..5, Err(place)) => { entries.insert(place, mixed, slot); model.insert(mixed, slot); }
                    (0..5, Ok(place)) => { entries.set_slot(place, slot); model.insert(mixed, slot); }
                    (5..7, Ok(place)) => { entries.remove(place); model.remove(&mixed); }
                    (7, _) => { entries.retain(|slot| slot % 5 != 0); model.retain(|_, slot| *slot % 5 != 0); }
                    _ => prop_assert!(!model.contains_key(&mixed)),
                }
                prop_assert_eq!(entries.len(), model.len());
                prop_assert_eq!(entries.slots().collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
            }
            for (mixed, slot) in model {
                prop_assert_eq!(entries.find(mixed).map(|place| entries.slot(place)), Ok(slot));
            }
        }
    }

    #[test]
    fn gives_memory_back_when_entries_go() {
        let mut entries = Entries::default();
        let mixed = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for number in 0..10_000 {
            entries.reserve(1);
            let place = entries.find(mixed(number)).expect_err("numbers differ");
            entries.insert(place, mixed(number), number as u32);
        }
        assert!(entries.bytes() < 10_000 * 18, "{}", entries.bytes());
        for number in 0..10_000 {
            let place = entries.find(mixed(number)).expect("it was put in");
            entries.remove(place);
        }
        assert!(entries.bytes() < 200, "{}", entries.bytes());
    }
}
