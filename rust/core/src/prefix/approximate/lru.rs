//! The blocks that one endpoint was sent, and which of them goes next.
//!
//! A block hangs below the one before it in its prompt, so the blocks form trees. Only ends of prompts stand in the list of use: whoever used a block's
//! descendants used the block, so it is never older than they are, and the least recently used block is always a leaf. Noting a prompt again then
//! touches one node however long it is, and taking blocks only from leaves keeps what is held free of gaps: who holds a block holds all before it.

use std::hint::black_box;

use smallvec::SmallVec;

use super::slab::Slab;
use super::spread::Spread;
use super::table::Table;
use super::{GROUP, SHARDS, STACK_BLOCKS};

/// No node.
const NONE: u32 = u32::MAX;

/// As the parent of a node: it is not in use.
const UNUSED: u32 = u32::MAX - 1;

/// One child, in `Node::shard_and_children`.
const CHILD: u32 = SHARDS as u32;

/// Most blocks that a list can hold: so many children can be counted.
const MOST: usize = (u32::MAX / CHILD) as usize;

/// Nodes allocated at a time: 3 KiB.
const CHUNK: usize = 128;

/// A block: its hash, and the shard of the map where its holders are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) hash: u64,
    pub(super) shard: u32,
}

/// Blocks that came or went, in order.
pub(super) type Changes = SmallVec<[Held; STACK_BLOCKS]>;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// In halves, which need no padding: 24 bytes a node.
    hash: [u32; 2],
    /// The shard, plus `CHILD` for each block that hangs below.
    shard_and_children: u32,
    /// The block before this one, if it is not the first of its prompt.
    parent: u32,
    /// Neighbours in the list of use; `NONE` twice where it does not stand in it. Of an unused node, `older` is the next unused one.
    newer: u32,
    older: u32,
}

impl Node {
    fn new(held: Held, parent: u32) -> Self {
        Self {
            hash: [held.hash as u32, (held.hash >> 32) as u32],
            shard_and_children: held.shard,
            parent,
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
            shard: self.shard_and_children % CHILD,
        }
    }

    fn is_leaf(&self) -> bool {
        self.shard_and_children < CHILD
    }
}

/// Least recently used list with a capacity: 24 bytes a block in its nodes and 11 to 12 in the table that finds it.
///
/// In between calls, each leaf stands in the list of use. Other nodes do when a prompt ended there, until their turn comes.
#[derive(Debug)]
pub(super) struct Lru {
    capacity: usize,
    nodes: Slab<Node, CHUNK>,
    /// Numbers of nodes, found by the hash of their block.
    table: Table<u32>,
    newest: u32,
    oldest: u32,
    /// The unused nodes: the first of them, and how many.
    unused: u32,
    unused_count: usize,
}

