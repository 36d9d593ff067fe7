//! Blocks that count as held because they were just sent: the next request with the same beginning need not wait for the engine to say so.
//!
//! They are entries of the index like others, in a tier of their own, stored at the decision and removed when their time is over. A decision waits
//! neither for the index's writer nor for what another one stores: what it cannot store at once, and long prompts, whose blocks take milliseconds, are
//! stored by a thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::exact::SPECULATIVE;
use crate::Nanos;
use crate::prefix::exact::{ExactIndex, chain};

/// Prompts that may be stored: beyond, the oldest go.
const MOST: usize = 65_536;

/// Their blocks, of 8 bytes each.
const MOST_BLOCKS: usize = 8 << 20;

/// Prompts that may wait for the writer: beyond, the oldest are not stored.
const MOST_PENDING: usize = 1024;

/// Blocks that a decision stores itself, at most: some tens of microseconds.
const SHORT: usize = 256;

/// What was sent and has not run out.
#[derive(Debug, Default)]
pub(super) struct Speculation(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    /// Held while something is stored; taken before the queues.
    storing: Mutex<()>,
    /// There is something for the thread.
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    /// Not stored yet.
    pending: VecDeque<Sent>,
    /// Stored, by rising time; the time is the same for all of a configuration, and a change of it only delays.
    stored: VecDeque<Sent>,
    stored_blocks: usize,
    /// The thread runs: from the first time on that it is needed.
    has_thread: bool,
    closed: bool,
}

/// A prompt that was sent, whose blocks count as held since.
#[derive(Debug)]
pub(super) struct Sent {
    /// Slot of the endpoint.
    pub(super) slot: u32,
    /// Number of its engine in the index.
    pub(super) owner: u32,
    /// What stands before the first block.
    pub(super) root: u64,
    /// Content hashes of the blocks.
    pub(super) contents: Box<[u64]>,
    /// Leading blocks that need not be stored, as the engine says that it holds them.
    pub(super) known: usize,
    pub(super) expires: Nanos,
}

impl Queues {
    fn take_oldest(&mut self) -> Option<Sent> {
        let oldest = self.stored.pop_front()?;
        self.stored_blocks -= oldest.contents.len();
        Some(oldest)
    }
}

impl Sent {
    /// Blocks that are to be stored.
    fn new_blocks(&self) -> usize {
        self.contents.len().saturating_sub(self.known)
    }

    /// Stores them, unless the index is being changed.
    fn try_store(&mut self, index: &ExactIndex) -> bool {
        let stored = index.try_store_path(
            self.owner,
            SPECULATIVE,
            self.root,
            &self.contents,
            self.known,
        );
        if stored.is_none() {
            return false;
        }
        self.forget_known();
        true
    }

    /// Stores them, when the index can be changed.
    fn store(&mut self, index: &ExactIndex) {
        if let Ok(lane) = index.open(self.owner, SPECULATIVE) {
            index.store_path(lane, self.root, &self.contents, self.known);
        }
        self.forget_known();
    }

    /// Once they are stored, what is known before them is of no use.
    fn forget_known(&mut self) {
        let (known, stored) = self.contents.split_at(self.known);
        self.root = known.iter().copied().fold(self.root, chain);
        self.contents = stored.into();
        self.known = 0;
    }

    /// Keys under which the blocks behind the known ones are stored.
    fn keys(&self) -> Vec<u64> {
        let keys = self.contents.iter().scan(self.root, |key, content| {
            *key = chain(*key, *content);
            Some(*key)
        });
        keys.skip(self.known).collect()
    }
}

impl Speculation {
    /// Notes what is sent, if `is_known` still holds: it is asked when nothing can be forgotten meanwhile.
    pub(super) fn add(&self, index: &Arc<ExactIndex>, sent: Sent, is_known: impl FnOnce() -> bool) {
        if sent.new_blocks() == 0 {
            return;
        }
        {
            let mut queues = self.0.queues.lock();
            if !is_known() {
                return;
            }
            queues.pending.push_back(sent);
            if queues.pending.len() > MOST_PENDING {
                queues.pending.pop_front();
            }
        }
        if !self.0.store_short(index) {
            self.leave_to_thread(index);
        }
    }

