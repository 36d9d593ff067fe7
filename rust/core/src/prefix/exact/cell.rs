//! One slot as a writer changes it and readers read it: a key and a holder word, with the chunk's count of renamings.
//!
//! A reader asks "who holds `wanted`" of a slot that may be freed and given to another key meanwhile. It must never take the word of one key for another's.
//!
//! Writer, to give a slot a new key: count the renaming, word = [`EMPTY`], key = new, word = new; each store releases what went before.
//! Reader: count, key, word, key, count; each load acquires. It believes the word if both keys are `wanted` and both counts are equal. Why that is enough:
//!
//! * The word of a later key B was stored after key = B, so who reads it finds B, or something later, in the second look at the key.
//! * The second look finds `wanted` all the same only if the slot was renamed from B back to `wanted` after that word was written. That renaming was counted before its key
//!   was stored, so the second count has it. The first count has not: whoever sees that count also sees key = B, and the first look at the key would not have found `wanted`.
//! * The word of an earlier key is gone before the key is: word = [`EMPTY`] was stored before the key that the first look found.
//!
//! `tests/loom_exact.rs` lets loom try all interleavings of this file.

use super::atomics::{AtomicU32, AtomicU64, Ordering};

/// Word of a slot that nobody holds.
pub(super) const EMPTY: u32 = 0;

/// How often a reader looks again while the chunk is being renamed under it; after that the block counts as not held, so a reader never waits.
const LOOKS: usize = 8;

/// The word of the slot if its key is `wanted`, [`EMPTY`] if not.
#[inline]
pub(super) fn read(renamed: &AtomicU32, key: &AtomicU64, word: &AtomicU32, wanted: u64) -> u32 {
    for _ in 0..LOOKS {
        let before = renamed.load(Ordering::Acquire);
        if key.load(Ordering::Acquire) != wanted {
            return EMPTY;
        }
        let found = word.load(Ordering::Acquire);
        if key.load(Ordering::Acquire) != wanted {
            return EMPTY;
        }
        if renamed.load(Ordering::Acquire) == before {
            return found;
        }
    }
    EMPTY
}

/// Gives a slot that nobody holds to `new_key`. `used`: it had a key before. Only the one writer calls this.
#[inline]
pub(super) fn rename(
    renamed: &AtomicU32,
    key: &AtomicU64,
    word: &AtomicU32,
    new_key: u64,
    new_word: u32,
    used: bool,
) {
    if used {
        // A slot in its first use cannot have been `wanted` before, and readers of a chunk that fills up shall not look twice.
        renamed.store(
            renamed.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Release,
        );
        word.store(EMPTY, Ordering::Release);
    }
    key.store(new_key, Ordering::Release);
    word.store(new_word, Ordering::Release);
}
