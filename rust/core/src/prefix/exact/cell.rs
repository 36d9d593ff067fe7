//! One slot as a writer changes it and readers read it: content hash and word, under the version that its neighbours share.
//!
//! Three rules of the writer carry all that readers conclude:
//!
//! 1. A slot is freed (word = 0) only when nobody holds its block and nothing follows it.
//! 2. Between freeing and filling again the version is raised; a slot that was never used needs none.
//! 3. A content is stored before the word that makes the slot count.
//!
//! A reader notes the version when it enters a run of slots and looks again when it leaves. Is it the same, then no slot there was filled a second time in between:
//!
//! * Whoever notes a version sees every word = 0 that was stored before that version was raised, so a word that is not 0 is not left over from a former block (rule 2).
//! * The word is read first. A word that is not 0 brings its content along (rule 3); a content of a later block comes after a raise that the second look cannot miss.
//! * So each block that it met in the run kept its slot from the time it was met until the second look. The one that it stands on has been there all along, and a block that says
//!   "I follow the slot before me" follows that one: what was seen is one path, and each word was the block's own when it was read.
//!
//! From one run to another leads an entry of `heads`; why that step is sound is argued there. `tests/loom_exact.rs` lets loom try all interleavings of this file.

use super::atomics::{AtomicU32, AtomicU64, Ordering};

/// Holders of a block that nobody holds.
pub(super) const EMPTY: u32 = 0;

/// In a word: the block follows the one in the slot before.
pub(super) const LINK: u32 = 1 << 30;

/// In a word: blocks follow this one that are not in the slot behind.
pub(super) const BRANCH: u32 = 1 << 29;

/// The part of a word that says who holds the block.
#[inline]
pub(super) const fn holders(word: u32) -> u32 {
    word & !(LINK | BRANCH)
}

/// The word of a slot if it has that content. One that is free has word 0.
#[inline]
pub(super) fn read(content: &AtomicU64, word: &AtomicU32, wanted: u64) -> Option<u32> {
    let found = word.load(Ordering::Acquire);
    (content.load(Ordering::Acquire) == wanted).then_some(found)
}

/// Version to look at again with [`unchanged`].
#[inline]
pub(super) fn enter(version: &AtomicU32) -> u32 {
    version.load(Ordering::Acquire)
}

/// Whether no slot was filled a second time since [`enter`]. All that was read in between was loaded with `Acquire`, so this look comes after it.
#[inline]
pub(super) fn unchanged(version: &AtomicU32, entered: u32) -> bool {
    version.load(Ordering::Acquire) == entered
}

/// Tells readers that slots are about to be filled again. Only the one writer calls this.
#[inline]
pub(super) fn reuse(version: &AtomicU32) {
    let raised = version.load(Ordering::Relaxed).wrapping_add(1);
    version.store(raised, Ordering::Release);
}

/// Fills a free slot. Only the one writer calls this.
#[inline]
pub(super) fn fill(content: &AtomicU64, word: &AtomicU32, new_content: u64, new_word: u32) {
    content.store(new_content, Ordering::Release);
    word.store(new_word, Ordering::Release);
}
