//! When which request arrives: the trace's own times at the wanted rate, its repetitions, and turns that wait for answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::trace::{AFTER_NOTHING, Request};

/// A request that arrives, of all that the simulation sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sent {
    /// How often the trace was played before.
    pub(super) repetition: u32,
    /// Its number in the trace.
    pub(super) index: u32,
}

/// Requests of one repetition that wait for no other, as `(seconds since the first, number)`, not yet spread over the trace's granule.
#[derive(Debug)]
pub(super) struct OpenArrivals {
    requests: Vec<(f64, u32)>,
    /// Seconds that one repetition takes.
    period: f64,
    granularity: f64,
}

impl OpenArrivals {
    /// Of a trace's (first) requests, at their recorded times.
    pub(super) fn recorded(requests: &[Request], granularity: f64) -> Self {
        let open = (0..).zip(requests);
        let open = open.filter(|(_, request)| request.after == AFTER_NOTHING);
        let mut open: Vec<(f64, u32)> = open.map(|(index, request)| (request.at, index)).collect();
        let times = || open.iter().map(|(at, _)| *at);
        let first = times().fold(f64::INFINITY, f64::min);
        let span = times().fold(0.0, f64::max) - first;
        let gap = span / open.len().saturating_sub(1).max(1) as f64;
        for (at, _) in &mut open {
            *at -= first;
        }
        Self {
            period: span + granularity.max(gap),
            requests: open,
            granularity,
        }
    }

    /// Seconds that one repetition takes.
    pub(super) fn seconds(&self) -> f64 {
        self.period
    }

    /// Compresses or stretches them so that all `count` requests of a repetition come at `rate` a second. False: they all come at once.
    pub(super) fn scale(&mut self, count: usize, rate: f64) -> bool {
        let period = count as f64 / rate;
        if self.requests.len() > 1 {
            if self.period <= 0.0 {
                return false;
            }
            let factor = period / self.period;
            for (at, _) in &mut self.requests {
                *at *= factor;
            }
            self.granularity *= factor;
        }
        self.period = period;
        true
    }
}

/// All arrivals of a simulation, in the order of time.
#[derive(Debug)]
pub(super) struct Arrivals<'a> {
    trace: &'a [Request],
    open: OpenArrivals,
    random: fastrand::Rng,
    repeat: u32,
    /// The repetition whose arrivals `coming` has.
    repetition: u32,
    /// Soonest last.
    coming: Vec<(f64, u32)>,
    /// Turns whose turn before has ended; their times are positive, so that their bits have the order of their values.
    turns: BinaryHeap<Reverse<(u64, Sent)>>,
    /// Which requests wait for a request: those in `followers` from the place in `first_follower` up to the next one's.
    followers: Vec<u32>,
    first_follower: Vec<u32>,
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(
        trace: &'a [Request],
        open: OpenArrivals,
        repeat: u32,
        random: fastrand::Rng,
    ) -> Self {
        let (first_follower, followers) = followers(trace);
        let mut arrivals = Self {
            trace,
            open,
            random,
            repeat,
            repetition: 0,
            coming: Vec::new(),
            turns: BinaryHeap::new(),
            followers,
            first_follower,
        };
        arrivals.draw();
        arrivals
    }

    /// When the next one comes; infinite: none will unless a request ends.
    pub(super) fn next_time(&self) -> f64 {
        self.next_open().min(self.next_turn())
    }

    /// Whether requests will come that wait for no other.
    pub(super) fn are_open(&self) -> bool {
        !self.coming.is_empty()
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Sent> {
        if self.next_open() <= self.next_turn() {
            let (_, index) = self.coming.pop()?;
            let repetition = self.repetition;
            if self.coming.is_empty() && repetition + 1 < self.repeat {
                self.repetition += 1;
                self.draw();
            }
            return Some(Sent { repetition, index });
        }
        self.turns.pop().map(|Reverse((_, sent))| sent)
    }

    /// A request has ended: those that waited for it come after their pauses.
    pub(super) fn ended(&mut self, sent: Sent, now: f64) {
        if self.first_follower.is_empty() {
            return;
        }
        let place = sent.index as usize;
        let range = self.first_follower[place] as usize..self.first_follower[place + 1] as usize;
        for follower in &self.followers[range] {
            let at = now + self.trace[*follower as usize].at;
            let turn = Sent {
                index: *follower,
                ..sent
            };
            self.turns.push(Reverse((at.to_bits(), turn)));
        }
    }

    fn next_open(&self) -> f64 {
        self.coming.last().map_or(f64::INFINITY, |(at, _)| *at)
    }

    fn next_turn(&self) -> f64 {
        let turn = self.turns.peek();
        turn.map_or(f64::INFINITY, |Reverse((at, _))| f64::from_bits(*at))
    }

    /// The arrivals of the repetition, spread over the granules to which their times were rounded.
    fn draw(&mut self) {
        let begins = f64::from(self.repetition) * self.open.period;
        let granularity = self.open.granularity;
        for (at, index) in &self.open.requests {
            let jitter = if granularity > 0.0 {
                self.random.f64() * granularity
            } else {
                0.0
            };
            self.coming.push((begins + at + jitter, *index));
        }
        self.coming
            .sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then(right.1.cmp(&left.1)));
    }
}

