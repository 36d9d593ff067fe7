//! The load of one request on the endpoint that serves it, released exactly once however the request ends.

use std::sync::Arc;

use super::PrefillHandle;
use super::endpoint::Endpoint;
use super::ledger::{Arrival, FirstToken, Load};
use crate::Nanos;
use crate::learn::Measured;
use crate::stats::InFlightRequest;

/// A request in flight: one request and its uncached tokens, counted on an endpoint from the decision until this is dropped.
///
/// What is seen of the answer ([`Self::first_token`], [`Self::finish`]) teaches the rates of the endpoint; a drop without them is an abort and
/// teaches nothing, nor does a request that was tried elsewhere first.
#[derive(Debug)]
pub struct Reservation {
    endpoint: Arc<Endpoint>,
    load: Load,
    /// Name of the pending prefill in the endpoint's queue; `None` once this request has released it.
    prefill: Option<u64>,
    /// The same load in the metrics, where they show it.
    shown: Option<InFlightRequest>,
    measured: Measured,
    first_token: Option<FirstToken>,
    /// What was given to those who hear from the engine.
    handle: Option<PrefillHandle>,
}

impl Reservation {
    /// Counts a request with `uncached_tokens` of prompt to prefill on `endpoint`.
    /// `output_tokens` of expected output count beside them.
    pub fn reserve(
        endpoint: &Arc<Endpoint>,
        uncached_tokens: u32,
        output_tokens: u32,
        now: Nanos,
    ) -> Self {
        let load = Load {
            uncached_tokens,
            output_tokens,
        };
        let (prefill, measured) = endpoint.state.arrive(Arrival {
            load,
            reserved: now,
            pending: true,
            moved: false,
        });
        Self {
            endpoint: Arc::clone(endpoint),
            load,
            prefill,
            shown: None,
            measured,
            first_token: None,
            handle: None,
        }
    }

    /// Shows the load in the metrics too, wherever it moves and as long as it counts.
    pub fn show(&mut self, shown: InFlightRequest) {
        self.shown = Some(shown);
    }

    /// Where the load is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Uncached prompt tokens reserved.
    pub fn uncached_tokens(&self) -> u32 {
        self.load.uncached_tokens
    }

    /// All tokens reserved, prompt and output.
    pub fn tokens(&self) -> u64 {
        self.load.tokens()
    }

    /// For those who hear from the engine when the prefill is done; `None` once this request has released it. After a retry it is another.
    pub fn prefill_handle(&mut self) -> Option<PrefillHandle> {
        let sequence = self.prefill?;
        let handle = self
            .handle
            .get_or_insert_with(|| PrefillHandle::new(&self.endpoint, sequence, self.measured));
        Some(handle.clone())
    }

    /// The first token was seen, now: the prefill is done. Only the first call counts.
    pub fn first_token(&mut self, now: Nanos) {
        self.first_token_seen(false, now);
    }

    /// The same, of an answer that was drawn to be watched: the first tokens of others are not seen.
    pub fn drawn_first_token(&mut self, now: Nanos) {
        self.first_token_seen(true, now);
    }

    fn first_token_seen(&mut self, drawn: bool, now: Nanos) {
        if self.first_token.is_some() {
            return;
        }
        if let Some(shown) = &mut self.shown {
            shown.first_token();
        }
        self.close_handle();
        let state = &self.endpoint.state;
        self.first_token = Some(state.first_token(self.prefill.take(), &self.measured, drawn, now));
    }

    /// The request was answered to its end, now. `output_tokens`: where the answer told them.
    pub fn finish(self, now: Nanos, output_tokens: Option<u32>) {
        let state = &self.endpoint.state;
        state.answered(self.first_token, self.measured.moved, output_tokens, now);
    }

    /// The prefill is done, nobody knows since when. Idempotent, also when the engine's counter released it before.
    pub fn release_prefill(&mut self) {
        if let Some(shown) = &mut self.shown {
            shown.first_token();
        }
        self.close_handle();
        if let Some(sequence) = self.prefill.take() {
            self.endpoint.state.release_prefill(sequence);
        }
    }

