//! What is counted while a simulation runs.

use super::{Details, Imbalance, Learnt, Report, Summary};

/// An answer to its end.
pub(crate) struct Answer {
    /// Number of the request.
    pub(crate) request: u64,
    /// It counts in the statistics.
    pub(crate) measured: bool,
    pub(crate) replica: usize,
    /// Seconds, as the two that follow.
    pub(crate) arrived: f64,
    pub(crate) first_token: f64,
    pub(crate) finished: f64,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) output_tokens: u32,
}

/// A share of tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    fn add(&mut self, part: u64, whole: u32) {
        self.part += part;
        self.whole += u64::from(whole);
    }

    fn ratio(self) -> f64 {
        self.part as f64 / self.whole as f64
    }
}

/// What happened from the first measured arrival on.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    answers: u64,
    output_tokens: u64,
    /// Time integral of the most requests in flight on a replica over their mean, and the time itself.
    unevenness: f64,
    busy: f64,
}

/// All counts of a simulation.
#[derive(Debug)]
pub(crate) struct Tally {
    total: u64,
    /// Arrivals before this one are left out, and those before a time in seconds.
    first_measured: u64,
    settled: f64,
    arrivals: u64,
    measured_arrivals: u64,
    answered: u64,
    pub(crate) refused: u64,
    pub(crate) too_long: u64,
    pub(crate) unfinished: u64,
    last_answer: f64,
    ttft: Vec<f64>,
    tpot: Vec<f64>,
    e2e: Vec<f64>,
    normalized: Vec<f64>,
    hits: Share,
    predicted: Share,
    picks: Vec<u64>,
    /// By replica, requests in flight now.
    in_flight: Vec<u32>,
    in_flight_total: u32,
    most_in_flight: u32,
    /// Since when they are as they are.
    since: f64,
    running: Window,
    /// When the window opened; infinite: it has not.
    opened: f64,
    /// The window as it was at the last measured arrival, and when that was.
    closed: Window,
    last_measured: f64,
    /// There are measured arrivals that wait for no other.
    open: bool,
    details: Option<Details>,
}

impl Tally {
    /// `warm_up`: share of the requests, and seconds; what is within either is left out.
    pub(crate) fn new(
        total: u64,
        (warm_up, settled): (f64, f64),
        replicas: usize,
        details: bool,
    ) -> Self {
        let first_measured = (total as f64 * warm_up).floor() as u64;
        let measured = (total - first_measured) as usize;
        let samples = || Vec::with_capacity(measured);
        Self {
            total,
            first_measured,
            settled,
            arrivals: 0,
            measured_arrivals: 0,
            answered: 0,
            refused: 0,
            too_long: 0,
            unfinished: 0,
            last_answer: 0.0,
            ttft: samples(),
            tpot: samples(),
            e2e: samples(),
            normalized: samples(),
            hits: Share::default(),
            predicted: Share::default(),
            picks: vec![0; replicas],
            in_flight: vec![0; replicas],
            in_flight_total: 0,
            most_in_flight: 0,
            since: 0.0,
            running: Window::default(),
            opened: f64::INFINITY,
            closed: Window::default(),
            last_measured: 0.0,
            open: false,
            details: details.then(|| Details::of(total as usize)),
        }
    }

    /// Requests that came to an end, whatever it was.
    pub(crate) fn ended(&self) -> u64 {
        self.answered + self.refused + self.too_long
    }

    /// When the last answer came to its end, in seconds.
    pub(crate) fn last_answer(&self) -> f64 {
        self.last_answer
    }

    /// A request arrives; whether it counts in the statistics. `open`: it, or one after it, waits for no other.
    ///
    /// Once no conversation begins any more the pool empties: what comes then says nothing of the load that was asked for, and does not count.
    /// Where nothing would be left by that rule, because all begin during the warm-up, all of the rest counts.
    pub(crate) fn arrived(&mut self, now: f64, open: bool) -> bool {
        let order = self.arrivals;
        self.arrivals += 1;
        let warm = order < self.first_measured || now < self.settled;
        if warm && self.opened.is_infinite() {
            return false;
        }
        if self.opened.is_infinite() {
            self.opened = now;
            self.since = now;
            self.open = open;
        }
        let measured = open || !self.open;
        if measured {
            self.measured_arrivals += 1;
            self.pass(now);
            self.closed = self.running;
            self.last_measured = now;
        }
        measured
    }

