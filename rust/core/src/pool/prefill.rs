//! Prefills reserved on one endpoint, in order of arrival, for engines whose counters tell only how many requests got a first token.

use std::collections::VecDeque;

use crate::Nanos;

/// One request's prefill that has been reserved and not yet released.
#[derive(Clone, Copy, Debug)]
struct PendingPrefill {
    sequence: u64,
    tokens: u32,
    /// What its first token is measured by: tokens to prefill, its own included.
    measured: f64,
    /// When it should have been done long ago.
    overdue: Nanos,
}

/// Where an endpoint's reservations stood when a scrape was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeMark {
    /// Prefills with a smaller sequence were reserved before.
    next_sequence: u64,
    /// Prefills that had been released by their own signal.
    released: u64,
    /// Uncached tokens that had been reserved, ever.
    sent: u64,
}

impl ScrapeMark {
    pub(super) fn sent(self) -> u64 {
        self.sent
    }
}

/// What a counter released.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Released {
    /// Tokens whose prefill was pending.
    pub(super) tokens: u64,
    /// Requests that the counter told of, those included that had been released by their own signal.
    pub(super) answered: u64,
    /// Sum of what they are measured by, in tokens.
    pub(super) measured: f64,
}

/// Pending prefills, oldest first. Holds at most one entry for each request in flight.
///
/// A request that ends (or whose first token is seen) leaves the queue at once, but the engine's counter tells of its first token only in a
/// later page. Such releases are remembered as credit, so that the counter does not release a younger request in its place. Credit lasts
/// until the first page that was asked for after the release: a request that was aborted in the engine's queue never shows in the counter.
#[derive(Debug, Default)]
pub(super) struct PrefillQueue {
    pending: VecDeque<PendingPrefill>,
    next_sequence: u64,
    /// Released by their own signal, ever.
    released: u64,
    /// Of `released`, those that a page has settled.
    settled: u64,
    /// Sum of what the others are measured by, in tokens: the credit's part is taken at its mean.
    unsettled: f64,
}

impl PrefillQueue {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn mark(&self, sent: u64) -> ScrapeMark {
        ScrapeMark {
            next_sequence: self.next_sequence,
            released: self.released,
            sent,
        }
    }

    /// Appends a prefill; the result names it for `remove`.
    pub(super) fn push(&mut self, tokens: u32, measured: f64, overdue: Nanos) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.pending.push_back(PendingPrefill {
            sequence,
            tokens,
            measured,
            overdue,
        });
        sequence
    }

    /// Takes one prefill out. `None`: the counter released it before. `counted`: the engine will count (or has counted) a first token for it.
    pub(super) fn remove(&mut self, sequence: u64, counted: bool) -> Option<u32> {
        let index = self
            .pending
            .binary_search_by_key(&sequence, |prefill| prefill.sequence)
            .ok()?;
        let prefill = self.pending.remove(index)?;
        if counted {
            self.gives_credit(&prefill);
        }
        Some(prefill.tokens)
    }

    /// The oldest prefill should have been done long ago.
    pub(super) fn is_overdue(&self, now: Nanos) -> bool {
        self.pending
            .front()
            .is_some_and(|oldest| oldest.overdue <= now)
    }

    /// Releases the oldest prefills as long as they are overdue. Returns the tokens released.
    pub(super) fn release_overdue(&mut self, now: Nanos) -> u64 {
        let mut tokens = 0;
        while self.is_overdue(now)
            && let Some(oldest) = self.pending.pop_front()
        {
            tokens += u64::from(oldest.tokens);
            self.gives_credit(&oldest);
        }
        tokens
    }

    /// Releases the `count` oldest prefills reserved before `mark`, less the credit.
    pub(super) fn release_oldest(&mut self, count: u64, mark: ScrapeMark) -> Released {
        let unsettled = self.released - self.settled;
        let credit = count.min(unsettled);
        let mut released = Released {
            answered: credit,
            ..Released::default()
        };
        self.settled = (self.settled + credit).max(mark.released.min(self.released));
        if unsettled > 0 {
            let mean = self.unsettled / unsettled as f64;
            released.measured = mean * credit as f64;
            self.unsettled = mean * (self.released - self.settled) as f64;
        }
        for _ in credit..count {
            match self.pending.front() {
                Some(oldest) if oldest.sequence < mark.next_sequence => {
                    released.tokens += u64::from(oldest.tokens);
                    released.answered += 1;
                    released.measured += oldest.measured;
                }
                _ => break,
            }
            self.pending.pop_front();
        }
        released
    }

    fn gives_credit(&mut self, prefill: &PendingPrefill) {
        self.released += 1;
        self.unsettled += prefill.measured;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(tokens: &[u32]) -> PrefillQueue {
        let mut queue = PrefillQueue::default();
        for tokens in tokens {
            push(&mut queue, *tokens);
        }
        queue
    }

    fn push(queue: &mut PrefillQueue, tokens: u32) -> u64 {
        queue.push(tokens, f64::from(tokens), Nanos(u64::from(tokens)))
    }

    #[test]
    fn growth_beyond_the_queue_is_clamped() {
        let mut queue = queue(&[10, 20]);
        let mark = queue.mark(0);
        let released = queue.release_oldest(u64::MAX, mark);
        assert_eq!((released.tokens, released.answered), (30, 2));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_prefill_reserved_after_the_scrape_was_sent_stays() {
        let mut queue = queue(&[10]);
        let sent = queue.mark(0);
        push(&mut queue, 20);
        assert_eq!(queue.release_oldest(2, sent).tokens, 10);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_request_released_by_its_own_signal_is_told_of_and_not_counted_twice() {
        let mut queue = queue(&[10, 20, 30]);
        assert_eq!(queue.remove(0, true), Some(10));
        let mark = queue.mark(0);
        let told = Released {
            tokens: 0,
            answered: 1,
            measured: 10.0,
        };
        assert_eq!(queue.release_oldest(1, mark), told);
        let released = Released {
            tokens: 20,
            answered: 1,
            measured: 20.0,
        };
        assert_eq!(queue.release_oldest(1, mark), released);
    }

    #[test]
    fn credit_ends_with_the_first_page_asked_for_after_the_release() {
        let mut queue = queue(&[10, 20, 30]);
        let before = queue.mark(0);
        queue.remove(0, true);
        assert_eq!(
            queue.release_oldest(0, before),
            Released::default(),
            "the release came after the scrape was sent"
        );
        let after = queue.mark(0);
        assert_eq!(queue.release_oldest(0, after), Released::default());
        let released = queue.release_oldest(1, after);
        assert_eq!(
            (released.tokens, released.measured),
            (20, 20.0),
            "an aborted request's credit is gone"
        );
    }

    #[test]
    fn a_request_that_moved_away_leaves_no_credit() {
        let mut queue = queue(&[10, 20]);
        queue.remove(0, false);
        let mark = queue.mark(0);
        assert_eq!(queue.release_oldest(1, mark).tokens, 20);
    }

    #[test]
    fn overdue_prefills_are_released_in_order_and_leave_credit() {
        let mut queue = queue(&[10, 30, 20]);
        let mark = queue.mark(0);
        assert_eq!(queue.release_overdue(Nanos(9)), 0);
        assert_eq!(
            queue.release_overdue(Nanos(25)),
            10,
            "the oldest that is not overdue holds the others"
        );
        assert_eq!(queue.release_oldest(1, mark).tokens, 0);
        assert_eq!(queue.release_overdue(Nanos(30)), 50);
    }
}
