//! The blocks that one endpoint was sent, in order of use.

use std::hint::black_box;

use super::slab::Slab;
use super::spread::Spread;
use super::table::Table;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// Nodes allocated at a time: 2.5 KiB.
const CHUNK: usize = 128;

/// A block: its hash, and the shard of the map where its holders are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) hash: u64,
    pub(super) shard: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// In halves, which need no padding: 20 bytes a node.
    hash: [u32; 2],
    shard: u32,
    newer: u32,
    older: u32,
}

impl Node {
    fn new(held: Held) -> Self {
        Self {
            hash: [held.hash as u32, (held.hash >> 32) as u32],
            shard: held.shard,
            newer: NONE,
            older: NONE,
        }
    }

    fn hash(&self) -> u64 {
        u64::from(self.hash[0]) | u64::from(self.hash[1]) << 32
    }

    fn held(&self) -> Held {
        Held {
            hash: self.hash(),
            shard: self.shard,
        }
    }
}

/// Least recently used list with a capacity: 20 bytes a block in the list and 11 to 13 in the table that finds it.
#[derive(Debug)]
pub(super) struct Lru {
    capacity: usize,
    nodes: Slab<Node, CHUNK>,
    /// Numbers of nodes, found by the hash of their block.
    table: Table<u32>,
    newest: u32,
    oldest: u32,
}

impl Lru {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: clamp(capacity),
            nodes: Slab::new(),
            table: Table::new(),
            newest: NONE,
            oldest: NONE,
        }
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
        self.nodes.allocated() + self.table.allocated()
    }

    /// Loads what looking up these blocks needs first: without branches between, the processor waits for the memory of many at once.
    pub(super) fn warm(&self, spread: Spread, chain: &[u64]) {
        let loaded = chain
            .iter()
            .fold(0, |loaded, hash| loaded ^ self.table.warm(spread.of(*hash)));
        black_box(loaded);
    }

    /// The same for the blocks that will make room when `count` new ones come.
    pub(super) fn warm_oldest(&self, spread: Spread, count: usize) {
        let excess = (self.len() + count)
            .saturating_sub(self.capacity)
            .min(count);
        let (mut next, mut loaded) = (self.oldest, 0);
        for _ in 0..excess {
            if next == NONE {
                break;
            }
            let node = self.nodes.get(next);
            loaded ^= self.table.warm(spread.of(node.hash()));
            next = node.newer;
        }
        black_box(loaded);
    }

    /// Makes a block the most recently used; false when it is not held.
    pub(super) fn touch(&mut self, spread: Spread, hash: u64) -> bool {
        let Some(place) = self.table.find(spread.of(hash), |index| {
            self.nodes.get(*index).hash() == hash
        }) else {
            return false;
        };
        let index = *self.table.get(place);
        if index != self.newest {
            self.unlink(index);
            self.link_newest(index);
        }
        true
    }

    /// Adds a block that is not held as the most recently used. At capacity the oldest block makes room and is returned. The capacity must not be 0.
    pub(super) fn insert(&mut self, spread: Spread, held: Held) -> Option<Held> {
        let (index, evicted) = if self.len() < self.capacity {
            (self.nodes.push(Node::new(held)), None)
        } else {
            // The oldest node is used again in place: nothing moves.
            let index = self.oldest;
            let evicted = self.nodes.get(index).held();
            self.unlink(index);
            self.forget(spread, index);
            *self.nodes.get_mut(index) = Node::new(held);
            (index, Some(evicted))
        };
        self.link_newest(index);
        let nodes = &self.nodes;
        self.table.insert(spread.of(held.hash), index, |index| {
            spread.of(nodes.get(*index).hash())
        });
        evicted
    }

    /// Removes the least recently used block.
    pub(super) fn pop_oldest(&mut self, spread: Spread) -> Option<Held> {
        if self.oldest == NONE {
            return None;
        }
        let index = self.oldest;
        let held = self.nodes.get(index).held();
        self.unlink(index);
        self.forget(spread, index);
        let last = (self.len() - 1) as u32;
        if index != last {
            self.renumber(spread, last, index);
        }
        self.nodes.swap_remove(index);
        Some(held)
    }

    /// Blocks from the most to the least recently used.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = Held> + '_ {
        let mut next = self.newest;
        std::iter::from_fn(move || {
            if next == NONE {
                return None;
            }
            let node = self.nodes.get(next);
            next = node.older;
            Some(node.held())
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
    fn forget(&mut self, spread: Spread, index: u32) {
        let nodes = &self.nodes;
        let hash_of = |index: &u32| spread.of(nodes.get(*index).hash());
        if let Some(place) = self
            .table
            .find(hash_of(&index), |candidate| *candidate == index)
        {
            self.table.remove(place, hash_of);
        }
    }

    /// Node `from` is about to get the number `to`: tell its neighbours and the table.
    fn renumber(&mut self, spread: Spread, from: u32, to: u32) {
        let node = *self.nodes.get(from);
        match node.newer {
            NONE => self.newest = to,
            newer => self.nodes.get_mut(newer).older = to,
        }
        match node.older {
            NONE => self.oldest = to,
            older => self.nodes.get_mut(older).newer = to,
        }
        if let Some(place) = self
            .table
            .find(spread.of(node.hash()), |candidate| *candidate == from)
        {
            *self.table.get_mut(place) = to;
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

    fn held(hash: u64) -> Held {
        Held {
            hash,
            shard: hash as u32 % 5,
        }
    }

    fn order(lru: &Lru) -> Vec<u64> {
        lru.newest_first().map(|held| held.hash).collect()
    }

    #[test]
    fn the_oldest_makes_room_at_capacity() {
        let spread = Spread::random();
        let mut lru = Lru::new(2);
        assert_eq!(lru.insert(spread, held(1)), None);
        assert_eq!(lru.insert(spread, held(2)), None);
        assert!(lru.touch(spread, 1));
        assert_eq!(lru.insert(spread, held(3)), Some(held(2)));
        assert_eq!(order(&lru), [3, 1]);
        assert!(!lru.touch(spread, 2));
    }

    #[test]
    fn an_emptied_list_holds_no_nodes_and_a_small_table() {
        let spread = Spread::random();
        let mut lru = Lru::new(usize::MAX);
        for hash in 0..10_000 {
            lru.insert(spread, held(hash));
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
                    prop_assert_eq!(lru.pop_oldest(spread), model.pop().map(held));
                } else if lru.touch(spread, hash) {
                    let place = model.iter().position(|&other| other == hash);
                    prop_assert!(place.is_some());
                    model.remove(place.unwrap_or_default());
                    model.insert(0, hash);
                } else {
                    prop_assert!(!model.contains(&hash));
                    let evicted = lru.insert(spread, held(hash));
                    model.insert(0, hash);
                    prop_assert_eq!(evicted, if model.len() > capacity { model.pop().map(held) } else { None });
                }
                prop_assert_eq!(order(&lru), model.clone());
            }
        }
    }
}
