//! Paths through the slots: a block is where its parent's path goes on with its content, so a slot's number stands for a whole prefix.

use hashbrown::HashMap;

use super::cell::{BRANCH, EMPTY, LINK, holders};
use super::heads::Heads;
use super::slots::Slots;
use super::{Secrets, chain};

/// What new blocks follow.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// A root's hash.
    Root(u64),
    Slot(u32),
}

/// Blocks that follow no other block are found by their key, which is their content in the slots as well; 32 bits of its hash are what a table's entry tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) hash: u64,
    pub(super) check: u32,
    /// What the slot has as content.
    pub(super) content: u64,
}

impl Secrets {
    /// A block that follows a root.
    #[inline]
    pub(super) fn first(self, root: u64, content: u64) -> Head {
        let content = chain(root, content);
        let hash = self.key(content);
        Head {
            hash,
            check: (hash >> 16) as u32,
            content,
        }
    }

    /// A block that follows the one in a slot.
    #[inline]
    pub(super) fn branch(self, parent: u32, content: u64) -> Head {
        Head {
            hash: self.key(content ^ self.sets.wrapping_mul(u64::from(parent) << 1 | 1)),
            check: parent,
            content,
        }
    }
}

/// Slots and how they hang together.
#[derive(Debug)]
pub(super) struct Paths {
    secrets: Secrets,
    pub(super) slots: Slots,
    /// First blocks of all prompts: few, and asked for by every query.
    pub(super) firsts: Heads,
    /// Blocks that follow one that is not in the slot before.
    pub(super) branches: Heads,
    /// Parents of those in `branches`.
    parents: HashMap<u32, u32>,
    /// Blocks in `branches` that follow a slot.
    children: HashMap<u32, u32>,
    /// Blocks that nobody holds and others follow.
    pub(super) unheld: usize,
}

