//! The load on one endpoint and what its requests teach: all that changes under the endpoint's lock.

use std::sync::atomic::Ordering;

use super::EngineMetrics;
use super::endpoint::State;
use super::prefill::{PrefillQueue, ScrapeMark};
use crate::Nanos;
use crate::learn::{Measured, Pace, Page, PageTotals, Queue, Signal, Slots};

/// What is behind the endpoint's lock.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    prefills: PrefillQueue,
    pace: Pace,
    slots: Slots,
    /// When all prefills should be done that were reserved so far.
    prefilled: Nanos,
}

/// What a request puts on an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) uncached_tokens: u32,
    /// Expected output that counts until the end, 0 where none is counted.
    pub(super) output_tokens: u32,
}

impl Load {
    pub(super) fn tokens(self) -> u64 {
        u64::from(self.uncached_tokens) + u64::from(self.output_tokens)
    }
}

/// A request on its way to an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) load: Load,
    pub(super) reserved: Nanos,
    /// Its prefill is not done.
    pub(super) pending: bool,
    /// It went to another endpoint first, at `reserved`; nobody told when it moved.
    pub(super) moved: bool,
}

/// When a request's first token was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstToken {
    pub(super) at: Nanos,
    /// Requests in flight then, itself included.
    pub(super) requests: u64,
}

impl State {
    /// Counts a request. Gives the name of its pending prefill, if it has one, and what its first token will be measured by.
    pub(super) fn arrive(&self, arrival: Arrival) -> (Option<u64>, Measured) {
        let Arrival {
            load,
            reserved,
            pending,
            moved,
        } = arrival;
        let ledger = &mut *self.ledger.lock();
        if !moved {
            self.release_overdue(ledger, reserved);
        }
        let numbers = &self.numbers;
        let uncached = u64::from(load.uncached_tokens);
        numbers.requests.fetch_add(1, Ordering::Relaxed);
        numbers.tokens.fetch_add(load.tokens(), Ordering::Relaxed);
        let tokens = numbers.prefill_tokens.load(Ordering::Relaxed) + uncached;
        let measured = Measured {
            tokens: tokens as f64,
            reserved,
            moved,
        };
        let sequence = pending.then(|| {
            numbers.sent.fetch_add(uncached, Ordering::Relaxed);
            numbers.prefill_tokens.store(tokens, Ordering::Relaxed);
            if ledger.prefills.is_empty() && !moved {
                ledger.pace.prefill_begins(reserved);
            }
            let tokens = f64::from(load.uncached_tokens);
            let factor = numbers.prefill_factor();
            let (done, overdue) =
                self.rates
                    .prefill_done(reserved, ledger.prefilled, tokens, factor);
            ledger.prefilled = done;
            let sequence = ledger
                .prefills
                .push(load.uncached_tokens, measured.tokens, overdue);
            self.show_pending(ledger);
            sequence
        });
        (sequence, measured)
    }

    /// The first token of a request was seen. `drawn`: because its answer was drawn to be watched. Gives the requests in flight.
    pub(super) fn first_token(
        &self,
        sequence: Option<u64>,
        measured: &Measured,
        drawn: bool,
        now: Nanos,
    ) -> FirstToken {
        let ledger = &mut *self.ledger.lock();
        if let Some(sequence) = sequence {
            self.release(ledger, sequence, true);
        }
        let pending = !ledger.prefills.is_empty();
        ledger
            .pace
            .first_token(&self.rates, measured, drawn, pending, now);
        self.show_pace(ledger, now);
        FirstToken {
            at: now,
            requests: self.numbers.requests.load(Ordering::Relaxed),
        }
    }

    /// The engine has stored the last block of a prompt.
    pub(super) fn prompt_stored(&self, sequence: u64, measured: &Measured, now: Nanos) {
        let ledger = &mut *self.ledger.lock();
        // A page may have released it, or nobody believed any more that it is pending: this is when it was done.
        self.release(ledger, sequence, true);
        let pending = !ledger.prefills.is_empty();
        ledger
            .pace
            .prompt_stored(&self.rates, measured, pending, now);
        self.show_pace(ledger, now);
    }

    /// The prefill is done, nobody knows since when.
    pub(super) fn release_prefill(&self, sequence: u64) {
        self.release(&mut self.ledger.lock(), sequence, true);
    }

    /// An answer ended by itself; its load is still counted. `moved`: it was not for this endpoint alone, so it teaches no time.
    pub(super) fn answered(
        &self,
        first_token: Option<FirstToken>,
        moved: bool,
        output_tokens: Option<u32>,
        now: Nanos,
    ) {
        let ledger = &mut *self.ledger.lock();
        let requests = self.numbers.requests.load(Ordering::Relaxed);
        if first_token.is_none() {
            ledger.pace.blind_end(&self.rates, now);
        }
        let decoding = first_token.filter(|_| !moved).map(|first| {
            let mean = f64::midpoint(first.requests as f64, requests as f64);
            (first.at, mean)
        });
        ledger.pace.end(&self.rates, decoding, output_tokens, now);
        self.show_pace(ledger, now);
    }

