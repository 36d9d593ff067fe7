//! A hash table of numbers of slab entries, for tables that stay full while entries come and go.
//!
//! An index at capacity evicts for each insertion. A table that marks removed entries (as `hashbrown` does) must then be cleaned every so often, which
//! takes as long as filling it, under the lock, and it doubles although it does not hold more. Here removal moves the entries behind back (Robin
//! Hood hashing), so nothing accumulates, and capacities are not powers of two: growing by a quarter keeps three fifths of the room in use.

/// Entries per 4 buckets before the table grows.
const FULL: usize = 3;

/// Buckets of the smallest table.
const LEAST: usize = 8;

/// Numbers (32 bits) found by a hash and a comparison. 6 bytes a bucket, 8 to 10 an entry.
///
/// Low bits of a hash are its tag, the upper half its place; callers that spread hashes over several tables use bits 8 to 31.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// 0: empty; else the distance from the entry's own place plus 1, times 256, plus its tag.
    marks: Box<[u16]>,
    numbers: Box<[u32]>,
    len: usize,
}

impl Table {
    /// Bytes on the heap.
    pub(super) fn allocated(&self) -> usize {
        self.marks.len() * (size_of::<u16>() + size_of::<u32>())
    }

    /// The number under `hash` for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.bucket(hash, is_it).map(|bucket| self.numbers[bucket])
    }

    /// Adds a number that is not in the table. `hash_of` tells the hash of any number in it, the new one included.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 4 > self.marks.len() * FULL {
            self.rebuild((self.marks.len() * 5 / 4).max(LEAST), &hash_of);
        }
        let mut rest = self.place(hash, number);
        // Somebody was pushed too far from its place: practically impossible with keyed hashes, and room helps.
        while let Some(homeless) = rest {
            self.rebuild(self.marks.len() * 2, &hash_of);
            rest = self.place(hash_of(homeless), homeless);
        }
    }

    /// Removes a number; `hash_of` tells the hash of any other number in the table.
    pub(super) fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.bucket(hash, |candidate| candidate == number) else { return };
        loop {
            let next = self.after(hole);
            let mark = self.marks[next];
            // Empty, or where it belongs: the entries behind are not in the way of anybody.
            if mark < 2 << 8 {
                break;
            }
            self.marks[hole] = mark - (1 << 8);
            self.numbers[hole] = self.numbers[next];
            hole = next;
        }
        self.marks[hole] = 0;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else if self.len * 3 < self.marks.len() && self.marks.len() > 4 * LEAST {
            self.rebuild(self.len * 3 / 2 + 1, &hash_of);
        }
    }

    /// An entry got another number.
    pub(super) fn renumber(&mut self, hash: u64, from: u32, to: u32) {
        if let Some(bucket) = self.bucket(hash, |candidate| candidate == from) {
            self.numbers[bucket] = to;
        }
    }

    fn bucket(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut bucket = self.home(hash);
        let mut wanted = mark_at_home(hash);
        loop {
            let mark = self.marks[bucket];
            if mark == wanted && is_it(self.numbers[bucket]) {
                return Some(bucket);
            }
            // An entry nearer to its own place than ours would be: ours would have taken this bucket.
            if mark >> 8 < wanted >> 8 {
                return None;
            }
            wanted = wanted.checked_add(1 << 8)?;
            bucket = self.after(bucket);
        }
    }

    /// Puts a number into the table; entries nearer to their places give way. Returns the number that found no place, if any. There is an empty bucket.
    fn place(&mut self, hash: u64, number: u32) -> Option<u32> {
        let mut bucket = self.home(hash);
        let mut mark = mark_at_home(hash);
        let mut number = number;
        loop {
            let held = self.marks[bucket];
            if held == 0 {
                self.marks[bucket] = mark;
                self.numbers[bucket] = number;
                self.len += 1;
                return None;
            }
            if held >> 8 < mark >> 8 {
                std::mem::swap(&mut self.marks[bucket], &mut mark);
                std::mem::swap(&mut self.numbers[bucket], &mut number);
            }
            let Some(further) = mark.checked_add(1 << 8) else { return Some(number) };
            mark = further;
            bucket = self.after(bucket);
        }
    }

    fn rebuild(&mut self, buckets: usize, hash_of: &impl Fn(u32) -> u64) {
        let mut buckets = buckets;
        let entries = std::mem::take(self);
        'wider: loop {
            *self = Self { marks: vec![0; buckets].into(), numbers: vec![0; buckets].into(), len: 0 };
            for (mark, &number) in entries.marks.iter().zip(&entries.numbers) {
                if *mark != 0 && self.place(hash_of(number), number).is_some() {
                    buckets *= 2;
                    continue 'wider;
                }
            }
            return;
        }
    }

    fn home(&self, hash: u64) -> usize {
        // The upper half as a fraction of the number of buckets.
        (((hash >> 32) * self.marks.len() as u64) >> 32) as usize
    }

    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.marks.len() { 0 } else { bucket + 1 }
    }
}

fn mark_at_home(hash: u64) -> u16 {
    1 << 8 | (hash & 0xff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Few places and tags, so that entries collide.
    fn clumsy(number: u32) -> u64 {
        u64::from(number % 7) << 61 | u64::from(number % 3)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(operations in proptest::collection::vec((any::<bool>(), 0u32..200), 0..600)) {
            let mut table = Table::default();
            let mut model = BTreeSet::new();
            for (add, number) in operations {
                if add && model.insert(number) {
                    table.insert(clumsy(number), number, clumsy);
                } else if !add {
                    table.remove(clumsy(number), number, clumsy);
                    model.remove(&number);
                }
            }
            prop_assert_eq!(table.len, model.len());
            for number in 0..200 {
                prop_assert_eq!(table.find(clumsy(number), |candidate| candidate == number).is_some(), model.contains(&number));
            }
        }
    }

    #[test]
    fn stays_as_small_as_its_entries_whatever_comes_and_goes() {
        let hash_of = |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = Table::default();
        for number in 0..200_000_u32 {
            table.insert(hash_of(number), number, hash_of);
            if let Some(old) = number.checked_sub(5000) {
                table.remove(hash_of(old), old, hash_of);
            }
        }
        assert!(table.allocated() <= 5001 * 10 + 64, "{} bytes", table.allocated());
        for number in 195_000..199_990 {
            table.remove(hash_of(number), number, hash_of);
        }
        assert!(table.allocated() < 400, "{} bytes", table.allocated());
    }

    #[test]
    fn more_entries_of_one_hash_than_a_distance_can_tell_are_refused_no_place() {
        // 254 steps are the most; the table stays usable up to there.
        let mut table = Table::default();
        for number in 0..250 {
            table.insert(7, number, |_| 7);
        }
        assert!((0..250).all(|number| table.find(7, |candidate| candidate == number).is_some()));
    }
}
