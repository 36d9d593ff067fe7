//! Engines of known rates in simulated time, behind the pool's own reservations and pages.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::Nanos;
use crate::pool::{Endpoint, EndpointIdentity, EngineMetrics, Pool, Reservation};

/// An engine whose first token takes `base + tokens to prefill / rate` seconds, and each further one `decode_base + decode_request · in flight`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hardware {
    pub(super) base: f64,
    pub(super) rate: f64,
    pub(super) decode_base: f64,
    pub(super) decode_request: f64,
}

pub(super) const HARDWARE: Hardware = Hardware {
    base: 0.020,
    rate: 30_000.0,
    decode_base: 0.004,
    decode_request: 0.000_4,
};

impl Hardware {
    pub(super) fn slower(self, factor: f64) -> Self {
        Self {
            base: self.base * factor,
            rate: self.rate / factor,
            decode_base: self.decode_base * factor,
            decode_request: self.decode_request * factor,
        }
    }
}

const PAGE_SECONDS: f64 = 0.05;

/// Of what the picker hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    Everything,
    /// First tokens and usage of every tenth answer, and all ends.
    Samples,
    KvEvents,
    Pages,
    Ends,
    Aborts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    FirstToken(u64),
    End(u64),
    Page,
}

struct Running {
    endpoint: usize,
    reservation: Reservation,
    arrived: Nanos,
    output_tokens: u32,
    token_seconds: f64,
}

pub(super) struct World {
    pub(super) pool: Pool,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) hardware: Vec<Hardware>,
    pub(super) hears: Hears,
    /// Requests a second, of the whole pool.
    pub(super) rate: f64,
    /// Share of first tokens that come 100 times too late.
    pub(super) outliers: f64,
    /// The clock that the picker sees is off by so many nanoseconds.
    pub(super) clock_error: i64,
    /// First endpoint that gets requests, and how many do.
    pub(super) served: (usize, usize),
    /// Of two requests that come to an endpoint of the second half, whether one goes to the first half instead.
    pub(super) spares_second_half: bool,
    totals: Vec<EngineMetrics>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    running: BTreeMap<u64, Running>,
    random: fastrand::Rng,
    now: Nanos,
    number: u64,
    pub(super) requests: u64,
}

impl World {
    pub(super) fn new(hardware: &[Hardware], hears: Hears) -> Self {
        let pool = Pool::new();
        let endpoints: Vec<_> = (0..hardware.len() as u8)
            .map(|number| {
                pool.upsert(EndpointIdentity {
                    namespace: "default".into(),
                    name: format!("e{number}").into(),
                    address: [10, 0, 0, number].into(),
                    port: 8000,
                    metrics_host: None,
                    labels: BTreeMap::new(),
                })
            })
            .collect();
        let counters = EngineMetrics {
            first_tokens: Some(0.0),
            first_token_seconds: Some(0.0),
            token_gaps: Some(0.0),
            token_gap_seconds: Some(0.0),
            output_tokens: Some(0.0),
            finished_requests: Some(0.0),
            ..EngineMetrics::default()
        };
        let mut world = Self {
            totals: vec![counters; hardware.len()],
            served: (0, hardware.len()),
            spares_second_half: false,
            hardware: hardware.to_vec(),
            pool,
            endpoints,
            hears,
            rate: 5.0 * hardware.len() as f64,
            outliers: 0.0,
            clock_error: 0,
            events: BinaryHeap::new(),
            running: BTreeMap::new(),
            random: fastrand::Rng::with_seed(7),
            now: Nanos(10_000_000_000_000),
            number: 0,
            requests: 0,
        };
        world.after(0.0, Event::Arrival);
        world.after(PAGE_SECONDS, Event::Page);
        world
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.number += 1;
        let at = Nanos(self.now.0 + (seconds * 1e9) as u64);
        self.events.push(Reverse((at, self.number, event)));
    }

    /// Lets seconds pass.
    pub(super) fn run(&mut self, seconds: f64) {
        let end = Nanos(self.now.0 + (seconds * 1e9) as u64);
        self.run_until(|world| world.events.peek().is_none_or(|Reverse(next)| next.0 > end));
        self.now = end;
    }