/// For each request the first place of its followers, and the followers; both empty where nobody waits for anybody.
fn followers(trace: &[Request]) -> (Vec<u32>, Vec<u32>) {
    let waiting = || {
        (0_u32..)
            .zip(trace)
            .filter(|(_, request)| request.after != AFTER_NOTHING)
    };
    if waiting().next().is_none() {
        return (Vec::new(), Vec::new());
    }
    let mut first = vec![0_u32; trace.len() + 1];
    for (_, request) in waiting() {
        first[request.after as usize + 1] += 1;
    }
    for place in 1..first.len() {
        first[place] += first[place - 1];
    }
    let mut next = first.clone();
    let mut followers = vec![0; waiting().count()];
    for (index, request) in waiting() {
        let place = &mut next[request.after as usize];
        followers[*place as usize] = index;
        *place += 1;
    }
    (first, followers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at: f64, after: u32) -> Request {
        Request {
            at,
            after,
            prompt_tokens: 1,
            output_tokens: 1,
            first_block: 0,
            block_count: 1,
            lora: 0,
        }
    }

    fn times(arrivals: &mut Arrivals<'_>) -> Vec<(f64, u32, u32)> {
        let mut times = Vec::new();
        while arrivals.next_time().is_finite() {
            let at = arrivals.next_time();
            let sent = arrivals.pop().expect("a finite time is somebody's");
            times.push((at, sent.repetition, sent.index));
        }
        times
    }

    #[test]
    fn arrivals_keep_their_shape_at_another_rate_and_are_repeated() {
        let trace: Vec<Request> = [10.0, 14.0, 11.0]
            .map(|at| request(at, AFTER_NOTHING))
            .to_vec();
        let mut open = OpenArrivals::recorded(&trace, 0.0);
        assert!((open.period - 6.0).abs() < 1e-12);
        assert!(open.scale(trace.len(), 1.0));
        let mut arrivals = Arrivals::new(&trace, open, 2, fastrand::Rng::with_seed(1));
        assert_eq!(
            times(&mut arrivals),
            [
                (0.0, 0, 0),
                (0.5, 0, 2),
                (2.0, 0, 1),
                (3.0, 1, 0),
                (3.5, 1, 2),
                (5.0, 1, 1)
            ]
        );
        let same = [request(1.0, AFTER_NOTHING), request(1.0, AFTER_NOTHING)];
        assert!(!OpenArrivals::recorded(&same, 0.0).scale(2, 1.0));
        assert!(OpenArrivals::recorded(&same, 3.0).scale(2, 1.0));
        assert!(OpenArrivals::recorded(&same[..1], 0.0).scale(1, 1.0));
    }

    #[test]
    fn rounded_times_are_spread_within_their_granule() {
        let trace: Vec<Request> = (0..200)
            .map(|number| request(f64::from(number / 50) * 3.0, AFTER_NOTHING))
            .collect();
        let mut arrivals = Arrivals::new(
            &trace,
            OpenArrivals::recorded(&trace, 3.0),
            1,
            fastrand::Rng::with_seed(1),
        );
        let times = times(&mut arrivals);
        assert_eq!(times.len(), 200);
        assert!(times.is_sorted_by(|left, right| left.0 < right.0));
        for (at, _, index) in times {
            let granule = f64::from(index / 50) * 3.0;
            assert!((granule..granule + 3.0).contains(&at));
        }
    }

    #[test]
    fn turns_come_after_the_answer_and_its_pause() {
        let trace = [
            request(0.0, AFTER_NOTHING),
            request(2.0, 0),
            request(1.0, 0),
            request(5.0, AFTER_NOTHING),
        ];
        let open = OpenArrivals::recorded(&trace, 0.0);
        let mut arrivals = Arrivals::new(&trace, open, 1, fastrand::Rng::with_seed(1));
        let first = arrivals.pop().expect("an open one");
        arrivals.ended(first, 3.5);
        assert_eq!(
            times(&mut arrivals),
            [(4.5, 0, 2), (5.0, 0, 3), (5.5, 0, 1)]
        );
    }
}