    /// Takes a request off again. `counted`: the engine has counted or will count its first token.
    pub(super) fn leave(&self, load: Load, sequence: Option<u64>, counted: bool) {
        let ledger = &mut *self.ledger.lock();
        if let Some(sequence) = sequence {
            self.release(ledger, sequence, counted);
        }
        self.numbers
            .tokens
            .fetch_sub(load.tokens(), Ordering::Relaxed);
        self.numbers.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// A page was read at `now` that was asked for at `mark`.
    pub(super) fn page(&self, metrics: &EngineMetrics, mark: ScrapeMark, now: Nanos) {
        let ledger = &mut *self.ledger.lock();
        let growth = ledger.pace.page_totals(PageTotals {
            first_tokens: metrics.first_tokens,
            first_token_seconds: metrics.first_token_seconds,
            token_gaps: metrics.token_gaps,
            token_gap_seconds: metrics.token_gap_seconds,
            output_tokens: metrics.output_tokens,
            finished_requests: metrics.finished_requests,
        });
        let mut page = Page {
            growth,
            requests: self.numbers.requests.load(Ordering::Relaxed) as f64,
            ..Page::default()
        };
        if metrics.first_tokens.is_some() {
            // A float to integer cast saturates.
            let grown = growth.first_tokens.unwrap_or(0.0) as u64;
            let released = ledger.prefills.release_oldest(grown, mark);
            self.take_prefill(ledger, released.tokens);
            page.answered = released.answered;
            page.tokens = released.measured;
        }
        if growth.first_tokens.is_none() && metrics.first_tokens.is_some() {
            // Its first page, or the first of an engine that was started again, maybe with another limit.
            ledger.slots = Slots::default();
        }
        if let (Some(running), Some(waiting)) = (metrics.running, metrics.waiting) {
            let queue = Queue {
                running,
                waiting,
                kv_usage: metrics.kv_usage.unwrap_or(0.0),
                for_adapters: !metrics.waiting_adapters.is_empty(),
            };
            ledger.slots.page(&queue, now);
            self.numbers.store_slots(ledger.slots.limit());
        }
        page.pending = !ledger.prefills.is_empty();
        ledger.pace.page(&self.rates, &page, now);
        self.release_overdue(ledger, now);
        self.show_pace(ledger, now);
        self.numbers.store_page(mark.sent(), now);
    }

    /// So many requests got their first token, as the engine counted.
    pub(super) fn first_tokens_counted(&self, count: u64) {
        let ledger = &mut *self.ledger.lock();
        let mark = self.mark(ledger);
        let released = ledger.prefills.release_oldest(count, mark);
        self.take_prefill(ledger, released.tokens);
    }

    /// Lets time pass where nothing else happens: overdue prefills are released, factors drift back to 1.
    pub(super) fn settle(&self, now: Nanos) {
        let ledger = &mut *self.ledger.lock();
        self.release_overdue(ledger, now);
        self.show_pace(ledger, now);
    }

    pub(super) fn scrape_mark(&self) -> ScrapeMark {
        self.mark(&self.ledger.lock())
    }

    pub(super) fn signal(&self, now: Nanos) -> Signal {
        self.ledger.lock().pace.signal(now)
    }

    fn mark(&self, ledger: &Ledger) -> ScrapeMark {
        let sent = self.numbers.sent.load(Ordering::Relaxed);
        ledger.prefills.mark(sent)
    }

    /// Without a signal of first tokens, a prefill counts only as long as it can be expected to last: a request that streams for minutes
    /// must not look like one that waits. Where the pool's other endpoints tell of theirs, a missing one is a reason to stay away.
    fn release_overdue(&self, ledger: &mut Ledger, now: Nanos) {
        if ledger.prefills.is_overdue(now) && !ledger.pace.sees_prefills(&self.rates, now) {
            let tokens = ledger.prefills.release_overdue(now);
            self.take_prefill(ledger, tokens);
        }
    }

    fn release(&self, ledger: &mut Ledger, sequence: u64, counted: bool) {
        if let Some(tokens) = ledger.prefills.remove(sequence, counted) {
            self.take_prefill(ledger, u64::from(tokens));
        }
    }

    fn take_prefill(&self, ledger: &Ledger, tokens: u64) {
        let prefill_tokens = &self.numbers.prefill_tokens;
        prefill_tokens.fetch_sub(tokens, Ordering::Relaxed);
        self.show_pending(ledger);
    }

    fn show_pending(&self, ledger: &Ledger) {
        let pending = ledger.prefills.len() as u64;
        self.numbers.pending.store(pending, Ordering::Relaxed);
    }

    fn show_pace(&self, ledger: &mut Ledger, now: Nanos) {
        let factors = ledger.pace.factors(&self.rates, now);
        self.numbers.store_pace(ledger.pace.gap_seconds(), factors);
    }
}
