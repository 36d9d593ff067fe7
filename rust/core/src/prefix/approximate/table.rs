//! A hash table for what stays full while entries come and go.
//!
//! An index at capacity evicts for each insertion. A table that marks removed entries (as `hashbrown` does) must then be cleaned every so often, which
//! takes as long as filling it, under the lock, and it doubles although it does not hold more. Here removal moves the entries behind back (Robin
//! Hood hashing), so nothing accumulates, and capacities are not powers of two: growing by a ninth keeps two thirds of the room in use.
//! Mark and value lie side by side: a look-up that misses the processor's caches does so once.

/// Entries per 4 buckets before the table grows.
const FULL: usize = 3;

/// Buckets of the smallest table.
const LEAST: usize = 8;

/// One step from an entry's own place, in a mark.
const STEP: u32 = 1 << 24;

/// Values found by a hash and a comparison.
///
/// The low 24 bits of a hash are its tag, the upper half its place.
#[derive(Debug)]
pub(super) struct Table<Value> {
    buckets: Box<[Bucket<Value>]>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket<Value> {
    /// 0: empty; else the distance from the entry's own place plus 1, times `STEP`, plus its tag.
    mark: u32,
    value: Value,
}

impl<Value: Copy + Default> Table<Value> {
    pub(super) fn new() -> Self {
        Self {
            buckets: Box::default(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(super) fn allocated(&self) -> usize {
        size_of_val::<[Bucket<Value>]>(&self.buckets)
    }

    /// Where the value under `hash` is for which `is_it` holds; good until the next change.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&Value) -> bool) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut place = self.home(hash);
        let mut wanted = mark_at_home(hash);
        loop {
            let bucket = self.buckets.get(place)?;
            if bucket.mark == wanted && is_it(&bucket.value) {
                return Some(place);
            }
            // An entry nearer to its own place than ours would be: ours would have taken this bucket.
            if bucket.mark / STEP < wanted / STEP {
                return None;
            }
            wanted = wanted.checked_add(STEP)?;
            place = self.after(place);
        }
    }

    /// Loads the bucket where a look-up begins; the result only keeps the load from being left out.
    pub(super) fn warm(&self, hash: u64) -> u32 {
        self.buckets
            .get(self.home(hash))
            .map_or(0, |bucket| bucket.mark)
    }

    pub(super) fn get(&self, place: usize) -> &Value {
        &self.buckets[place].value
    }

    /// The hash of a value must not be changed.
    pub(super) fn get_mut(&mut self, place: usize) -> &mut Value {
        &mut self.buckets[place].value
    }

    /// Adds a value that is not in the table. `hash_of` tells the hash of any value in it.
    pub(super) fn insert(&mut self, hash: u64, value: Value, hash_of: impl Fn(&Value) -> u64) {
        if (self.len + 1) * 4 > self.buckets.len() * FULL {
            self.rebuild((self.buckets.len() * 10 / 9).max(LEAST), &hash_of);
        }
        let mut rest = self.put(hash, value);
        // Somebody was pushed too far from its place: practically impossible with keyed hashes, and room helps.
        while let Some(homeless) = rest {
            self.rebuild(self.buckets.len() * 2, &hash_of);
            rest = self.put(hash_of(&homeless), homeless);
        }
    }

    /// Removes what `find` found.
    pub(super) fn remove(&mut self, place: usize, hash_of: impl Fn(&Value) -> u64) {
        let mut hole = place;
        loop {
            let next = self.after(hole);
            let bucket = self.buckets[next];
            // Empty, or where it belongs: nothing behind is out of its place because of the hole.
            if bucket.mark < 2 * STEP {
                break;
            }
            self.buckets[hole] = Bucket {
                mark: bucket.mark - STEP,
                ..bucket
            };
            hole = next;
        }
        self.buckets[hole] = Bucket::default();
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        } else if self.len * 5 < self.buckets.len() * 2 && self.buckets.len() > 4 * LEAST {
            // Far from where it grows again: entries come and go by the dozen.
            self.rebuild(self.len * 5 / 3 + 1, &hash_of);
        }
    }

    /// Lets each value be changed, in no order that means anything; hashes must stay as they are.
    pub(super) fn for_each_mut(&mut self, change: impl FnMut(&mut Value)) {
        self.buckets
            .iter_mut()
            .filter(|bucket| bucket.mark != 0)
            .map(|bucket| &mut bucket.value)
            .for_each(change);
    }

    /// The values, in no order that means anything.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.buckets
            .iter()
            .filter(|bucket| bucket.mark != 0)
            .map(|bucket| &bucket.value)
    }

