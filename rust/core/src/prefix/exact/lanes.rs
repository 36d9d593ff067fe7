//! What one lane holds: the engine's own hashes, each with the slot of its block. Twelve bytes an entry.
//!
//! Entries stand in the order of their mixed hashes, each as near as that order allows behind the place that its hash names (linear probing, kept sorted). So a look-up that
//! misses stops early, and growing and shrinking are one pass from front to back, which lets the table grow by small steps.

use hashbrown::HashMap;

/// Mixed hash of a place without an entry. An engine's hash that mixes to it is moved to the one before; which one that is is a secret.
const FREE: u64 = u64::MAX;

/// Places behind the last that a hash can name, so that nothing wraps around.
const TAIL: usize = 8;

/// A table grows when more than this part of its places would be in use.
const FULLEST: (usize, usize) = (4, 5);

/// Side by side, so that a look-up waits for one line; in halves, so that none is lost to alignment.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    low: u32,
    high: u32,
    slot: u32,
}

impl Entry {
    const FREE: Self = Self::new(FREE, u32::MAX);

    #[inline]
    const fn new(mixed: u64, slot: u32) -> Self {
        Self {
            low: mixed as u32,
            high: (mixed >> 32) as u32,
            slot,
        }
    }

    #[inline]
    fn hash(self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }

    #[inline]
    fn is_free(self) -> bool {
        self.hash() == FREE
    }
}

/// The entries of a lane, by mixed hash.
#[derive(Debug, Default)]
pub(super) struct Entries {
    table: Vec<Entry>,
    /// Places that a hash can name; there are more behind.
    places: usize,
    len: usize,
}

#[inline]
fn home(mixed: u64, places: usize) -> usize {
    ((u128::from(mixed) * places as u128) >> 64) as usize
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Loads the lines where a look-up goes; the result only keeps the loads from being left out.
    #[inline]
    pub(super) fn warm(&self, mixed: u64) -> u32 {
        let home = home(mixed, self.places);
        // An entry is a few places behind the one its hash names, often on the next line.
        [home, home + 5]
            .map(|at| self.table.get(at).map_or(0, |entry| entry.slot))
            .iter()
            .fold(0, |all, one| all ^ one)
    }

    /// Where the entry is, or where it would go. Good until the next change.
    #[inline]
    pub(super) fn find(&self, mixed: u64) -> Result<usize, usize> {
        let mixed = mixed.min(FREE - 1);
        let home = home(mixed, self.places);
        for (behind, entry) in self.table[home..].iter().enumerate() {
            let hash = entry.hash();
            if hash >= mixed {
                let place = home + behind;
                return if hash == mixed { Ok(place) } else { Err(place) };
            }
        }
        Err(self.table.len())
    }

    #[inline]
    pub(super) fn slot(&self, place: usize) -> u32 {
        self.table[place].slot
    }

    pub(super) fn set_slot(&mut self, place: usize, slot: u32) {
        self.table[place].slot = slot;
    }

    /// Makes room for `more` entries.
    pub(super) fn reserve(&mut self, more: usize) {
        if let Some(places) = self.places_for(more) {
            self.rebuild(places, |_| true);
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
            (places + TAIL).saturating_sub(self.table.len()) * size_of::<Entry>()
        })
    }

    /// Adds an entry where [`find`](Self::find) said; there is room for it.
    #[inline]
    pub(super) fn insert(&mut self, place: usize, mixed: u64, slot: u32) {
        let mut carried = Entry::new(mixed.min(FREE - 1), slot);
        self.len += 1;
        for entry in &mut self.table[place..] {
            std::mem::swap(entry, &mut carried);
            if carried.is_free() {
                return;
            }
        }
        // The tail is full of the greatest hashes.
        self.table.reserve_exact(TAIL);
        self.table.push(carried);
    }

    /// Takes out the entry at a place that [`find`](Self::find) found.
    pub(super) fn remove(&mut self, place: usize) {
        let mut last = place;
        // Those behind that are not where their hashes name move up.
        while let Some(entry) = self.table.get(last + 1)
            && !entry.is_free()
            && home(entry.hash(), self.places) <= last
        {
            self.table[last] = *entry;
            last += 1;
        }
        self.table[last] = Entry::FREE;
        self.len -= 1;
        if self.len * 2 < self.places {
            self.rebuild(self.len * 3 / 2, |_| true);
        }
    }

    /// Slots of all entries.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let used = self.table.iter().filter(|entry| !entry.is_free());
        used.map(|entry| entry.slot)
    }

    /// Keeps the entries whose slots `keep` wants.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let kept = self.slots().filter(|slot| keep(*slot)).count();
        if kept < self.len {
            self.rebuild(kept * 5 / 4, keep);
        }
    }

    /// In place, as fresh memory costs more than the two passes: entries gather at the end, then go from front to back to where they belong.
    fn rebuild(&mut self, places: usize, keep: impl Fn(u32) -> bool) {
        let old = self.table.len();
        let mut end = old.max(places + TAIL);
        self.table.reserve_exact(end - old);
        self.table.resize(end, Entry::FREE);
        let mut read = end;
        for at in (0..old).rev() {
            let entry = self.table[at];
            if !entry.is_free() && keep(entry.slot) {
                read -= 1;
                self.table[read] = entry;
            }
        }
        self.len = end - read;
        self.places = places;
        let mut free = 0;
        while read < end {
            let entry = self.table[read];
            let place = home(entry.hash(), places).max(free);
            if place > read {
                // They are so many at the end that they need a longer tail.
                let more = place - read + TAIL;
                self.table.reserve_exact(more);
                self.table.resize(end + more, Entry::FREE);
                self.table.copy_within(read..end, read + more);
                (read, end) = (read + more, end + more);
                continue;
            }
            self.table[free..place].fill(Entry::FREE);
            self.table[place] = entry;
            free = place + 1;
            read += 1;
        }
        self.table[free..].fill(Entry::FREE);
        let needed = if self.len == 0 && places == 0 {
            0
        } else {
            free.max(places + TAIL)
        };
        if needed < end {
            self.table.truncate(needed);
            self.table.shrink_to_fit();
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.table.capacity() * size_of::<Entry>()
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
        assert!(entries.bytes() < 10_000 * 21, "{}", entries.bytes());
        for number in 0..10_000 {
            let place = entries.find(mixed(number)).expect("it was put in");
            entries.remove(place);
        }
        assert!(entries.bytes() < 200, "{}", entries.bytes());
    }
}