    /// The request was served by `endpoint` (a retry): the whole load goes there. A prefill already released stays released
    /// only when this request itself saw its first token; what the first endpoint's counter released begins anew.
    pub fn move_to(&mut self, endpoint: &Arc<Endpoint>) {
        if Arc::ptr_eq(&self.endpoint.state, &endpoint.state) {
            self.endpoint = Arc::clone(endpoint);
            return;
        }
        if let Some(shown) = &mut self.shown {
            shown.move_to(&endpoint.identity);
        }
        self.close_handle();
        let (prefill, measured) = endpoint.state.arrive(Arrival {
            load: self.load,
            reserved: self.measured.reserved,
            pending: self.prefill.is_some(),
            moved: true,
        });
        self.endpoint
            .state
            .leave(self.load, self.prefill.take(), false);
        self.endpoint = Arc::clone(endpoint);
        self.prefill = prefill;
        self.measured = measured;
    }

    fn close_handle(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.close();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close_handle();
        self.endpoint
            .state
            .leave(self.load, self.prefill.take(), true);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::learn::{Curve, Signal};
    use crate::pool::{EndpointIdentity, EngineMetrics, Pool, ScrapeMark};

    fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
        endpoints_of(&Pool::new(), count)
    }

    fn endpoints_of(pool: &Pool, count: u8) -> Vec<Arc<Endpoint>> {
        (0..count)
            .map(|number| {
                pool.upsert(EndpointIdentity {
                    namespace: "default".into(),
                    name: format!("e{number}").into(),
                    address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
                    port: 8000,
                    metrics_host: None,
                    labels: BTreeMap::new(),
                })
            })
            .collect()
    }

    fn counted(first_tokens: f64) -> EngineMetrics {
        EngineMetrics {
            first_tokens: Some(first_tokens),
            ..EngineMetrics::default()
        }
    }

    fn load(endpoint: &Endpoint) -> (u64, u64, u64, usize) {
        (
            endpoint.inflight_requests(),
            endpoint.inflight_tokens(),
            endpoint.prefill_tokens(),
            endpoint.pending_prefills(),
        )
    }

    #[test]
    fn a_reservation_counts_until_it_is_dropped() {
        let endpoint = &endpoints(1)[0];
        let mut reservation = Reservation::reserve(endpoint, 700, 0, Nanos(0));
        assert_eq!(load(endpoint), (1, 700, 700, 1));
        reservation.release_prefill();
        reservation.release_prefill();
        assert_eq!(load(endpoint), (1, 700, 0, 0));
        drop(reservation);
        assert_eq!(load(endpoint), (0, 0, 0, 0));
    }

    #[test]
    fn a_retry_takes_the_load_along() {
        let endpoints = endpoints(2);
        let mut reservation = Reservation::reserve(&endpoints[0], 9, 0, Nanos(0));
        reservation.move_to(&endpoints[1]);
        assert_eq!(load(&endpoints[0]), (0, 0, 0, 0));
        assert_eq!(load(&endpoints[1]), (1, 9, 9, 1));
        reservation.release_prefill();
        reservation.move_to(&endpoints[0]);
        assert_eq!(load(&endpoints[0]), (1, 9, 0, 0));
    }

    #[test]
    fn the_engines_counter_releases_the_oldest_prefill() {
        let endpoint = &endpoints(1)[0];
        endpoint.refresh(counted(40.0), Nanos(1));
        let first = Reservation::reserve(endpoint, 5, 0, Nanos(0));
        let second = Reservation::reserve(endpoint, 7, 0, Nanos(0));
        endpoint.refresh(counted(41.0), Nanos(2));
        assert_eq!(load(endpoint), (2, 12, 7, 1));
        drop((first, second));
        assert_eq!(load(endpoint), (0, 0, 0, 0));
    }

    #[test]
    fn a_request_that_was_tried_elsewhere_does_not_teach() {
        let pool = Pool::new();
        let endpoints = endpoints_of(&pool, 2);
        let started = pool.rates().curve();
        let at = |seconds: u64| Nanos(seconds * 1_000_000_000);
        let mut moved = Reservation::reserve(&endpoints[0], 900, 0, at(1));
        moved.move_to(&endpoints[1]);
        moved.first_token(at(30));
        moved.finish(at(60), Some(100));
        assert_eq!(pool.rates().curve(), started);
        let mut straight = Reservation::reserve(&endpoints[1], 900, 0, at(60));
        straight.first_token(at(61));
        let learnt = pool.rates().curve();
        assert!(
            learnt.first_token_seconds(900.0) > started.first_token_seconds(900.0),
            "{learnt:?}"
        );
        straight.finish(at(91), Some(101));
        let learnt = pool.rates().curve();
        assert!(
            learnt.token_seconds(1.0) > started.token_seconds(1.0) && learnt.output_tokens > 100.0,
            "{learnt:?}"
        );
    }

