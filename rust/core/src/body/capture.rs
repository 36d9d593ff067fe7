//! Short strings copied out of a document: keys to compare, and the few values that a decision needs whole.

use super::table::LONGEST_KEY;
use super::text::lossy;

/// A key, kept as long as it can still be one that a table names.
#[derive(Debug)]
pub(super) struct Key {
    bytes: [u8; LONGEST_KEY],
    length: usize,
}

impl Key {
    /// The empty key.
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; LONGEST_KEY],
            length: 0,
        }
    }

    /// Forgets it.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends text; what is too long for any table stays too long.
    pub(super) fn push(&mut self, run: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + run.len()) {
            room.copy_from_slice(run);
        }
        self.length = (self.length + run.len()).min(LONGEST_KEY + 1);
    }

    /// The key; empty when it is longer than any that a table names.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Bytes of the longest value copied.
pub(super) const LONGEST_VALUE: usize = 4096;

/// A string value being copied.
#[derive(Debug, Default)]
pub(super) struct Value {
    bytes: Vec<u8>,
    too_long: bool,
}

/// The value was longer than [`LONGEST_VALUE`].
#[derive(Debug)]
pub(super) struct TooLong;

impl Value {
    /// Appends text.
    pub(super) fn push(&mut self, run: &[u8]) {
        if self.bytes.len() + run.len() > LONGEST_VALUE {
            self.too_long = true;
        } else {
            self.bytes.extend_from_slice(run);
        }
    }

    /// The value; empties it for the next.
    pub(super) fn take(&mut self) -> Result<Box<str>, TooLong> {
        let text = lossy(&self.bytes);
        self.bytes.clear();
        if std::mem::take(&mut self.too_long) {
            Err(TooLong)
        } else {
            Ok(text)
        }
    }
}