impl Paths {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            slots: Slots::default(),
            firsts: Heads::new(1),
            branches: Heads::new(64),
            parents: HashMap::new(),
            children: HashMap::new(),
            unheld: 0,
        }
    }

    /// The block of that content behind another.
    #[inline]
    pub(super) fn child(&self, at: At, content: u64) -> Option<u32> {
        let slots = &self.slots;
        match at {
            At::Root(root) => {
                let head = self.secrets.first(root, content);
                self.firsts.find(head.hash, head.check, |slot| {
                    slots.content(slot) == head.content
                })
            }
            At::Slot(parent) => slots.follower(parent, content).or_else(|| {
                if slots.word(parent) & BRANCH == 0 {
                    return None;
                }
                let head = self.secrets.branch(parent, content);
                self.branches
                    .find(head.hash, head.check, |slot| slots.content(slot) == content)
            }),
        }
    }

    /// Makes room for one more head behind `at`. True: a table was replaced, which must be published before anything else changes.
    #[must_use]
    pub(super) fn make_room(&mut self, at: At, content: u64) -> bool {
        let (slots, secrets) = (&self.slots, self.secrets);
        match at {
            At::Root(root) => {
                let hash = secrets.first(root, content).hash;
                let hash_of = |_, slot| secrets.key(slots.content(slot));
                self.firsts.make_room(hash, hash_of)
            }
            At::Slot(parent) => {
                let hash = secrets.branch(parent, content).hash;
                let hash_of = |parent, slot| secrets.branch(parent, slots.content(slot)).hash;
                self.branches.make_room(hash, hash_of)
            }
        }
    }

    /// Gives back tables that became too big. True: they must be published before anything else changes.
    #[must_use]
    pub(super) fn tidy(&mut self) -> bool {
        for map in [&mut self.parents, &mut self.children] {
            if map.capacity() > 64 && map.len() * 4 < map.capacity() {
                map.shrink_to(map.len() * 2);
            }
        }
        let (slots, secrets) = (&self.slots, self.secrets);
        let firsts = self
            .firsts
            .give_back(|_, slot| secrets.key(slots.content(slot)));
        let branches = self
            .branches
            .give_back(|parent, slot| secrets.branch(parent, slots.content(slot)).hash);
        firsts || branches
    }

    /// Puts blocks that are not there behind `at`, as many as fit in a row, all with the same holders. Returns the first slot and their number; none when slots are used up.
    /// Room for a head was made.
    pub(super) fn grow(
        &mut self,
        at: At,
        contents: impl ExactSizeIterator<Item = u64> + Clone,
        holders: u32,
    ) -> Option<(u32, u32)> {
        let parent = match at {
            At::Root(_) => None,
            At::Slot(slot) => Some(slot),
        };
        let (slot, taken) = self.slots.take(parent, contents.len() as u32)?;
        let mut blocks = contents.take(taken as usize);
        match at {
            At::Slot(parent) if Slots::behind(parent) == Some(slot) => {
                self.slots.fill(slot, blocks, holders | LINK);
            }
            At::Slot(parent) => {
                let content = blocks.clone().next()?;
                self.slots.fill(slot, blocks, holders);
                let head = self.secrets.branch(parent, content);
                self.branches.insert(head.hash, head.check, slot);
                self.parents.insert(slot, parent);
                *self.children.entry(parent).or_default() += 1;
                self.slots
                    .set_word(parent, self.slots.word(parent) | BRANCH);
            }
            At::Root(root) => {
                let head = self.secrets.first(root, blocks.next()?);
                let blocks = std::iter::once(head.content).chain(blocks);
                self.slots.fill(slot, blocks, holders);
                self.firsts.insert(head.hash, head.check, slot);
            }
        }
        Some((slot, taken))
    }

    /// The block before one; none at the beginning.
    pub(super) fn parent(&self, slot: u32) -> Option<u32> {
        if self.slots.word(slot) & LINK != 0 {
            return Some(slot - 1);
        }
        self.parents.get(&slot).copied()
    }

    /// Nobody holds the block any more: it goes, with those before it that were kept for it, or stays if others follow it.
    pub(super) fn abandon(&mut self, slot: u32) {
        let word = self.slots.word(slot);
        self.slots.set_word(slot, word & (LINK | BRANCH));
        self.unheld += 1;
        let mut next = Some(slot);
        while let Some(slot) = next {
            let word = self.slots.word(slot);
            if holders(word) != EMPTY || word & BRANCH != 0 || self.slots.has_follower(slot) {
                return;
            }
            next = self.parent(slot);
            if word & LINK == 0 {
                self.remove_head(slot, next);
            }
            self.slots.free(slot);
            self.unheld -= 1;
        }
    }

    fn remove_head(&mut self, slot: u32, parent: Option<u32>) {
        let content = self.slots.content(slot);
        let Some(parent) = parent else {
            let hash = self.secrets.key(content);
            self.firsts.remove(hash, (hash >> 16) as u32, slot);
            return;
        };
        let head = self.secrets.branch(parent, content);
        self.branches.remove(head.hash, head.check, slot);
        self.parents.remove(&slot);
        if let Some(children) = self.children.get_mut(&parent) {
            *children -= 1;
            if *children == 0 {
                self.children.remove(&parent);
                self.slots
                    .set_word(parent, self.slots.word(parent) & !BRANCH);
            }
        }
    }

    /// Blocks that somebody holds.
    pub(super) fn held(&self) -> usize {
        self.slots.len() - self.unheld
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes()
            + self.firsts.bytes()
            + self.branches.bytes()
            + self.parents.allocation_size()
            + self.children.allocation_size()
    }

    /// Bytes that `blocks` new ones take at most.
    pub(super) fn bytes_for(&self, blocks: usize) -> usize {
        let grown = |map: &HashMap<u32, u32>| {
            if map.len() + blocks <= map.capacity() {
                return 0;
            }
            map.allocation_size() + blocks * 32
        };
        self.slots.bytes_for(blocks)
            + self.firsts.bytes_for(1)
            + self.branches.bytes_for(blocks)
            + grown(&self.parents)
            + grown(&self.children)
    }
}
