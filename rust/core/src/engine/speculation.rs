//! Blocks that count as held because they were just sent: the next request with the same beginning need not wait for the engine to say so.
//!
//! They are entries of the index like others, in a tier of their own, stored at the decision and removed when their time is over. A decision never waits
//! for the index's writer: what it cannot store at once is stored by the next one that can.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::exact::SPECULATIVE;
use crate::Nanos;
use crate::prefix::exact::{ExactIndex, chain};

/// Prompts that may be waiting for the writer, or be stored: beyond, the oldest go.
const MOST: usize = 65_536;

/// What was sent and has not run out.
#[derive(Debug, Default)]
pub(super) struct Speculation(Mutex<Queues>);

#[derive(Debug, Default)]
struct Queues {
    /// Not stored yet.
    pending: VecDeque<Sent>,
    /// Stored, by rising time; the time is the same for all of a configuration, and a change of it only delays.
    stored: VecDeque<Sent>,
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

impl Sent {
    /// Stores what is to be stored, unless the index is being changed; what is known is of no use from there on.
    fn store(&mut self, index: &ExactIndex) -> bool {
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
        let (known, stored) = self.contents.split_at(self.known);
        self.root = known.iter().copied().fold(self.root, chain);
        self.contents = stored.into();
        self.known = 0;
        true
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
    pub(super) fn add(&self, index: &ExactIndex, sent: Sent, is_known: impl FnOnce() -> bool) {
        if sent.known >= sent.contents.len() {
            return;
        }
        let mut queues = self.0.lock();
        if !is_known() {
            return;
        }
        queues.pending.push_back(sent);
        while let Some(mut sent) = queues.pending.pop_front() {
            if !sent.store(index) {
                queues.pending.push_front(sent);
                break;
            }
            queues.stored.push_back(sent);
        }
        if queues.pending.len() > MOST {
            queues.pending.pop_front();
        }
        if queues.stored.len() > MOST
            && let Some(oldest) = queues.stored.pop_front()
        {
            drop(queues);
            remove(index, &oldest);
        }
    }

    /// Removes what has run out.
    pub(super) fn expire(&self, index: &ExactIndex, now: Nanos) {
        loop {
            let mut queues = self.0.lock();
            queues.pending.retain(|sent| sent.expires > now);
            let Some(sent) = queues.stored.pop_front() else {
                return;
            };
            if sent.expires > now {
                queues.stored.push_front(sent);
                return;
            }
            drop(queues);
            remove(index, &sent);
        }
    }

    /// The slot's endpoint is gone, and is not known any more: what is not stored is not going to be. What is stored is returned, oldest first.
    pub(super) fn forget(&self, slot: u32) -> Vec<Sent> {
        let mut queues = self.0.lock();
        queues.pending.retain(|sent| sent.slot != slot);
        let stored = std::mem::take(&mut queues.stored);
        let (gone, kept): (Vec<_>, Vec<_>) = stored.into_iter().partition(|sent| sent.slot == slot);
        queues.stored = kept.into();
        gone
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
        let (index, speculation) = (ExactIndex::new(1 << 24), Speculation::default());
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
        let (index, speculation) = (ExactIndex::new(1 << 24), Speculation::default());
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
        let (index, speculation) = (ExactIndex::new(1 << 24), Speculation::default());
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
}
