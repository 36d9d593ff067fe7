//! What the scanner is inside of: one bit a level.

use smallvec::SmallVec;

/// An object or an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// `{`
    Object,
    /// `[`
    Array,
}

/// Stack of open containers, with a limit on its depth.
#[derive(Debug)]
pub(super) struct Nesting {
    bits: SmallVec<[u64; 2]>,
    depth: usize,
    limit: usize,
}

impl Nesting {
    /// Empty; at most `limit` levels.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bits: SmallVec::new(),
            depth: 0,
            limit,
        }
    }

    /// Open containers.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Opens one; false when that is too deep.
    pub(super) fn push(&mut self, container: Container) -> bool {
        if self.depth >= self.limit {
            return false;
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        self.bits[word] &= !(1 << bit);
        self.bits[word] |= u64::from(container == Container::Object) << bit;
        self.depth += 1;
        true
    }

    /// The innermost container.
    pub(super) fn top(&self) -> Option<Container> {
        let level = self.depth.checked_sub(1)?;
        let object = self.bits[level / 64] >> (level % 64) & 1 == 1;
        Some(if object {
            Container::Object
        } else {
            Container::Array
        })
    }

    /// Closes the innermost container.
    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.depth = 0;
    }
}
