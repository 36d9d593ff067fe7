//! What is learnt of one endpoint, and which of its signals may teach.

use std::time::Duration;

use super::gap::Gap;
use super::heard::{Heard, LastSeen};
use super::{Factor, PageTotals, Rates, Sample, Signal};
use crate::Nanos;

/// A gap longer than this many times what was expected counts as that: the clock jumped, or the engine hung.
const LONGEST_GAP: f64 = 10.0;
/// Seconds of slack on the same.
const GAP_SLACK: f64 = 1.0;
/// Answers of no more output tokens tell nothing of the time per token.
const FEW_OUTPUT_TOKENS: u32 = 4;
/// Answers whose tokens are counted on pages before their mean is learnt: tokens of answers that are not over yet matter little then.
const ANSWERS_TOGETHER: f64 = 16.0;
/// Time of which the gaps between tokens on pages become one sample, at least: about an answer's.
const GAPS_TOGETHER: Duration = Duration::from_secs(2);
/// And at most, where there are fewer than an answer has.
const LONGEST_TOGETHER: Duration = Duration::from_secs(15);

/// What one request's first token was measured at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// x0: tokens to prefill when it was reserved, its own included.
    pub tokens: f64,
    /// When it was reserved.
    pub reserved: Nanos,
    /// It went to another endpoint first: its times are not this one's.
    pub moved: bool,
}

/// What a page told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Page {
    /// The growth of its counters.
    pub growth: PageTotals,
    /// Requests of this picker that got their first token since the page before, as far as they could be told.
    pub answered: u64,
    /// Sum of their x0.
    pub tokens: f64,
    /// Requests in flight here when it was read.
    pub requests: f64,
    /// A prefill is still pending.
    pub pending: bool,
}

/// Gaps between tokens on the pages since the last sample made of them.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    count: f64,
    seconds: f64,
    /// Requests in flight, summed over the gaps.
    requests: f64,
    /// When the first of these pages was read.
    since: Nanos,
}

impl Gaps {
    fn add(&mut self, gaps: f64, seconds: f64, requests: f64, now: Nanos) {
        // A clock that stepped back begins anew.
        if self.count == 0.0 || now < self.since {
            *self = Self {
                since: now,
                ..Self::default()
            };
        }
        self.count += gaps;
        self.seconds += seconds;
        self.requests += requests * gaps;
    }
}

/// One endpoint's factors, its gap between first tokens, and its signals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    prefill: Factor,
    decode: Factor,
    gap: Gap,
    heard: Heard,
    /// Time per output token was measured exactly.
    exact_decode: LastSeen,
    /// An answer told its output tokens.
    exact_output: LastSeen,
    totals: PageTotals,
    decoded: Gaps,
    /// Requests in flight when the last page was read.
    page_requests: f64,
    /// Output tokens and answers on pages since the last time they were learnt.
    output: (f64, f64),
}

impl Pace {
    /// The best signal of the last minute.
    pub(crate) fn signal(&mut self, now: Nanos) -> Signal {
        self.heard.best(now)
    }

    /// d: seconds between first tokens.
    pub(crate) fn gap_seconds(&self) -> f64 {
        self.gap.seconds()
    }

    /// (prefill factor, decode factor), now.
    pub(crate) fn factors(&mut self, rates: &Rates, now: Nanos) -> (f64, f64) {
        rates.factors(&mut self.prefill, &mut self.decode, now)
    }

    /// The first pending prefill was reserved.
    pub(crate) fn prefill_begins(&mut self, now: Nanos) {
        self.gap.start(now);
    }

    /// Something tells of every first token, so a pending prefill is one. Where nothing does, prefills are released when they are overdue.
    pub(crate) fn sees_prefills(&mut self, rates: &Rates, now: Nanos) -> bool {
        self.heard.best(now) == Signal::FirstToken
            || self.heard.has_counters(now)
            || rates.sees_first_tokens(now)
    }

    /// The first token of a request of this picker was seen. `drawn`: because its answer was drawn to be watched. `pending`: other prefills are.
    pub(crate) fn first_token(
        &mut self,
        rates: &Rates,
        request: &Measured,
        drawn: bool,
        pending: bool,
        now: Nanos,
    ) {
        if drawn {
            self.heard.drawn_first_token(now);
        } else {
            self.heard.first_token(now);
        }
        rates.hear(!drawn, now);
        // Between the first tokens of a share of the answers there are others: that is no gap.
        if self.heard.best(now) == Signal::FirstToken {
            self.gap_ends(rates, request.tokens, 1.0, pending, now);
        }
        self.learn_prefill(rates, request, now);
    }

    /// The engine said that it has stored a prompt's last block.
    pub(crate) fn prompt_stored(
        &mut self,
        rates: &Rates,
        request: &Measured,
        pending: bool,
        now: Nanos,
    ) {
        self.heard.kv_event(now);
        if self.heard.best(now) == Signal::KvEvents {
            if !self.heard.has_counters(now) {
                self.gap_ends(rates, request.tokens, 1.0, pending, now);
            }
            self.learn_prefill(rates, request, now);
        }
    }

