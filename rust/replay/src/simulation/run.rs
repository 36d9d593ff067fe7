//! The loop over events: what replicas do, pages that are scraped, requests that arrive.

use warmroute_core::engine::PolicySpec;
use warmroute_core::pool::Reservation;

use super::Progress;
use super::arrivals::{Arrivals, OpenArrivals, Sent};
use super::blocks;
use super::router::{Question, Router, nanos};
use super::settings::{MOST_REQUESTS, Settings, Signals, SimulationError};
use crate::replica::{Arrival, Observed, Replica};
use crate::report::{Answer, Learnt, Report, Tally};
use crate::trace::{Request, Trace, session_seconds};

/// Ends between two looks at who waits.
const TOLD_EVERY: u64 = 1_000;

/// Events between two looks at whether the simulation is cancelled.
const LOOKED_EVERY: u64 = 4_096;

/// Seconds between two calls of what a host calls about once a second.
const MAINTENANCE_SECONDS: f64 = 1.0;

/// Where turns wait for answers, the rate that was asked for comes about only when as many conversations end as begin. By so many times their mean
/// length, 95 % of those that would be open in the long run are (of lengths that are spread as a geometric number of turns is); what came before does not count.
const SETTLED_SESSIONS: f64 = 3.0;

/// Share of the time that is left out at most for that: the rest has to be enough for percentiles.
const MOST_WARM_UP: f64 = 0.75;

/// A request on its way.
#[derive(Debug)]
struct Flight {
    sent: Sent,
    /// It counts in the statistics.
    measured: bool,
    replica: u32,
    arrived: f64,
    first_token: f64,
    cached_tokens: u32,
    reservation: Option<Reservation>,
}

/// Pages in the order in which they are due: each replica has its place in the interval, so the order is the same each time round.
#[derive(Debug)]
struct Scrapes {
    /// `(seconds into the interval, replica)`, ascending.
    order: Vec<(f64, usize)>,
    place: usize,
    /// Full intervals so far.
    rounds: u64,
    interval: f64,
}

impl Scrapes {
    fn new(replicas: usize, interval: f64, random: &mut fastrand::Rng) -> Self {
        let mut order: Vec<(f64, usize)> = (0..replicas)
            .map(|replica| (random.f64() * interval, replica))
            .collect();
        order.sort_unstable_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        Self {
            order,
            place: 0,
            rounds: 0,
            interval,
        }
    }

    fn next_time(&self) -> f64 {
        if self.interval > 0.0 {
            self.rounds as f64 * self.interval + self.order[self.place].0
        } else {
            f64::INFINITY
        }
    }

    fn pop(&mut self) -> usize {
        let (_, replica) = self.order[self.place];
        self.place += 1;
        if self.place == self.order.len() {
            self.place = 0;
            self.rounds += 1;
        }
        replica
    }
}

