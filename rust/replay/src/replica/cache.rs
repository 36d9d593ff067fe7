//! The KV cache of one replica: named blocks, shared while in use, evicted least recently freed first.
//!
//! Behaves as `warmroute.sim.cache.BlockCache` does, but only what can be told apart is an entry of its own: a named block
//! (a unit of the trace, of one or more KV blocks), or a run of KV blocks whose content nobody will ask for. Which KV
//! blocks someone is given never matters, so those in use without a name are only a number.

use hashbrown::HashTable;

const NONE: u32 = u32::MAX;
const OWNER_UNNAMED: u32 = u32::MAX;
const OWNER_SEQUENCE: u32 = u32::MAX - 1;

/// What a full block's content is called: equal names, equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    id: u64,
    owner: u32,
}

impl Name {
    const UNNAMED: Self = Self {
        id: 0,
        owner: OWNER_UNNAMED,
    };

    /// A block of a prompt, under an adapter (0: none).
    pub(super) fn of_prompt(id: u64, lora: u16) -> Self {
        Self {
            id,
            owner: u32::from(lora),
        }
    }

    /// Block `index` of those that only one sequence has: the rest of its prompt and its answer.
    pub(super) fn of_sequence(serial: u32, index: u32) -> Self {
        Self {
            id: u64::from(serial) << 32 | u64::from(index),
            owner: OWNER_SEQUENCE,
        }
    }

    fn hash(self) -> u64 {
        // Ids may be counted up or be hashes already: a folded multiplication spreads both.
        let mixed = u128::from(self.id ^ (u64::from(self.owner) << 40) ^ 0x517c_c1b7_2722_0a95)
            * 0x9e37_79b9_7f4a_7c15;
        (mixed ^ (mixed >> 64)) as u64
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Name,
    /// Sequences that hold it; 0: it is free and in the list.
    holders: u32,
    /// KV blocks.
    weight: u32,
    older: u32,
    newer: u32,
}

/// Blocks of one replica.
#[derive(Debug)]
pub(super) struct BlockCache {
    entries: Vec<Entry>,
    spare: Vec<u32>,
    names: HashTable<u32>,
    /// KV blocks without content; given out before anything is evicted.
    empty: u32,
    /// KV blocks of the list.
    listed: u32,
    /// The ends of the list of free entries.
    oldest: u32,
    newest: u32,
    total: u32,
}

impl BlockCache {
    /// An empty cache of so many usable KV blocks.
    pub(super) fn new(total: u32) -> Self {
        Self {
            entries: Vec::new(),
            spare: Vec::new(),
            names: HashTable::new(),
            empty: total,
            listed: 0,
            oldest: NONE,
            newest: NONE,
            total,
        }
    }

    /// KV blocks there are.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// KV blocks that can be given out now (those with content included).
    pub(super) fn free(&self) -> u32 {
        self.empty + self.listed
    }

    /// The block of this name.
    pub(super) fn find(&self, name: Name) -> Option<u32> {
        let entries = &self.entries;
        self.names
            .find(name.hash(), |&entry| entries[entry as usize].name == name)
            .copied()
    }

    /// KV blocks of this entry that are free now.
    pub(super) fn free_of(&self, entry: u32) -> u32 {
        let entry = &self.entries[entry as usize];
        if entry.holders == 0 { entry.weight } else { 0 }
    }

    /// One more sequence uses this (found) entry.
    pub(super) fn hold(&mut self, entry: u32) {
        if self.entries[entry as usize].holders == 0 {
            self.unlink(entry);
            self.listed -= self.entries[entry as usize].weight;
        }
        self.entries[entry as usize].holders += 1;
    }

    /// Gives out KV blocks, evicting the least recently freed content; false, and nothing done, when there are not that many.
    #[must_use]
    pub(super) fn allocate(&mut self, blocks: u32) -> bool {
        if blocks > self.free() {
            return false;
        }
        let from_empty = blocks.min(self.empty);
        self.empty -= from_empty;
        let mut missing = blocks - from_empty;
        while missing > 0 {
            let oldest = self.oldest;
            let entry = self.entries[oldest as usize];
            if entry.name == Name::UNNAMED && entry.weight > missing {
                self.entries[oldest as usize].weight -= missing;
                self.listed -= missing;
                return true;
            }
            self.unlink(oldest);
            self.listed -= entry.weight;
            self.forget(oldest);
            // A unit that lost one KV block is a unit no more: what is left of it goes next.
            self.empty += entry.weight.saturating_sub(missing);
            missing = missing.saturating_sub(entry.weight);
        }
        true
    }

