//! Prefills reserved on one endpoint, in order of arrival, for engines whose counters tell only how many requests got a first token.

use std::collections::VecDeque;

/// One request's prefill that has been reserved and not yet released.
#[derive(Clone, Copy, Debug)]
struct PendingPrefill {
    sequence: u64,
    tokens: u32,
}

/// Where an endpoint's reservations stood when a scrape was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeMark {
    /// Prefills with a smaller sequence were reserved before.
    next_sequence: u64,
    /// Prefills that had been released by their own signal.
    released: u64,
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
    /// The engine's counter in the previous page.
    first_tokens: Option<f64>,
}

impl PrefillQueue {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn mark(&self) -> ScrapeMark {
        ScrapeMark {
            next_sequence: self.next_sequence,
            released: self.released,
        }
    }

    /// Appends a prefill; the result names it for `remove`.
    pub(super) fn push(&mut self, tokens: u32) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.pending.push_back(PendingPrefill { sequence, tokens });
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
            self.released += 1;
        }
        Some(prefill.tokens)
    }

    /// A page's counter: releases as many prefills as it grew. Returns the tokens released.
    pub(super) fn first_tokens_counted(&mut self, first_tokens: f64, mark: ScrapeMark) -> u64 {
        let grown = match self.first_tokens.replace(first_tokens) {
            // A float to integer cast saturates; a counter that fell gives a negative difference, so zero.
            Some(previous) => (first_tokens - previous) as u64,
            None => 0,
        };
        self.release_oldest(grown, mark)
    }

    /// Releases the `count` oldest prefills reserved before `mark`, less the credit. Returns the tokens released.
    pub(super) fn release_oldest(&mut self, count: u64, mark: ScrapeMark) -> u64 {
        let credit = count.min(self.released - self.settled);
        self.settled = (self.settled + credit).max(mark.released.min(self.released));
        let mut tokens = 0;
        for _ in credit..count {
            match self.pending.front() {
                Some(oldest) if oldest.sequence < mark.next_sequence => {
                    tokens += u64::from(oldest.tokens);
                }
                _ => break,
            }
            self.pending.pop_front();
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(tokens: &[u32]) -> PrefillQueue {
        let mut queue = PrefillQueue::default();
        for tokens in tokens {
            queue.push(*tokens);
        }
        queue
    }

    #[test]
    fn the_first_page_and_a_restarted_engine_release_nothing() {
        let mut queue = queue(&[10, 20]);
        let mark = queue.mark();
        assert_eq!(queue.first_tokens_counted(500.0, mark), 0);
        assert_eq!(queue.first_tokens_counted(3.0, mark), 0);
        assert_eq!(queue.first_tokens_counted(4.0, mark), 10);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn growth_beyond_the_queue_is_clamped() {
        let mut queue = queue(&[10, 20]);
        let mark = queue.mark();
        queue.first_tokens_counted(0.0, mark);
        assert_eq!(queue.first_tokens_counted(1e300, mark), 30);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_prefill_reserved_after_the_scrape_was_sent_stays() {
        let mut queue = queue(&[10]);
        let sent = queue.mark();
        queue.push(20);
        assert_eq!(queue.release_oldest(2, sent), 10);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_request_released_by_its_own_signal_is_not_counted_twice() {
        let mut queue = queue(&[10, 20, 30]);
        assert_eq!(queue.remove(0, true), Some(10));
        let mark = queue.mark();
        assert_eq!(queue.release_oldest(1, mark), 0);
        assert_eq!(queue.release_oldest(1, mark), 20);
    }

    #[test]
    fn credit_ends_with_the_first_page_asked_for_after_the_release() {
        let mut queue = queue(&[10, 20, 30]);
        let before = queue.mark();
        queue.remove(0, true);
        assert_eq!(
            queue.release_oldest(0, before),
            0,
            "the release came after the scrape was sent"
        );
        let after = queue.mark();
        assert_eq!(queue.release_oldest(0, after), 0);
        assert_eq!(
            queue.release_oldest(1, after),
            20,
            "an aborted request's credit is gone"
        );
    }

    #[test]
    fn a_request_that_moved_away_leaves_no_credit() {
        let mut queue = queue(&[10, 20]);
        queue.remove(0, false);
        let mark = queue.mark();
        assert_eq!(queue.release_oldest(1, mark), 20);
    }
}