/// A simulation.
#[derive(Debug)]
pub(super) struct Run<'a> {
    trace: &'a Trace,
    settings: &'a Settings,
    requests: &'a [Request],
    arrivals: Arrivals<'a>,
    scrapes: Scrapes,
    pub(super) router: Router,
    replicas: Vec<Replica>,
    /// By replica, when to look at it again.
    due: Vec<f64>,
    flights: Vec<Flight>,
    /// Places of `flights` that are free.
    spare: Vec<u32>,
    in_flight: usize,
    pub(super) tally: Tally,
    /// What the picker had learnt when the last request came that waits for no other.
    learnt: Option<Learnt>,
    /// Tokens of the smallest replica's cache: a longer request fits nowhere, or only somewhere, and is sent nowhere.
    capacity: u64,
    /// Buffers that keep their memory.
    observed: Vec<(f64, Observed)>,
    salted: Vec<u64>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        trace: &'a Trace,
        settings: &'a Settings,
        policy: &PolicySpec,
    ) -> Result<Self, SimulationError> {
        let range = |field: &str, expected| SimulationError::Range {
            field: field.to_owned(),
            expected,
        };
        let limit = settings.limit.unwrap_or(u32::MAX) as usize;
        let requests = &trace.requests[..limit.min(trace.requests.len())];
        let total = requests.len() as u64 * u64::from(settings.repeat);
        if total > MOST_REQUESTS {
            return Err(range(
                "repeat",
                "such that there are no more than 1073741824 requests",
            ));
        }
        let mut open = OpenArrivals::recorded(requests, trace.granularity);
        if let Some(rate) = settings.rate
            && !open.scale(requests.len(), rate)
        {
            return Err(range(
                "rate",
                "null: all requests of the trace arrive at once, which no rate can stretch",
            ));
        }
        let replays = f64::from(settings.repeat) * open.seconds();
        let settled = (SETTLED_SESSIONS * session_seconds(requests)).min(MOST_WARM_UP * replays);
        let replicas = settings.replicas.iter().enumerate();
        let replicas = replicas.map(|(number, hardware)| {
            Replica::new(*hardware, trace.unit_tokens).map_err(|error| SimulationError::Replica {
                replica: number,
                problem: error.to_string(),
            })
        });
        let replicas: Vec<Replica> = replicas.collect::<Result<_, _>>()?;
        let mut random = fastrand::Rng::with_seed(settings.seed);
        let interval = settings.scrape_seconds;
        let capacities = settings.replicas.iter();
        let capacity = capacities.map(crate::Hardware::capacity_tokens).min();
        let run = Self {
            router: Router::new(settings, policy, trace.unit_tokens)?,
            scrapes: Scrapes::new(replicas.len(), interval, &mut random),
            arrivals: Arrivals::new(requests, open, settings.repeat, random.fork()),
            due: vec![f64::INFINITY; replicas.len()],
            tally: Tally::new(
                total,
                (settings.warm_up, settled),
                replicas.len(),
                settings.details,
            ),
            learnt: None,
            capacity: capacity.unwrap_or(0),
            trace,
            settings,
            requests,
            replicas,
            flights: Vec::new(),
            spare: Vec::new(),
            in_flight: 0,
            observed: Vec::new(),
            salted: Vec::new(),
        };
        for replica in 0..run.replicas.len() {
            run.scrape(replica, 0.0);
        }
        run.router.maintain(0.0);
        Ok(run)
    }

    pub(super) fn finish(mut self, progress: &Progress) -> Result<Report, SimulationError> {
        self.play(progress)?;
        Ok(self.report())
    }

    /// Events in the order of time; of those at one time first what replicas do, then pages, then arrivals.
    pub(super) fn play(&mut self, progress: &Progress) -> Result<(), SimulationError> {
        let stop = self.settings.stop_after_seconds.unwrap_or(f64::INFINITY);
        let mut maintenance = MAINTENANCE_SECONDS;
        let mut events = 0_u64;
        loop {
            events += 1;
            if events.is_multiple_of(LOOKED_EVERY) && progress.is_cancelled() {
                return Err(SimulationError::Cancelled);
            }
            let (replica, replica_due) = soonest(&self.due);
            let arrival = self.arrivals.next_time();
            // Pages alone bring nothing about: where no replica works and nobody comes, it is over.
            let work = replica_due.min(arrival);
            if work == f64::INFINITY || work > stop {
                break;
            }
            let scrape = self.scrapes.next_time();
            if replica_due <= arrival.min(scrape).min(maintenance) {
                self.advance(replica, replica_due, progress);
            } else if scrape <= arrival.min(maintenance) {
                let replica = self.scrapes.pop();
                self.advance(replica, scrape, progress);
                self.scrape(replica, scrape);
            } else if maintenance <= arrival {
                self.router.maintain(maintenance);
                maintenance += MAINTENANCE_SECONDS;
            } else {
                let open = self.arrivals.are_open();
                if let Some(sent) = self.arrivals.pop() {
                    let measured = self.tally.arrived(arrival, open);
                    self.arrive(sent, arrival, measured);
                    if open && !self.arrivals.are_open() {
                        // Later, the pool empties: long answers come last, and what is learnt of them alone is not what is true of all.
                        self.learnt = Some(self.router.learnt(arrival));
                    }
                }
            }
        }
        self.tally.unfinished = self.in_flight as u64;
        progress.tell(self.tally.ended());
        Ok(())
    }

    /// Lets a replica work until `now`, and tells the picker what it sees of that.
    fn advance(&mut self, replica: usize, now: f64, progress: &Progress) {
        let mut observed = std::mem::take(&mut self.observed);
        self.replicas[replica].advance(now, &mut observed);
        self.due[replica] = self.replicas[replica].next_event();
        for (at, what) in observed.drain(..) {
            match what {
                Observed::FirstToken { id, cached_tokens } => {
                    self.first_token(id, cached_tokens, at);
                }
                Observed::Finished { id } => self.finished(id, at, progress),
            }
        }
        self.observed = observed;
    }

    fn scrape(&self, replica: usize, now: f64) {
        let hardware = &self.settings.replicas[replica];
        let metrics = self.replicas[replica].metrics();
        self.router
            .page(replica, hardware, &metrics, &self.trace.loras, now);
    }

    fn arrive(&mut self, sent: Sent, now: f64, measured: bool) {
        let trace = self.trace;
        let request = &self.requests[sent.index as usize];
        let tokens = u64::from(request.prompt_tokens) + u64::from(request.output_tokens);
        if tokens > self.capacity {
            self.tally.too_long += 1;
            return;
        }
        let salt = blocks::salt(sent.repetition, request.lora);
        let ids = blocks::salted(trace.blocks_of(request), salt, &mut self.salted);
        let lora = usize::from(request.lora).checked_sub(1);
        let question = Question {
            prompt_tokens: request.prompt_tokens,
            blocks: ids,
            lora: lora.map(|lora| trace.loras[lora].as_str()),
        };
        let Ok(choice) = self.router.decide(&question, now) else {
            self.tally.refused += 1;
            return;
        };
        let replica = choice.replica;
        let id = self.spare.pop().unwrap_or(self.flights.len() as u32);
        let arrival = Arrival {
            id,
            prompt_tokens: request.prompt_tokens,
            output_tokens: request.output_tokens,
            blocks: ids,
            lora: request.lora,
        };
        // Whatever was due has been seen to: this only lets the replica's own time follow.
        self.replicas[replica].advance(now, &mut self.observed);
        debug_assert!(self.observed.is_empty());
        if self.replicas[replica].add(arrival, now).is_err() {
            self.tally.too_long += 1;
            self.spare.push(id);
            return;
        }
        self.due[replica] = self.replicas[replica].next_event();
        let flight = Flight {
            sent,
            measured,
            replica: replica as u32,
            arrived: now,
            first_token: f64::NAN,
            cached_tokens: 0,
            reservation: Some(choice.reservation),
        };
        match self.flights.get_mut(id as usize) {
            Some(place) => *place = flight,
            None => self.flights.push(flight),
        }
        self.in_flight += 1;
        let matched = choice.matched_tokens;
        self.tally
            .picked(measured, replica, (request.prompt_tokens, matched), now);
    }

    fn first_token(&mut self, id: u32, cached_tokens: u32, at: f64) {
        let flight = &mut self.flights[id as usize];
        flight.first_token = at;
        flight.cached_tokens = cached_tokens;
        if self.settings.signals == Signals::FirstToken
            && let Some(reservation) = &mut flight.reservation
        {
            reservation.first_token(nanos(at));
        }
    }

    fn finished(&mut self, id: u32, at: f64, progress: &Progress) {
        let flight = &mut self.flights[id as usize];
        let request = &self.requests[flight.sent.index as usize];
        let told = self.settings.signals == Signals::FirstToken;
        if let Some(reservation) = flight.reservation.take() {
            reservation.finish(nanos(at), told.then_some(request.output_tokens));
        }
        let sent = flight.sent;
        let number = u64::from(sent.repetition) * self.requests.len() as u64;
        self.tally.answered(&Answer {
            request: number + u64::from(sent.index),
            measured: flight.measured,
            replica: flight.replica as usize,
            arrived: flight.arrived,
            first_token: flight.first_token,
            finished: at,
            prompt_tokens: request.prompt_tokens,
            cached_tokens: flight.cached_tokens,
            output_tokens: request.output_tokens,
        });
        self.spare.push(id);
        self.in_flight -= 1;
        self.arrivals.ended(sent, at);
        if self.tally.ended().is_multiple_of(TOLD_EVERY) {
            progress.tell(self.tally.ended());
        }
    }

    pub(super) fn report(mut self) -> Report {
        let metrics = self.replicas.iter().map(Replica::metrics);
        let preemptions = metrics.map(|metrics| metrics.preemptions).sum();
        let end = self.tally.last_answer();
        let learnt = self.learnt.take();
        let learnt = learnt.unwrap_or_else(|| self.router.learnt(end));
        self.tally.report(preemptions, learnt)
    }
}

/// The smallest of some times, and where it is; the first of equal ones.
fn soonest(times: &[f64]) -> (usize, f64) {
    let mut soonest = (0, f64::INFINITY);
    for (place, time) in times.iter().enumerate() {
        if *time < soonest.1 {
            soonest = (place, *time);
        }
    }
    soonest
}