    #[test]
    fn few_output_tokens_and_times_that_run_backwards_teach_no_rate() {
        let pool = Pool::new();
        let endpoint = &endpoints_of(&pool, 1)[0];
        for (first, end, tokens) in [
            (100, 900_000_000, 4),
            (100, 50, 100),
            (10, 10_000_000_000, 4),
        ] {
            let mut reservation = Reservation::reserve(endpoint, 100, 0, Nanos(100));
            reservation.first_token(Nanos(first));
            reservation.finish(Nanos(end), Some(tokens));
            let curve = pool.rates().curve();
            let untaught = Curve {
                prefill_base: curve.prefill_base,
                prefill_token: curve.prefill_token,
                output_tokens: curve.output_tokens,
                ..Curve::START
            };
            assert_eq!(curve, untaught);
            assert!(curve.prefill_token <= 1e-4, "{curve:?}");
        }
    }

    #[test]
    fn a_handle_releases_and_teaches_once_and_only_while_the_request_waits() {
        let pool = Pool::new();
        let endpoints = endpoints_of(&pool, 2);
        let at = |seconds: u64| Nanos(seconds * 1_000_000_000);
        let mut waiting = Reservation::reserve(&endpoints[0], 900, 0, at(1));
        let handle = waiting.prefill_handle().expect("a pending prefill");
        let copy = handle.clone();
        assert!(handle.done(at(2)) && !copy.done(at(3)));
        assert_eq!(load(&endpoints[0]), (1, 900, 0, 0));
        assert_eq!(endpoints[0].signal(at(3)), Signal::KvEvents);
        let learnt = pool.rates().curve();
        let mut moving = Reservation::reserve(&endpoints[0], 5, 0, at(4));
        let before = moving.prefill_handle().expect("a pending prefill");
        moving.move_to(&endpoints[1]);
        assert!(!before.done(at(5)));
        let handle = moving.prefill_handle().expect("another one");
        moving.release_prefill();
        assert!(!handle.done(at(5)) && moving.prefill_handle().is_none());
        let ended = Reservation::reserve(&endpoints[0], 5, 0, at(4)).prefill_handle();
        assert!(!ended.expect("a pending prefill").done(at(90)));
        assert_eq!(pool.rates().curve(), learnt);
    }