    /// Makes KV blocks that were given out an entry held by one sequence. It gets the name unless another has it: of what is computed twice at
    /// once only the first copy can be found, as in `warmroute.sim` (vLLM names both).
    pub(super) fn name(&mut self, name: Name, weight: u32) -> u32 {
        let known = self.find(name).is_some();
        let entry = self.insert(Entry {
            name: if known { Name::UNNAMED } else { name },
            holders: 1,
            weight,
            older: NONE,
            newer: NONE,
        });
        if !known {
            let entries = &self.entries;
            self.names.insert_unique(name.hash(), entry, |&other| {
                entries[other as usize].name.hash()
            });
        }
        entry
    }

    /// One sequence less uses this entry.
    pub(super) fn release(&mut self, entry: u32) {
        let slot = &mut self.entries[entry as usize];
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        let weight = slot.weight;
        if slot.name == Name::UNNAMED {
            self.spare.push(entry);
            self.release_unnamed(weight);
        } else {
            self.listed += weight;
            self.link(entry);
        }
    }

    /// KV blocks without a name are no longer used.
    pub(super) fn release_unnamed(&mut self, blocks: u32) {
        if blocks == 0 {
            return;
        }
        self.listed += blocks;
        if self.newest != NONE && self.entries[self.newest as usize].name == Name::UNNAMED {
            self.entries[self.newest as usize].weight += blocks;
            return;
        }
        let entry = self.insert(Entry {
            name: Name::UNNAMED,
            holders: 0,
            weight: blocks,
            older: NONE,
            newer: NONE,
        });
        self.link(entry);
    }

    fn insert(&mut self, entry: Entry) -> u32 {
        if let Some(slot) = self.spare.pop() {
            self.entries[slot as usize] = entry;
            return slot;
        }
        self.entries.push(entry);
        self.entries.len() as u32 - 1
    }

    fn forget(&mut self, entry: u32) {
        let name = self.entries[entry as usize].name;
        if name != Name::UNNAMED
            && let Ok(found) = self.names.find_entry(name.hash(), |&other| other == entry)
        {
            found.remove();
        }
        self.spare.push(entry);
    }

    fn link(&mut self, entry: u32) {
        let before = self.newest;
        let slot = &mut self.entries[entry as usize];
        slot.older = before;
        slot.newer = NONE;
        self.newest = entry;
        if before == NONE {
            self.oldest = entry;
        } else {
            self.entries[before as usize].newer = entry;
        }
    }

    fn unlink(&mut self, entry: u32) {
        let Entry { older, newer, .. } = self.entries[entry as usize];
        if older == NONE {
            self.oldest = newer;
        } else {
            self.entries[older as usize].newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.entries[newer as usize].older = older;
        }
    }

    /// Walks everything and compares it with the counts; `unnamed_held`: KV blocks that sequences hold outside of entries.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, unnamed_held: u32) {
        let mut listed = 0;
        let mut free_entries = 0;
        let mut at = self.oldest;
        while at != NONE {
            let entry = &self.entries[at as usize];
            assert_eq!(entry.holders, 0, "a free entry has no holders");
            assert!(entry.weight > 0, "an entry has blocks");
            listed += entry.weight;
            free_entries += 1;
            at = entry.newer;
        }
        assert_eq!(listed, self.listed);
        let held: u32 = self
            .entries
            .iter()
            .filter(|entry| entry.holders > 0)
            .map(|entry| entry.weight)
            .sum();
        assert_eq!(
            self.empty + listed + held + unnamed_held,
            self.total,
            "blocks are conserved"
        );
        let held_entries = self
            .entries
            .iter()
            .filter(|entry| entry.holders > 0)
            .count();
        assert_eq!(
            free_entries + held_entries + self.spare.len(),
            self.entries.len()
        );
        for &entry in &self.names {
            assert_eq!(
                self.find(self.entries[entry as usize].name),
                Some(entry),
                "a name leads to its block"
            );
        }
    }
}