impl Lru {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(MOST),
            nodes: Slab::new(),
            table: Table::new(),
            newest: NONE,
            oldest: NONE,
            unused: NONE,
            unused_count: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.nodes.len() - self.unused_count
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the capacity; the caller removes what is too much with `pop_oldest`.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.min(MOST);
    }

    /// Bytes on the heap.
    pub(super) fn allocated(&self) -> usize {
        self.nodes.allocated() + self.table.allocated()
    }

    /// Makes a prompt, of at most as many blocks as there is room for, the most recently used. Blocks that are new go to `added`, first to last;
    /// those that make room for them to `evicted`, each before the one that it hung below. `shard_of` tells the shard of a group of blocks by its number.
    ///
    /// Should two prefixes have one hash, a block may come to be held twice, and the map forgets it with the first that goes: worth no look-up for each
    /// new block.
    pub(super) fn record(
        &mut self,
        spread: Spread,
        chain: &[u64],
        shard_of: impl Fn(usize) -> u32,
        added: &mut Changes,
        evicted: &mut Changes,
    ) {
        // No gaps: what is held of a prompt is its beginning.
        let known = chain.partition_point(|hash| self.find(spread, *hash).is_some());
        let mut tip = match known.checked_sub(1) {
            None => NONE,
            Some(last) => self.find(spread, chain[last]).unwrap_or(NONE),
        };
        let new = chain.len() - known;
        added.reserve(new);
        evicted.reserve((self.len() + new).saturating_sub(self.capacity));
        let mut number = known;
        'chain: while number < chain.len() {
            let group = number / GROUP;
            let end = chain.len().min((group + 1) * GROUP);
            self.warm(spread, &chain[number..end]);
            self.warm_oldest(spread, end - number);
            let shard = shard_of(group);
            for &hash in &chain[number..end] {
                self.adopt(tip);
                if !self.make_room(spread, evicted) {
                    self.disown(tip);
                    break 'chain;
                }
                let held = Held { hash, shard };
                tip = self.insert(spread, held, tip);
                added.push(held);
            }
            number = end;
        }
        if tip != NONE {
            self.unlink(tip);
            self.link_newest(tip);
        }
    }

    /// Removes the least recently used block.
    pub(super) fn pop_oldest(&mut self, spread: Spread) -> Option<Held> {
        loop {
            let index = self.oldest;
            if index == NONE {
                return None;
            }
            self.unlink(index);
            let node = *self.nodes.get(index);
            if !node.is_leaf() {
                // A prompt ended here before all that went on from here: they count from now on.
                continue;
            }
            self.forget(spread, index);
            let unused = Node {
                parent: UNUSED,
                older: self.unused,
                ..node
            };
            *self.nodes.get_mut(index) = unused;
            self.unused = index;
            self.unused_count += 1;
            self.disown(node.parent);
            // It was used when its last descendant was, unless it is in the list with a later use of its own.
            if node.parent != NONE
                && self.nodes.get(node.parent).is_leaf()
                && !self.is_linked(node.parent)
            {
                self.link_oldest(node.parent);
            }
            return Some(node.held());
        }
    }

    /// Gives memory back when enough nodes have become unused. To be called after blocks were removed for good.
    pub(super) fn compact(&mut self) {
        if self.len() == 0 {
            *self = Self::new(self.capacity);
        } else if self.unused_count >= CHUNK && self.unused_count * 8 > self.nodes.len() {
            self.renumber();
        }
    }

    /// All blocks, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = Held> + '_ {
        (0..self.nodes.len() as u32)
            .map(|index| self.nodes.get(index))
            .filter(|node| node.parent != UNUSED)
            .map(Node::held)
    }

    /// Loads what looking up these blocks needs first: without branches between, the processor waits for the memory of many at once.
    fn warm(&self, spread: Spread, chain: &[u64]) {
        let loaded = chain
            .iter()
            .fold(0, |loaded, hash| loaded ^ self.table.warm(spread.of(*hash)));
        black_box(loaded);
    }

    /// The same for the blocks that will make room when `count` new ones come, if they are of one prompt, as most are.
    fn warm_oldest(&self, spread: Spread, count: usize) {
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
            next = node.parent;
        }
        black_box(loaded);
    }

    fn find(&self, spread: Spread, hash: u64) -> Option<u32> {
        let place = self.table.find(spread.of(hash), |index| {
            self.nodes.get(*index).hash() == hash
        })?;
        Some(*self.table.get(place))
    }

    /// Counts a child of `parent`, which is therefore no leaf and will not be evicted; what hangs below it is newer than any use of its own.
    fn adopt(&mut self, parent: u32) {
        if parent != NONE {
            self.nodes.get_mut(parent).shard_and_children += CHILD;
            self.unlink(parent);
        }
    }

    fn disown(&mut self, parent: u32) {
        if parent != NONE {
            self.nodes.get_mut(parent).shard_and_children -= CHILD;
        }
    }

    /// False when nothing can go.
    fn make_room(&mut self, spread: Spread, evicted: &mut Changes) -> bool {
        while self.len() >= self.capacity {
            let Some(held) = self.pop_oldest(spread) else {
                return false;
            };
            evicted.push(held);
        }
        true
    }

    /// Adds a block that is not held below `parent`, which has counted it; it does not stand in the list of use yet.
    fn insert(&mut self, spread: Spread, held: Held, parent: u32) -> u32 {
        let node = Node::new(held, parent);
        let index = if self.unused == NONE {
            self.nodes.push(node)
        } else {
            let index = self.unused;
            self.unused = self.nodes.get(index).older;
            self.unused_count -= 1;
            *self.nodes.get_mut(index) = node;
            index
        };
        let nodes = &self.nodes;
        self.table.insert(spread.of(held.hash), index, |index| {
            spread.of(nodes.get(*index).hash())
        });
        index
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

    fn is_linked(&self, index: u32) -> bool {
        // Each in the list has a neighbour, but for one that stands there alone.
        let node = self.nodes.get(index);
        node.newer != NONE || node.older != NONE || self.newest == index
    }

    /// Takes a node out of the list of use, if it stands in it.
    fn unlink(&mut self, index: u32) {
        if !self.is_linked(index) {
            return;
        }
        let node = self.nodes.get_mut(index);
        let newer = std::mem::replace(&mut node.newer, NONE);
        let older = std::mem::replace(&mut node.older, NONE);
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
        self.nodes.get_mut(index).older = older;
        match older {
            NONE => self.oldest = index,
            older => self.nodes.get_mut(older).newer = index,
        }
        self.newest = index;
    }

    fn link_oldest(&mut self, index: u32) {
        let newer = self.oldest;
        self.nodes.get_mut(index).newer = newer;
        match newer {
            NONE => self.newest = index,
            newer => self.nodes.get_mut(newer).older = index,
        }
        self.oldest = index;
    }

    /// Moves the nodes in use together, to the front.
    fn renumber(&mut self) {
        let mut moved = vec![NONE; self.nodes.len()];
        let mut count = 0;
        for (index, moved) in moved.iter_mut().enumerate() {
            if self.nodes.get(index as u32).parent != UNUSED {
                *moved = count;
                count += 1;
            }
        }
        let new = |old: u32| match old {
            NONE => NONE,
            old => moved[old as usize],
        };
        for index in 0..self.nodes.len() as u32 {
            let node = *self.nodes.get(index);
            if node.parent != UNUSED {
                *self.nodes.get_mut(new(index)) = Node {
                    parent: new(node.parent),
                    newer: new(node.newer),
                    older: new(node.older),
                    ..node
                };
            }
        }
        self.table.for_each_mut(|index| *index = new(*index));
        self.newest = new(self.newest);
        self.oldest = new(self.oldest);
        self.nodes.truncate(count);
        self.unused = NONE;
        self.unused_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Records; gives the hashes that came and went.
    fn record(lru: &mut Lru, spread: Spread, chain: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let (mut added, mut evicted) = (Changes::new(), Changes::new());
        lru.record(
            spread,
            chain,
            |group| group as u32,
            &mut added,
            &mut evicted,
        );
        let hashes = |changes: Changes| changes.iter().map(|held| held.hash).collect();
        (hashes(added), hashes(evicted))
    }

    fn pop(lru: &mut Lru, spread: Spread) -> Option<u64> {
        lru.pop_oldest(spread).map(|held| held.hash)
    }

    fn blocks(lru: &Lru) -> BTreeSet<u64> {
        lru.iter().map(|held| held.hash).collect()
    }

    /// Every leaf is in the list of use, no gaps, and the counts of children are right.
    fn check(lru: &Lru) {
        let mut linked = BTreeSet::new();
        let mut next = lru.newest;
        while next != NONE {
            assert!(linked.insert(next));
            next = lru.nodes.get(next).older;
        }
        for index in 0..lru.nodes.len() as u32 {
            let node = lru.nodes.get(index);
            if node.parent == UNUSED {
                continue;
            }
            assert_eq!(lru.is_linked(index), linked.contains(&index));
            assert!(!node.is_leaf() || linked.contains(&index));
            let children = (0..lru.nodes.len() as u32)
                .filter(|other| lru.nodes.get(*other).parent == index)
                .count();
            assert_eq!(
                node.shard_and_children,
                node.held().shard + CHILD * children as u32
            );
            assert!(node.parent == NONE || lru.nodes.get(node.parent).parent != UNUSED);
        }
        assert_eq!(lru.table.len(), lru.len());
    }

    #[test]
    fn the_end_of_the_oldest_prompt_makes_room() {
        let spread = Spread::random();
        let mut lru = Lru::new(4);
        assert_eq!(
            record(&mut lru, spread, &[1, 2, 3]),
            (vec![1, 2, 3], vec![])
        );
        assert_eq!(record(&mut lru, spread, &[7, 8]), (vec![7, 8], vec![3]));
        assert_eq!(record(&mut lru, spread, &[1, 2, 4]), (vec![4], vec![8]));
        assert_eq!(record(&mut lru, spread, &[1, 2]), (vec![], vec![]));
        assert_eq!(blocks(&lru), [1, 2, 4, 7].into());
        assert_eq!(pop(&mut lru, spread), Some(7));
        assert_eq!(pop(&mut lru, spread), Some(4));
        check(&lru);
    }

    #[test]
    fn a_prompt_used_again_outlives_an_older_continuation_of_it() {
        let spread = Spread::random();
        let mut lru = Lru::new(10);
        record(&mut lru, spread, &[1, 2, 3, 4]);
        record(&mut lru, spread, &[7]);
        record(&mut lru, spread, &[1, 2]);
        let gone: Vec<_> = std::iter::from_fn(|| pop(&mut lru, spread)).collect();
        assert_eq!(gone, [4, 3, 7, 2, 1]);
    }

    #[test]
    fn chains_that_contradict_each_other_break_no_rule_of_the_list() {
        let spread = Spread::random();
        let mut lru = Lru::new(4);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..3000 {
            let chain: Vec<u64> = (0..random.usize(..=4)).map(|_| random.u64(..8)).collect();
            record(&mut lru, spread, &chain);
            check(&lru);
            assert!(lru.len() <= 4);
        }
        while pop(&mut lru, spread).is_some() {
            check(&lru);
        }
        assert_eq!(lru.len(), 0);
    }

    #[test]
    fn an_emptied_list_holds_no_nodes_and_a_small_table() {
        let spread = Spread::random();
        let mut lru = Lru::new(usize::MAX);
        for hash in 0..10_000 {
            record(&mut lru, spread, &[hash / 10 + 100_000, hash]);
        }
        while lru.pop_oldest(spread).is_some() {}
        lru.compact();
        assert!(lru.allocated() < 1024, "{} bytes", lru.allocated());
    }

    #[test]
    fn memory_of_removed_blocks_comes_back_whatever_stays() {
        let spread = Spread::random();
        let mut lru = Lru::new(usize::MAX);
        let chain = |family: u64| [1, family / 100 + 10, family + 1000, family + 100_000];
        for family in 0..10_000 {
            record(&mut lru, spread, &chain(family));
        }
        let full = lru.allocated();
        for _ in 0..18_000 {
            lru.pop_oldest(spread);
            lru.compact();
        }
        check(&lru);
        assert!(lru.allocated() * 5 < full);
        let left = blocks(&lru);
        record(&mut lru, spread, &chain(9_999));
        assert_eq!(blocks(&lru), left, "the newest is the last to go");
    }

    proptest! {
        #[test]
        fn goes_in_the_order_of_a_list_of_all_blocks(operations in proptest::collection::vec((0u8..4, 0u64..4, 0usize..40), 0..200), capacity in 1usize..70) {
            let spread = Spread::random();
            let mut lru = Lru::new(capacity);
            // Most recently used first, a block before those below it.
            let mut model: Vec<u64> = Vec::new();
            for (operation, family, length) in operations {
                if operation == 0 {
                    prop_assert_eq!(pop(&mut lru, spread), model.pop());
                    lru.compact();
                } else {
                    let mut chain: Vec<u64> = (0..length as u64).map(|depth| if depth < 4 { depth } else { family * 100 + depth }).collect();
                    chain.truncate(capacity);
                    let new: Vec<u64> = chain.iter().copied().filter(|hash| !model.contains(hash)).collect();
                    model.retain(|hash| !chain.contains(hash));
                    model.splice(0..0, chain.iter().copied());
                    let mut gone = model.split_off(model.len().min(capacity));
                    gone.reverse();
                    prop_assert_eq!(record(&mut lru, spread, &chain), (new, gone));
                }
                prop_assert_eq!(blocks(&lru), model.iter().copied().collect::<BTreeSet<_>>());
                check(&lru);
            }
        }
    }
}
