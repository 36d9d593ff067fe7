//! Blocks that count as held because they were just sent: the next request with the same beginning need not wait for the engine to say so.
//!
//! They are entries of the index like others, in a tier of their own, stored at the decision and removed when their time is over. A decision never waits
//! for the index's writer: what it cannot store at once is stored by the next one that can.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::exact::SPECULATIVE;
use crate::Nanos;
use crate::prefix::exact::ExactIndex;

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

#[derive(Debug)]
struct Sent {
    slot: u32,
    keys: Box<[u64]>,
    expires: Nanos,
}

impl Speculation {
    /// Notes that a prompt is sent to `slot`.
    pub(super) fn add(&self, index: &ExactIndex, slot: u32, keys: &[u64], expires: Nanos) {
        if keys.is_empty() {
            return;
        }
        let mut queues = self.0.lock();
        queues.pending.push_back(Sent {
            slot,
            keys: keys.into(),
            expires,
        });
        while let Some(sent) = queues.pending.pop_front() {
            let stored = index.try_store_keys(sent.slot, SPECULATIVE, &sent.keys);
            if stored.is_none() {
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
    use crate::prefix::exact::{MAX_TIERS, Matches};

    fn held(index: &ExactIndex, slot: u32, keys: &[u64]) -> u32 {
        let mut matches = Matches::new();
        index.matches(keys.iter().copied(), &[1.0; MAX_TIERS], &mut matches);
        matches.blocks(slot)
    }

    #[test]
    fn what_was_sent_counts_as_held_until_its_time_is_over() {
        let (index, speculation) = (ExactIndex::new(1 << 24), Speculation::default());
        speculation.add(&index, 3, &[1, 2, 3], Nanos(100));
        speculation.add(&index, 3, &[1, 2, 4], Nanos(200));
        assert_eq!(held(&index, 3, &[1, 2, 3]), 3);
        speculation.expire(&index, Nanos(100));
        assert_eq!(held(&index, 3, &[1, 2, 3]), 2, "the second still runs");
        assert_eq!(held(&index, 3, &[1, 2, 4]), 3);
        speculation.expire(&index, Nanos(200));
        assert_eq!(held(&index, 3, &[1, 2, 4]), 0);
        assert_eq!(index.usage().pairs, 0);
    }
}
