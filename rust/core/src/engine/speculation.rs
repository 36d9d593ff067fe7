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
    pending: VecDeque<Pending>,
    /// Stored, by rising time; the time is the same for all of a configuration, and a change of it only delays.
    stored: VecDeque<Sent>,
}

/// Blocks of a prompt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    /// What stands before the first block.
    pub(super) root: u64,
    pub(super) contents: &'a [u64],
    /// Leading blocks that the endpoint has already.
    pub(super) known: usize,
}

#[derive(Debug)]
struct Pending {
    slot: u32,
    root: u64,
    contents: Box<[u64]>,
    known: usize,
    expires: Nanos,
}

impl Pending {
    fn path(&self) -> Path<'_> {
        Path {
            root: self.root,
            contents: &self.contents,
            known: self.known,
        }
    }
}

#[derive(Debug)]
struct Sent {
    slot: u32,
    keys: Box<[u64]>,
    expires: Nanos,
}

impl Path<'_> {
    /// Stores what is not known, unless the index is being changed.
    fn store(self, index: &ExactIndex, slot: u32) -> bool {
        let (contents, known) = (self.contents, self.known);
        let stored = index.try_store_path(slot, SPECULATIVE, self.root, contents, known);
        stored.is_some()
    }

    /// Keys of what is not known.
    fn keys(self) -> Box<[u64]> {
        let keys = self.contents.iter().scan(self.root, |key, content| {
            *key = chain(*key, *content);
            Some(*key)
        });
        keys.skip(self.known).collect()
    }
}

impl Speculation {
    /// Notes that a prompt is sent to `slot`.
    pub(super) fn add(&self, index: &ExactIndex, slot: u32, path: Path, expires: Nanos) {
        if path.known >= path.contents.len() {
            return;
        }
        let mut queues = self.0.lock();
        queues.pending.push_back(Pending {
            slot,
            root: path.root,
            contents: path.contents.into(),
            known: path.known,
            expires,
        });
        while let Some(sent) = queues.pending.pop_front() {
            if !sent.path().store(index, sent.slot) {
                queues.pending.push_front(sent);
                break;
            }
            queues.stored.push_back(Sent {
                slot: sent.slot,
                keys: sent.path().keys(),
                expires: sent.expires,
            });
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
}

fn remove(index: &ExactIndex, sent: &Sent) {
    // The slot may have another endpoint by now, which does not have these entries, or has them from a request of its own: at worst it loses those early.
    if let Ok(lane) = index.open(sent.slot, SPECULATIVE) {
        index.remove(lane, &sent.keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::exact::{MAX_TIERS, Matches, Tier};

    const ROOT: u64 = 9;

    fn held(index: &ExactIndex, slot: u32, contents: &[u64]) -> u32 {
        let mut matches = Matches::new();
        index.matches(ROOT, contents, &[1.0; MAX_TIERS], &mut matches);
        matches.blocks(slot)
    }

    fn path(contents: &[u64], known: usize) -> Path<'_> {
        Path {
            root: ROOT,
            contents,
            known,
        }
    }

    #[test]
    fn what_was_sent_counts_as_held_until_its_time_is_over() {
        let (index, speculation) = (ExactIndex::new(1 << 24), Speculation::default());
        speculation.add(&index, 3, path(&[1, 2, 3], 0), Nanos(100));
        speculation.add(&index, 3, path(&[1, 2, 4], 0), Nanos(200));
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
        speculation.add(&index, 3, path(&[1, 2, 3], 2), Nanos(100));
        assert_eq!(index.usage().pairs, 0);
        let engine = index.open(3, Tier::GPU).expect("none is open");
        index.store_path(engine, ROOT, &[1, 2], 0);
        speculation.add(&index, 3, path(&[1, 2, 3], 2), Nanos(100));
        assert_eq!((index.usage().pairs, held(&index, 3, &[1, 2, 3])), (3, 3));
        speculation.expire(&index, Nanos(100));
        assert_eq!((index.usage().pairs, held(&index, 3, &[1, 2, 3])), (2, 2));
    }
}