    /// Puts a value into the table; entries nearer to their places give way. Returns the value that found no place, if any. There is an empty bucket.
    fn put(&mut self, hash: u64, value: Value) -> Option<Value> {
        let mut place = self.home(hash);
        let mut carried = Bucket {
            mark: mark_at_home(hash),
            value,
        };
        loop {
            let bucket = &mut self.buckets[place];
            if bucket.mark == 0 {
                *bucket = carried;
                self.len += 1;
                return None;
            }
            if bucket.mark / STEP < carried.mark / STEP {
                std::mem::swap(bucket, &mut carried);
            }
            let Some(further) = carried.mark.checked_add(STEP) else {
                return Some(carried.value);
            };
            carried.mark = further;
            place = self.after(place);
        }
    }

    fn rebuild(&mut self, buckets: usize, hash_of: &impl Fn(&Value) -> u64) {
        let mut buckets = buckets;
        let old = std::mem::replace(self, Self::new());
        'wider: loop {
            *self = Self {
                buckets: vec![Bucket::default(); buckets].into(),
                len: 0,
            };
            for bucket in &old.buckets {
                if bucket.mark != 0 && self.put(hash_of(&bucket.value), bucket.value).is_some() {
                    buckets *= 2;
                    continue 'wider;
                }
            }
            return;
        }
    }

    fn home(&self, hash: u64) -> usize {
        // The upper half as a fraction of the number of buckets.
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.buckets.len() {
            0
        } else {
            place + 1
        }
    }
}

fn mark_at_home(hash: u64) -> u32 {
    STEP | (hash as u32 & (STEP - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Few places and tags, so that entries collide.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the table hands out references"
    )]
    fn clumsy(number: &u32) -> u64 {
        u64::from(number % 7) << 61 | u64::from(number % 3)
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the table hands out references"
    )]
    fn spread(number: &u32) -> u64 {
        u64::from(*number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn remove(table: &mut Table<u32>, number: u32, hash_of: fn(&u32) -> u64) {
        if let Some(place) = table.find(hash_of(&number), |held| *held == number) {
            table.remove(place, hash_of);
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(operations in proptest::collection::vec((any::<bool>(), 0u32..200), 0..600)) {
            let mut table = Table::new();
            let mut model = BTreeSet::new();
            for (add, number) in operations {
                if add && model.insert(number) {
                    table.insert(clumsy(&number), number, clumsy);
                } else if !add {
                    remove(&mut table, number, clumsy);
                    model.remove(&number);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.iter().copied().collect::<BTreeSet<_>>(), model.clone());
            for number in 0..200 {
                prop_assert_eq!(table.find(clumsy(&number), |held| *held == number).is_some(), model.contains(&number));
            }
        }
    }

    #[test]
    fn stays_as_small_as_its_entries_whatever_comes_and_goes() {
        let mut table = Table::new();
        for number in 0..200_000_u32 {
            table.insert(spread(&number), number, spread);
            if let Some(old) = number.checked_sub(5000) {
                remove(&mut table, old, spread);
            }
        }
        assert!(
            table.allocated() <= 5001 * 14 + 64,
            "{} bytes",
            table.allocated()
        );
        for number in 195_000..199_990 {
            remove(&mut table, number, spread);
        }
        assert!(table.allocated() < 400, "{} bytes", table.allocated());
    }

    #[test]
    fn two_hundred_entries_of_one_hash_are_all_found() {
        let mut table = Table::new();
        for number in 0..200 {
            table.insert(7, number, |_| 7);
        }
        assert!((0..200).all(|number| table.find(7, |held| *held == number).is_some()));
    }
}