    fn leave_to_thread(&self, index: &Arc<ExactIndex>) {
        let mut queues = self.0.queues.lock();
        if !queues.has_thread {
            let (shared, index) = (Arc::clone(&self.0), Arc::clone(index));
            let thread = thread::Builder::new().name("warmroute-expect".to_owned());
            queues.has_thread = thread.spawn(move || shared.work(&index)).is_ok();
        }
        // Without a thread the next decision tries again.
        self.0.arrived.notify_one();
    }

    /// Removes what has run out.
    pub(super) fn expire(&self, index: &ExactIndex, now: Nanos) {
        loop {
            let mut queues = self.0.queues.lock();
            queues.pending.retain(|sent| sent.expires > now);
            let oldest = queues.stored.front();
            if oldest.is_none_or(|sent| sent.expires > now) {
                return;
            }
            let expired = queues.take_oldest();
            drop(queues);
            if let Some(sent) = expired {
                remove(index, &sent);
            }
        }
    }

    /// The slot's endpoint is gone, and is not known any more: what is not stored is not going to be. What is stored is returned, oldest first.
    pub(super) fn forget(&self, slot: u32) -> Vec<Sent> {
        // What is being stored is in neither queue.
        let _storing = self.0.storing.lock();
        let mut queues = self.0.queues.lock();
        queues.pending.retain(|sent| sent.slot != slot);
        let stored = std::mem::take(&mut queues.stored);
        let (gone, kept): (Vec<_>, Vec<_>) = stored.into_iter().partition(|sent| sent.slot == slot);
        queues.stored_blocks -= gone.iter().map(|sent| sent.contents.len()).sum::<usize>();
        queues.stored = kept.into();
        gone
    }
}

impl Drop for Speculation {
    fn drop(&mut self) {
        self.0.queues.lock().closed = true;
        self.0.arrived.notify_all();
    }
}