    /// Lets requests arrive.
    pub(super) fn run_requests(&mut self, requests: u64) {
        let end = self.requests + requests;
        self.run_until(|world| world.requests >= end);
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                return;
            };
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::FirstToken(number) => self.first_token(number),
                Event::End(number) => self.end(number),
                Event::Page => self.page(),
            }
        }
    }

    /// As the picker's clock shows it.
    pub(super) fn clock(&self) -> Nanos {
        Nanos(self.now.0.saturating_add_signed(self.clock_error))
    }

    fn arrive(&mut self) {
        // Load comes in waves, so that engines are seen at different loads.
        let wave = if (self.now.0 / 5_000_000_000).is_multiple_of(2) {
            0.4
        } else {
            1.6
        };
        let gap = -self.random.f64().max(1e-9).ln() / (self.rate * wave);
        self.after(gap, Event::Arrival);
        self.requests += 1;
        let mut endpoint = self.served.0 + self.random.usize(..self.served.1);
        let half = self.endpoints.len() / 2;
        if self.spares_second_half && endpoint >= half && self.random.bool() {
            endpoint -= half;
        }
        let tokens = self.random.u32(50..4000);
        let output_tokens = self.random.u32(50..150);
        let target = &self.endpoints[endpoint];
        let waiting = target.prefill_tokens() + u64::from(tokens);
        let reservation = Reservation::reserve(target, tokens, 0, self.clock());
        let hardware = self.hardware[endpoint];
        let noise = 0.9 + 0.2 * self.random.f64();
        let mut seconds = (hardware.base + waiting as f64 / hardware.rate) * noise;
        if self.random.f64() < self.outliers {
            seconds *= 100.0;
        }
        let number = self.requests;
        self.running.insert(
            number,
            Running {
                endpoint,
                reservation,
                arrived: self.now,
                output_tokens,
                token_seconds: 0.0,
            },
        );
        self.after(seconds, Event::FirstToken(number));
    }

    fn first_token(&mut self, number: u64) {
        let now = self.clock();
        let Some(running) = self.running.get_mut(&number) else {
            return;
        };
        let endpoint = &self.endpoints[running.endpoint];
        match self.hears {
            Hears::Everything => running.reservation.first_token(now),
            Hears::Samples if number.is_multiple_of(10) => {
                running.reservation.drawn_first_token(now);
            }
            Hears::KvEvents => {
                let handle = running
                    .reservation
                    .prefill_handle()
                    .expect("a pending prefill");
                assert!(handle.done(now) && !handle.done(now));
            }
            _ => {}
        }
        let hardware = self.hardware[running.endpoint];
        let in_flight = endpoint.inflight_requests() as f64;
        running.token_seconds = hardware.decode_base + hardware.decode_request * in_flight;
        let totals = &mut self.totals[running.endpoint];
        add(&mut totals.first_tokens, 1.0);
        add(
            &mut totals.first_token_seconds,
            (self.now - running.arrived).as_secs_f64(),
        );
        let seconds = running.token_seconds * f64::from(running.output_tokens - 1);
        self.after(seconds, Event::End(number));
    }

    fn end(&mut self, number: u64) {
        let Some(running) = self.running.remove(&number) else {
            return;
        };
        let totals = &mut self.totals[running.endpoint];
        let gaps = f64::from(running.output_tokens - 1);
        add(&mut totals.output_tokens, gaps + 1.0);
        add(&mut totals.finished_requests, 1.0);
        let told = match self.hears {
            Hears::Everything => Some(running.output_tokens),
            Hears::Samples => (number.is_multiple_of(10)).then_some(running.output_tokens),
            Hears::KvEvents | Hears::Pages | Hears::Ends => None,
            Hears::Aborts => return,
        };
        running.reservation.finish(self.clock(), told);
    }

    fn page(&mut self) {
        for running in self
            .running
            .values()
            .filter(|running| running.token_seconds > 0.0)
        {
            let hardware = self.hardware[running.endpoint];
            let in_flight = self.endpoints[running.endpoint].inflight_requests() as f64;
            let totals = &mut self.totals[running.endpoint];
            let seconds = hardware.decode_base + hardware.decode_request * in_flight;
            add(&mut totals.token_gaps, PAGE_SECONDS / seconds);
            add(&mut totals.token_gap_seconds, PAGE_SECONDS);
        }
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.settle(self.clock());
            if self.hears == Hears::Pages {
                endpoint.refresh(self.totals[number].clone(), self.clock());
            }
        }
        self.after(PAGE_SECONDS, Event::Page);
    }

    /// Engine `number` starts again: its counters begin at 0.
    pub(super) fn restart(&mut self, number: usize) {
        let totals = &mut self.totals[number];
        *totals = EngineMetrics {
            first_tokens: Some(0.0),
            first_token_seconds: Some(0.0),
            token_gaps: Some(0.0),
            token_gap_seconds: Some(0.0),
            output_tokens: Some(0.0),
            finished_requests: Some(0.0),
            ..EngineMetrics::default()
        };
    }
}

fn add(counter: &mut Option<f64>, amount: f64) {
    *counter = counter.map(|count| count + amount);
}