    #[test]
    fn what_was_sent_since_a_page_was_asked_for_is_not_in_it() {
        let endpoint = &endpoints(1)[0];
        let sent = |endpoint: &Endpoint| endpoint.state.numbers.sent_since_page();
        let _first = Reservation::reserve(endpoint, 5, 0, Nanos(0));
        let asked = endpoint.scrape_mark();
        let _second = Reservation::reserve(endpoint, 7, 0, Nanos(0));
        assert_eq!(sent(endpoint), 12);
        endpoint.refresh_since(EngineMetrics::default(), asked, Nanos(1));
        assert_eq!(sent(endpoint), 7);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(usize, u32),
        ReleasePrefill(usize),
        FirstToken(usize),
        Stored(usize),
        Move(usize, usize),
        Mark(usize),
        Refresh(usize, u16),
        Settle(usize),
        Finish(usize, Option<u32>),
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3usize, any::<u32>()).prop_map(|(endpoint, tokens)| Step::Reserve(endpoint, tokens)),
            1 => any::<usize>().prop_map(Step::ReleasePrefill),
            2 => any::<usize>().prop_map(Step::FirstToken),
            1 => any::<usize>().prop_map(Step::Stored),
            2 => (any::<usize>(), 0..3usize).prop_map(|(which, endpoint)| Step::Move(which, endpoint)),
            2 => (0..3usize).prop_map(Step::Mark),
            2 => (0..3usize, 0..20u16).prop_map(|(endpoint, counter)| Step::Refresh(endpoint, counter)),
            1 => (0..3usize).prop_map(Step::Settle),
            2 => (any::<usize>(), any::<Option<u32>>()).prop_map(|(which, tokens)| Step::Finish(which, tokens)),
            2 => any::<usize>().prop_map(Step::Drop),
        ]
    }

    proptest! {
        #[test]
        fn any_interleaving_ends_at_zero(
            steps in proptest::collection::vec((step(), prop_oneof![9 => 0u64..100_000_000_000, 1 => any::<u64>()]), 0..80),
        ) {
            let pool = Pool::new();
            let endpoints = endpoints_of(&pool, 3);
            let mut marks: Vec<ScrapeMark> = endpoints.iter().map(|endpoint| endpoint.scrape_mark()).collect();
            let mut live: Vec<Reservation> = Vec::new();
            let mut handles = Vec::new();
            for (step, now) in steps {
                let now = Nanos(now);
                match step {
                    Step::Reserve(endpoint, tokens) => live.push(Reservation::reserve(&endpoints[endpoint], tokens, 0, now)),
                    Step::Mark(endpoint) => marks[endpoint] = endpoints[endpoint].scrape_mark(),
                    Step::Refresh(endpoint, counter) => {
                        let metrics = EngineMetrics { first_token_seconds: Some(f64::from(counter)), ..counted(f64::from(counter)) };
                        endpoints[endpoint].refresh_since(metrics, marks[endpoint], now);
                    }
                    Step::Settle(endpoint) => endpoints[endpoint].settle(now),
                    _ if live.is_empty() => {}
                    Step::ReleasePrefill(which) => { let which = which % live.len(); live[which].release_prefill(); }
                    Step::FirstToken(which) => { let which = which % live.len(); live[which].first_token(now); }
                    Step::Stored(which) => {
                        let which = which % live.len();
                        handles.extend(live[which].prefill_handle());
                        if let Some(handle) = handles.get(which) { handle.done(now); }
                    }
                    Step::Move(which, endpoint) => { let which = which % live.len(); live[which].move_to(&endpoints[endpoint]); }
                    Step::Finish(which, tokens) => { let which = which % live.len(); live.swap_remove(which).finish(now, tokens); }
                    Step::Drop(which) => { let which = which % live.len(); live.swap_remove(which); }
                }
                for endpoint in &endpoints {
                    let here = live.iter().filter(|reservation| Arc::ptr_eq(reservation.endpoint(), endpoint));
                    let (count, tokens) = here.fold((0, 0), |(count, tokens), reservation| (count + 1, tokens + u64::from(reservation.uncached_tokens())));
                    let (requests, inflight, prefill, pending) = load(endpoint);
                    prop_assert_eq!((requests, inflight), (count, tokens));
                    prop_assert!(prefill <= tokens && pending as u64 <= count);
                    let (prefill_factor, decode_factor) = endpoint.factors();
                    prop_assert!((0.1..=10.0).contains(&prefill_factor) && (0.1..=10.0).contains(&decode_factor));
                    prop_assert!(endpoint.prefill_rate() > 0.0 && endpoint.decode_seconds_per_token() > 0.0);
                    prop_assert!(endpoint.prefill_rate().is_finite() && endpoint.decode_seconds_per_token().is_finite());
                }
            }
            live.clear();
            for endpoint in &endpoints {
                prop_assert_eq!(load(endpoint), (0, 0, 0, 0));
            }
        }
    }

    #[test]
    fn threads_that_reserve_move_and_refresh_end_at_zero() {
        let endpoints = endpoints(4);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let endpoints = &endpoints;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    let mut live = std::collections::VecDeque::new();
                    for turn in 0..5_000_u32 {
                        live.push_back(Reservation::reserve(
                            &endpoints[random.usize(..4)],
                            random.u32(..),
                            0,
                            Nanos(0),
                        ));
                        let which = random.usize(..live.len());
                        match random.u8(..6) {
                            0 => live[which].release_prefill(),
                            4 => live[which].first_token(Nanos(u64::from(turn))),
                            5 => endpoints[random.usize(..4)].settle(Nanos(u64::from(turn))),
                            1 => live[which].move_to(&endpoints[random.usize(..4)]),
                            2 => endpoints[random.usize(..4)]
                                .refresh(counted(f64::from(turn)), Nanos(1)),
                            _ => endpoints[random.usize(..4)].first_tokens_seen(1),
                        }
                        for endpoint in endpoints {
                            // A wrapped (negative) count would be astronomically large.
                            assert!(
                                endpoint.prefill_tokens() < 1 << 50
                                    && endpoint.inflight_requests() < 1 << 20
                            );
                        }
                        if live.len() > 50 {
                            live.pop_front();
                        }
                    }
                });
            }
        });
        for endpoint in &endpoints {
            assert_eq!(load(endpoint), (0, 0, 0, 0));
        }
    }
}