    /// It was sent to a replica, of whose cache the picker expects `matched` of its `prompt` tokens.
    pub(crate) fn picked(
        &mut self,
        measured: bool,
        replica: usize,
        (prompt, matched): (u32, u64),
        now: f64,
    ) {
        self.pass(now);
        self.in_flight[replica] += 1;
        self.in_flight_total += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight[replica]);
        if measured {
            self.picks[replica] += 1;
            self.predicted.add(matched, prompt);
        }
    }

    /// Its answer came to the end.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        self.pass(answer.finished);
        let before = self.in_flight[answer.replica];
        self.in_flight[answer.replica] = before - 1;
        self.in_flight_total -= 1;
        if before == self.most_in_flight {
            self.most_in_flight = self.in_flight.iter().copied().max().unwrap_or(0);
        }
        self.answered += 1;
        self.last_answer = answer.finished;
        if self.opened.is_finite() {
            self.running.answers += 1;
            self.running.output_tokens += u64::from(answer.output_tokens);
        }
        if let Some(details) = &mut self.details {
            details.put(answer);
        }
        if !answer.measured {
            return;
        }
        let e2e = answer.finished - answer.arrived;
        self.ttft.push(answer.first_token - answer.arrived);
        self.e2e.push(e2e);
        self.normalized.push(e2e / f64::from(answer.output_tokens));
        if answer.output_tokens > 1 {
            let gaps = f64::from(answer.output_tokens - 1);
            self.tpot
                .push((answer.finished - answer.first_token) / gaps);
        }
        self.hits
            .add(u64::from(answer.cached_tokens), answer.prompt_tokens);
    }

    pub(crate) fn report(self, preemptions: u64, learnt: Learnt) -> Report {
        let seconds = self.last_measured - self.opened;
        let picked: u64 = self.picks.iter().sum();
        let most = self.picks.iter().copied().max().unwrap_or(0);
        Report {
            requests: self.total,
            answered: self.answered,
            measured: self.e2e.len() as u64,
            refused: self.refused,
            too_long: self.too_long,
            unfinished: self.unfinished,
            never_sent: self.total - self.arrivals,
            seconds: self.last_answer,
            ttft: Summary::of(self.ttft),
            tpot: Summary::of(self.tpot),
            e2e: Summary::of(self.e2e),
            normalized: Summary::of(self.normalized),
            offered: self.measured_arrivals.saturating_sub(1) as f64 / seconds,
            throughput: self.closed.answers as f64 / seconds,
            output_tokens_per_second: self.closed.output_tokens as f64 / seconds,
            hit_ratio: self.hits.ratio(),
            predicted_hit_ratio: self.predicted.ratio(),
            imbalance: Imbalance {
                requests: most as f64 * self.picks.len() as f64 / picked as f64,
                inflight: self.closed.unevenness / self.closed.busy,
            },
            preemptions,
            picks: self.picks,
            learnt,
            details: self.details,
        }
    }

    /// Requests in flight were as they are until now.
    fn pass(&mut self, now: f64) {
        if self.opened.is_finite() && self.in_flight_total > 0 {
            let seconds = now - self.since;
            let mean = f64::from(self.in_flight_total) / self.in_flight.len() as f64;
            self.running.unevenness += f64::from(self.most_in_flight) / mean * seconds;
            self.running.busy += seconds;
        }
        self.since = now;
    }
}

impl Details {
    fn of(total: usize) -> Self {
        Self {
            arrival: vec![f64::NAN; total],
            ttft: vec![f64::NAN; total],
            finish: vec![f64::NAN; total],
            replica: vec![-1; total],
            cached: vec![0; total],
        }
    }

    fn put(&mut self, answer: &Answer) {
        let row = answer.request as usize;
        self.arrival[row] = answer.arrived;
        self.ttft[row] = answer.first_token - answer.arrived;
        self.finish[row] = answer.finished;
        self.replica[row] = i32::try_from(answer.replica).unwrap_or(i32::MAX);
        self.cached[row] = answer.cached_tokens;
    }
}