    fn gap_ends(&mut self, rates: &Rates, tokens: f64, count: f64, pending: bool, now: Nanos) {
        let expected = rates.curve().first_token_seconds(tokens);
        let longest = LONGEST_GAP * (self.gap.seconds() + expected) + GAP_SLACK;
        self.gap.first_tokens(count, longest, pending, now);
    }

    fn learn_prefill(&mut self, rates: &Rates, request: &Measured, now: Nanos) {
        if !request.moved && now >= request.reserved {
            let seconds = (now - request.reserved).as_secs_f64();
            let sample = Sample::new(request.tokens, seconds);
            rates.learn_prefill(sample, &mut self.prefill, now);
        }
    }

    /// An answer of so many tokens ended. `decoding`: when its first token was seen, and the requests in flight at it and at the end, on the mean.
    pub(crate) fn end(
        &mut self,
        rates: &Rates,
        decoding: Option<(Nanos, f64)>,
        output_tokens: Option<u32>,
        now: Nanos,
    ) {
        if let Some(tokens) = output_tokens {
            self.exact_output.see(now);
            rates.learn_output(f64::from(tokens), 1.0);
        }
        if let (Some((since, requests)), Some(tokens)) = (decoding, output_tokens)
            && tokens > FEW_OUTPUT_TOKENS
            && now >= since
        {
            self.exact_decode.see(now);
            let seconds = (now - since).as_secs_f64() / f64::from(tokens - 1);
            rates.learn_decode(Sample::new(requests, seconds), &mut self.decode, now);
        }
    }

    /// An answer ended whose first token was not seen.
    pub(crate) fn blind_end(&mut self, rates: &Rates, now: Nanos) {
        self.heard.blind_end(now);
        rates.hear(false, now);
    }

    /// What the counters of a new page grew by; to be called once for each page.
    pub(crate) fn page_totals(&mut self, totals: PageTotals) -> PageTotals {
        let growth = totals.since(&self.totals);
        self.totals = totals;
        growth
    }

    /// A page was read: teaches what no better signal does.
    pub(crate) fn page(&mut self, rates: &Rates, page: &Page, now: Nanos) {
        if self.totals.first_tokens.is_some() {
            self.heard.counters(now);
        }
        self.first_tokens_on_page(rates, page, now);
        let sees_all = self.heard.best(now) == Signal::FirstToken;
        if !(sees_all && self.exact_decode.is_alive(now)) {
            self.token_gaps_on_page(rates, page, now);
        }
        if sees_all && self.exact_output.is_alive(now) {
            self.output = (0.0, 0.0);
        } else {
            self.output_on_page(rates, page);
        }
        self.page_requests = page.requests;
    }

    fn first_tokens_on_page(&mut self, rates: &Rates, page: &Page, now: Nanos) {
        let count = page.growth.first_tokens.unwrap_or(0.0);
        if count < 1.0 || page.answered == 0 {
            return;
        }
        let answered = page.answered as f64;
        let tokens = page.tokens / answered;
        let best = self.heard.best(now);
        if best != Signal::FirstToken {
            self.gap_ends(rates, tokens, answered, page.pending, now);
        }
        // What a share of the answers teaches, the pages of all teach better; it is counted twice, which is little.
        if matches!(best, Signal::Counters | Signal::Sampled)
            && let Some(seconds) = page.growth.first_token_seconds
        {
            let sample = Sample {
                at: tokens,
                seconds: seconds / count,
                weight: answered,
            };
            rates.learn_prefill(sample, &mut self.prefill, now);
        }
    }

    fn token_gaps_on_page(&mut self, rates: &Rates, page: &Page, now: Nanos) {
        let (Some(gaps), Some(seconds)) = (page.growth.token_gaps, page.growth.token_gap_seconds)
        else {
            return;
        };
        let requests = f64::midpoint(self.page_requests, page.requests);
        if gaps >= 1.0 && requests > 0.0 {
            self.decoded.add(gaps, seconds, requests, now);
        }
        // A single page shows either a long prefill that all answers waited for or none of it: the mean of an answer has its share of both.
        let waited = now - self.decoded.since;
        let answers = self.decoded.count / rates.curve().output_tokens;
        if self.decoded.count >= 1.0
            && (waited >= LONGEST_TOGETHER || waited >= GAPS_TOGETHER && answers >= 1.0)
        {
            let Gaps {
                count: gaps,
                seconds,
                requests,
                ..
            } = std::mem::take(&mut self.decoded);
            let sample = Sample {
                // Whoever decodes is in flight.
                at: (requests / gaps).max(1.0),
                seconds: seconds / gaps,
                // An answer is one sample, however many gaps it has and over however many pages they are spread.
                weight: gaps / rates.curve().output_tokens,
            };
            rates.learn_decode(sample, &mut self.decode, now);
        }
    }

    fn output_on_page(&mut self, rates: &Rates, page: &Page) {
        if let (Some(tokens), Some(answers)) =
            (page.growth.output_tokens, page.growth.finished_requests)
        {
            self.output.0 += tokens;
            self.output.1 += answers;
            if self.output.1 >= ANSWERS_TOGETHER {
                rates.learn_output(self.output.0 / self.output.1, self.output.1);
                self.output = (0.0, 0.0);
            }
        }
    }
}
