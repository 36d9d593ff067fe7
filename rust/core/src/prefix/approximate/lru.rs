//! The blocks that one endpoint was sent, in order of use.

use hashbrown::HashTable;

use super::slab::Slab;
use super::spread::Spread;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// Nodes allocated at a time: 2 KiB.
const CHUNK: usize = 128;

/// Tables of fewer entries are not worth shrinking.
pub(super) const SMALL_TABLE: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    newer: u32,
    older: u32,
}

/// Least recently used list with a capacity: 16 bytes a block in the list and 6 to 12 in the table that finds it.
#[derive(Debug)]
pub(super) struct Lru {
    capacity: usize,
    nodes: Slab<Node, CHUNK>,
    /// Numbers of nodes, found by the hash of their block.
    table: HashTable<u32>,
    newest: u32,
    oldest: u32,
}

impl Lru {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: clamp(capacity), nodes: Slab::new(), table: HashTable::new(), newest: NONE, oldest: NONE }
    }

    pub(super) const fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the capacity; the caller removes what is too much with `pop_oldest`.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = clamp(capacity);
    }

    /// Bytes on the heap.
    pub(super) fn allocated(&self) -> usize {
        self.nodes.allocated() + self.table.allocation_size()
    }

    /// Makes a block the most recently used; false when it is not held.
    pub(super) fn touch(&mut self, spread: Spread, hash: u64) -> bool {
        let nodes = &self.nodes;
        let Some(&index) = self.table.find(spread.of(hash), |&index| nodes.get(index).hash == hash) else {
            return false;
        };
        if index != self.newest {
            self.unlink(index);
            self.link_newest(index);
        }
        true
    }

    /// Adds a block that is not held as the most recently used. At capacity the oldest block makes room and is returned. The capacity must not be 0.
    pub(super) fn insert(&mut self, spread: Spread, hash: u64) -> Option<u64> {
        let (index, evicted) = if self.len() < self.capacity {
            (self.nodes.push(Node { hash, newer: NONE, older: NONE }), None)
        } else {
            // The oldest node is used again in place: nothing moves.
            let index = self.oldest;
            self.unlink(index);
            let evicted = self.nodes.get(index).hash;
            self.forget(spread, evicted, index);
            self.nodes.get_mut(index).hash = hash;
            (index, Some(evicted))
        };
        self.link_newest(index);
        let nodes = &self.nodes;
        self.table.insert_unique(spread.of(hash), index, |&index| spread.of(nodes.get(index).hash));
        evicted
    }

    /// Removes the least recently used block.
    pub(super) fn pop_oldest(&mut self, spread: Spread) -> Option<u64> {
        if self.oldest == NONE {
            return None;
        }
        let index = self.oldest;
        let hash = self.nodes.get(index).hash;
        self.unlink(index);
        self.forget(spread, hash, index);
        let last = (self.len() - 1) as u32;
        if index != last {
            self.renumber(spread, last, index);
        }
        self.nodes.swap_remove(index);
        if self.table.len() * 4 < self.table.capacity() && self.table.capacity() > SMALL_TABLE {
            let nodes = &self.nodes;
            self.table.shrink_to(self.nodes.len() * 3 / 2, |&index| spread.of(nodes.get(index).hash));
        }
        Some(hash)
    }

    /// Blocks from the most to the least recently used.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u64> + '_ {
        let mut next = self.newest;
        std::iter::from_fn(move || {
            if next == NONE {
                return None;
            }
            let node = self.nodes.get(next);
            next = node.older;
            Some(node.hash)
        })
    }

    fn unlink(&mut self, index: u32) {
        let Node { newer, older, .. } = *self.nodes.get(index);
        match newer {
            NONE => self.newest = older,
            newer => self.nodes.get_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.nodes.get_mut(older).newer = newer,
        }
    }

    fn link_newest(&mut self, index: u32) {
        let older = self.newest;
        let node = self.nodes.get_mut(index);
        node.newer = NONE;
        node.older = older;
        match older {
            NONE => self.oldest = index,
            older => self.nodes.get_mut(older).newer = index,
        }
        self.newest = index;
    }

    /// Takes node `index` out of the table.
    fn forget(&mut self, spread: Spread, hash: u64, index: u32) {
        if let Ok(entry) = self.table.find_entry(spread.of(hash), |&candidate| candidate == index) {
            entry.remove();
        }
    }

    /// Node `from` is about to get the number `to`: tell its neighbours and the table.
    fn renumber(&mut self, spread: Spread, from: u32, to: u32) {
        let Node { hash, newer, older } = *self.nodes.get(from);
        match newer {
            NONE => self.newest = to,
            newer => self.nodes.get_mut(newer).older = to,
        }
        match older {
            NONE => self.oldest = to,
            older => self.nodes.get_mut(older).newer = to,
        }
        if let Some(index) = self.table.find_mut(spread.of(hash), |&candidate| candidate == from) {
            *index = to;
        }
    }
}

/// Node numbers are 32 bits wide, the last one means none.
fn clamp(capacity: usize) -> usize {
    capacity.min(NONE as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_makes_room_at_capacity() {
        let spread = Spread::random();
        let mut lru = Lru::new(2);
        assert_eq!(lru.insert(spread, 1), None);
        assert_eq!(lru.insert(spread, 2), None);
        assert!(lru.touch(spread, 1));
        assert_eq!(lru.insert(spread, 3), Some(2));
        assert_eq!(lru.newest_first().collect::<Vec<_>>(), [3, 1]);
        assert!(!lru.touch(spread, 2));
    }

    #[test]
    fn an_emptied_list_holds_no_nodes_and_a_small_table() {
        let spread = Spread::random();
        let mut lru = Lru::new(usize::MAX);
        for hash in 0..10_000 {
            lru.insert(spread, hash);
        }
        while lru.pop_oldest(spread).is_some() {}
        assert!(lru.allocated() < 1024, "{} bytes", lru.allocated());
    }

    proptest! {
        #[test]
        fn behaves_like_a_list(operations in proptest::collection::vec((0u8..4, 0u64..40), 0..300), capacity in 1usize..20) {
            let spread = Spread::random();
            let mut lru = Lru::new(capacity);
            let mut model: Vec<u64> = Vec::new();
            for (operation, hash) in operations {
                if operation == 0 {
                    prop_assert_eq!(lru.pop_oldest(spread), model.pop());
                } else if lru.touch(spread, hash) {
                    let place = model.iter().position(|&held| held == hash);
                    prop_assert!(place.is_some());
                    model.remove(place.unwrap_or_default());
                    model.insert(0, hash);
                } else {
                    prop_assert!(!model.contains(&hash));
                    let evicted = lru.insert(spread, hash);
                    model.insert(0, hash);
                    prop_assert_eq!(evicted, if model.len() > capacity { model.pop() } else { None });
                }
                prop_assert!(lru.newest_first().eq(model.iter().copied()));
            }
        }
    }
}