impl Shared {
    /// Stores what waits, up to the first long prompt. False: something is left that this thread cannot or should not store.
    fn store_short(&self, index: &ExactIndex) -> bool {
        // Whoever holds it looks at the queue again when done.
        while let Some(storing) = self.storing.try_lock() {
            while let Some(mut sent) = self.take(SHORT) {
                if !sent.try_store(index) {
                    self.queues.lock().pending.push_front(sent);
                    return false;
                }
                self.keep(index, sent);
            }
            drop(storing);
            let queues = self.queues.lock();
            match queues.pending.front() {
                None => return true,
                Some(next) if next.new_blocks() > SHORT => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// The next that waits, if it has at most so many blocks.
    fn take(&self, most: usize) -> Option<Sent> {
        let pending = &mut self.queues.lock().pending;
        let next = pending.pop_front()?;
        if next.new_blocks() > most {
            pending.push_front(next);
            return None;
        }
        Some(next)
    }

    fn keep(&self, index: &ExactIndex, sent: Sent) {
        let mut queues = self.queues.lock();
        queues.stored_blocks += sent.contents.len();
        queues.stored.push_back(sent);
        let mut gone = Vec::new();
        while queues.stored.len() > MOST || queues.stored_blocks > MOST_BLOCKS {
            gone.extend(queues.take_oldest());
        }
        drop(queues);
        for oldest in gone {
            remove(index, &oldest);
        }
    }

    /// The thread: stores whatever waits.
    fn work(&self, index: &ExactIndex) {
        loop {
            {
                let mut queues = self.queues.lock();
                while queues.pending.is_empty() && !queues.closed {
                    self.arrived.wait(&mut queues);
                }
                if queues.closed {
                    return;
                }
            }
            let _storing = self.storing.lock();
            while let Some(mut sent) = self.take(usize::MAX) {
                sent.store(index);
                self.keep(index, sent);
            }
        }
    }
}

/// Takes back what was stored.
pub(super) fn remove(index: &ExactIndex, sent: &Sent) {
    // The number may be another engine's by now, which does not have these entries, or has them from a request of its own: at worst it loses those early.
    if let Ok(lane) = index.open(sent.owner, SPECULATIVE) {
        index.remove(lane, &sent.keys());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::exact::{MAX_TIERS, Matches, Tier};

    const ROOT: u64 = 9;

    fn sent(slot: u32, contents: &[u64], expires: u64) -> Sent {
        Sent {
            slot,
            owner: slot + 10,
            root: ROOT,
            contents: contents.into(),
            known: 0,
            expires: Nanos(expires),
        }
    }

    fn held(index: &ExactIndex, slot: u32, contents: &[u64]) -> u32 {
        let mut matches = Matches::new();
        index.matches(ROOT, contents, &[1.0; MAX_TIERS], &mut matches);
        matches.blocks(slot + 10)
    }

    #[test]
    fn what_was_sent_counts_as_held_until_its_time_is_over() {
        let (index, speculation) = (Arc::new(ExactIndex::new(1 << 24)), Speculation::default());
        speculation.add(&index, sent(3, &[1, 2, 3], 100), || true);
        speculation.add(&index, sent(3, &[1, 2, 4], 200), || true);
        speculation.add(&index, sent(3, &[7], 200), || false);
        assert_eq!(held(&index, 3, &[7]), 0, "nobody tells of it");
        assert_eq!(held(&index, 3, &[1, 2, 3]), 3);
        speculation.expire(&index, Nanos(100));
        assert_eq!(held(&index, 3, &[1, 2, 3]), 2, "the second still runs");
        assert_eq!(held(&index, 3, &[1, 2, 4]), 3);
        speculation.expire(&index, Nanos(200));
        assert_eq!(held(&index, 3, &[1, 2, 4]), 0);
        assert_eq!(index.usage().pairs, 0);
    }

    #[test]
    fn what_the_endpoint_has_is_not_stored_again_and_nothing_is_if_it_has_gone() {
        let (index, speculation) = (Arc::new(ExactIndex::new(1 << 24)), Speculation::default());
        let two_known = || Sent {
            known: 2,
            ..sent(3, &[1, 2, 3], 100)
        };
        speculation.add(&index, two_known(), || true);
        assert_eq!(index.usage().pairs, 0);
        let engine = index.open(13, Tier::GPU).expect("none is open");
        index.store_path(engine, ROOT, &[1, 2], 0);
        speculation.add(&index, two_known(), || true);
        assert_eq!((index.usage().pairs, held(&index, 3, &[1, 2, 3])), (3, 3));
        speculation.expire(&index, Nanos(100));
        assert_eq!((index.usage().pairs, held(&index, 3, &[1, 2, 3])), (2, 2));
    }

    #[test]
    fn what_was_sent_to_an_endpoint_that_is_gone_is_handed_back() {
        let (index, speculation) = (Arc::new(ExactIndex::new(1 << 24)), Speculation::default());
        speculation.add(&index, sent(3, &[1, 2], 100), || true);
        speculation.add(&index, sent(4, &[1, 2], 100), || true);
        for gone in speculation.forget(3) {
            remove(&index, &gone);
        }
        assert_eq!((held(&index, 3, &[1, 2]), held(&index, 4, &[1, 2])), (0, 2));
        assert!(speculation.forget(3).is_empty());
        speculation.expire(&index, Nanos(100));
        assert_eq!(index.usage().pairs, 0);
    }

    #[test]
    fn long_prompts_and_what_finds_the_writer_busy_are_stored_by_the_thread() {
        let (index, speculation) = (Arc::new(ExactIndex::new(1 << 24)), Speculation::default());
        let until = |reached: &dyn Fn() -> bool| {
            while !reached() {
                thread::yield_now();
            }
        };
        let long: Vec<u64> = (1..=4 * SHORT as u64).collect();
        speculation.add(&index, sent(3, &long, 100), || true);
        speculation.add(&index, sent(4, &[7, 8], 100), || true);
        until(&|| held(&index, 3, &long) == 4 * SHORT as u32 && held(&index, 4, &[7, 8]) == 2);
        // As while another decision stores a long one: this one does not wait for it, and is not forgotten.
        let busy = speculation.0.storing.lock();
        speculation.add(&index, sent(5, &[9], 100), || true);
        speculation.add(&index, sent(5, &long, 100), || true);
        assert_eq!(held(&index, 5, &[9]), 0);
        drop(busy);
        speculation.add(&index, sent(6, &[9], 100), || true);
        until(&|| held(&index, 5, &[9]) == 1 && held(&index, 6, &[9]) == 1);
        until(&|| held(&index, 5, &long) == 4 * SHORT as u32);
        until(&|| speculation.0.storing.try_lock().is_some());
        assert_eq!(speculation.forget(5).len(), 2);
        speculation.expire(&index, Nanos(100));
        assert_eq!(speculation.0.queues.lock().stored_blocks, 0);
        let shared = Arc::downgrade(&speculation.0);
        drop(speculation);
        until(&|| shared.strong_count() == 0);
    }
}
