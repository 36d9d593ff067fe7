//! The picker's side of a simulation: a real engine, told the time, the requests, and what the replicas' pages say.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use warmroute_core::Nanos;
use warmroute_core::engine::{self, Engine, Inquiry, PolicySpec};
use warmroute_core::exchange::Refusal;
use warmroute_core::plugin::Externals;
use warmroute_core::pool::{Endpoint, EndpointIdentity, EngineMetrics, Reservation};
use warmroute_core::schedule::RequestFacts;

use super::blocks;
use super::settings::{Settings, Signals, SimulationError};
use crate::hardware::Hardware;
use crate::replica::ReplicaMetrics;
use crate::report::Learnt;

/// Model that requests without an adapter ask for.
const BASE_MODEL: &str = "model";

/// Of the prefix index where the settings name no budget: more than any pool's caches need.
const INDEX_BYTES: usize = 1 << 30;

/// The clock's reading when a simulation begins: a time of 0 means "never" to parts of the engine.
const BEGINNING: Nanos = Nanos(1_000_000_000);

thread_local! {
    static NOW: Cell<Nanos> = const { Cell::new(BEGINNING) };
}

/// Simulated time on this thread, for the engine.
fn clock() -> Nanos {
    NOW.get()
}

/// Seconds of a simulation on the engine's clock.
pub(super) fn nanos(seconds: f64) -> Nanos {
    Nanos(BEGINNING.0 + (seconds * 1e9) as u64)
}

/// Lets the engine's clock show a time of the simulation.
pub(super) fn set_clock(now: f64) -> Nanos {
    let now = nanos(now);
    NOW.set(now);
    now
}

/// What the picker chose.
pub(super) struct Choice {
    pub(super) replica: usize,
    pub(super) reservation: Reservation,
    /// Prompt tokens that the picker expects in the replica's cache.
    pub(super) matched_tokens: u64,
}

/// A request as the picker gets it.
pub(super) struct Question<'a> {
    pub(super) prompt_tokens: u32,
    /// Ids of its blocks of the trace's size.
    pub(super) blocks: &'a [u64],
    /// Name of the adapter.
    pub(super) lora: Option<&'a str>,
}

#[derive(Debug)]
pub(super) struct Router {
    engine: Engine,
    /// By replica.
    endpoints: Vec<Arc<Endpoint>>,
    /// By the endpoint's slot.
    replicas: Vec<usize>,
    /// By replica: matched tokens of all its picks.
    matched_tokens: Vec<u64>,
    unit_tokens: u32,
    signals: Signals,
    /// Kept between decisions: ids of the one prompt of a request.
    sequences: Vec<Vec<u64>>,
    request_id: Bytes,
}

impl Router {
    /// An engine whose endpoints have told their sizes.
    pub(super) fn new(
        settings: &Settings,
        policy: &PolicySpec,
        unit_tokens: u32,
    ) -> Result<Self, SimulationError> {
        set_clock(0.0);
        let engine_settings = engine::Settings {
            seed: Some(settings.seed),
            index_bytes: settings.index_bytes.unwrap_or(INDEX_BYTES),
            ..engine::Settings::default()
        };
        let engine = Engine::new(engine_settings, policy, &Externals::new(), clock)
            .map_err(SimulationError::Policy)?;
        for replica in 0..settings.replicas.len() {
            let _ = engine.upsert_endpoint(identity(replica));
        }
        engine.pool().set_synced(true);
        let snapshot = engine.pool().snapshot();
        let mut endpoints = Vec::new();
        let mut replicas = vec![usize::MAX; snapshot.len()];
        for replica in 0..settings.replicas.len() {
            let found = snapshot.by_authority(&authority(replica));
            let endpoint = found.ok_or_else(|| SimulationError::Range {
                field: "replicas".to_owned(),
                expected: "no more than a pool holds",
            })?;
            replicas[endpoint.slot as usize] = replica;
            endpoints.push(Arc::clone(endpoint));
        }
        Ok(Self {
            matched_tokens: vec![0; endpoints.len()],
            engine,
            endpoints,
            replicas,
            unit_tokens,
            signals: settings.signals,
            sequences: vec![Vec::new()],
            request_id: Bytes::from_static(b"replay"),
        })
    }

    /// Asks the engine, and reserves the load on what it chose.
    pub(super) fn decide(&mut self, question: &Question<'_>, now: f64) -> Result<Choice, Refusal> {
        let now = set_clock(now);
        let most = self.engine.max_blocks();
        if most > 0 {
            let sizes = (self.unit_tokens, self.engine.block_tokens());
            let tokens = question.prompt_tokens;
            blocks::of_size(question.blocks, sizes, tokens, most, &mut self.sequences[0]);
        }
        let active = self.engine.active();
        let decision = self.engine.decide(&Inquiry {
            active: &active,
            facts: RequestFacts {
                target_model: question.lora.unwrap_or(BASE_MODEL).into(),
                prompt_tokens: question.prompt_tokens,
                request_id: self.request_id.clone(),
                ..RequestFacts::default()
            },
            sequences: if most > 0 { &self.sequences } else { &[] },
            cache_salt: None,
            tokens: None,
            subset_hint: None,
            request_id: &self.request_id,
            explain: false,
            now,
        })?;
        let endpoint = decision.reservation.endpoint();
        let replica = self.replicas[endpoint.slot as usize];
        let matched = endpoint.picks().matched_tokens;
        let before = std::mem::replace(&mut self.matched_tokens[replica], matched);
        Ok(Choice {
            replica,
            reservation: decision.reservation,
            matched_tokens: matched - before,
        })
    }

    /// Gives the engine a replica's page.
    pub(super) fn page(
        &self,
        replica: usize,
        hardware: &Hardware,
        metrics: &ReplicaMetrics,
        loras: &[String],
        now: f64,
    ) {
        let now = set_clock(now);
        let endpoint = &self.endpoints[replica];
        let mark = endpoint.scrape_mark();
        let page = page(hardware, metrics, loras, self.signals != Signals::Ends);
        endpoint.refresh_since(page, mark, now);
    }

    /// What a host does about once a second.
    pub(super) fn maintain(&self, now: f64) {
        set_clock(now);
        self.engine.maintain();
    }

    /// What the engine has learnt of the replicas.
    pub(super) fn learnt(&self, now: f64) -> Learnt {
        let now = set_clock(now);
        let factors = || self.endpoints.iter().map(|endpoint| endpoint.factors());
        let signals = self.endpoints.iter();
        Learnt {
            curve: self.engine.pool().rates().curve().into(),
            prefill_factors: factors().map(|(prefill, _)| prefill).collect(),
            decode_factors: factors().map(|(_, decode)| decode).collect(),
            signals: signals
                .map(|endpoint| endpoint.signal(now).name())
                .collect(),
        }
    }

    /// Requests and prefill tokens that are reserved now, over all endpoints.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> (u64, u64) {
        let endpoints = self.endpoints.iter();
        endpoints.fold((0, 0), |(requests, tokens), endpoint| {
            (
                requests + endpoint.inflight_requests(),
                tokens + endpoint.inflight_tokens() + endpoint.prefill_tokens(),
            )
        })
    }
}

fn address(replica: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + replica as u32)
}

fn authority(replica: usize) -> String {
    format!("{}:8000", address(replica))
}

fn identity(replica: usize) -> EndpointIdentity {
    EndpointIdentity {
        namespace: "default".into(),
        name: format!("replica-{replica}").into(),
        address: address(replica).into(),
        port: 8000,
        metrics_host: None,
        labels: std::collections::BTreeMap::new(),
    }
}

/// A replica's page as a scraper reads it.
fn page(
    hardware: &Hardware,
    metrics: &ReplicaMetrics,
    loras: &[String],
    counters: bool,
) -> EngineMetrics {
    let names = |numbers: &[u16]| -> Vec<Box<str>> {
        let names = numbers.iter();
        names
            .filter_map(|number| loras.get(usize::from(*number).checked_sub(1)?))
            .map(|name| name.as_str().into())
            .collect()
    };
    let counter = |value: f64| counters.then_some(value);
    EngineMetrics {
        waiting: Some(f64::from(metrics.waiting)),
        running: Some(f64::from(metrics.running)),
        kv_usage: Some(metrics.kv_usage),
        block_size: Some(hardware.block_size),
        num_blocks: Some(hardware.num_gpu_blocks),
        running_adapters: names(&metrics.running_loras),
        waiting_adapters: names(&metrics.waiting_loras),
        max_adapters: (!loras.is_empty() && hardware.max_loras > 0).then_some(hardware.max_loras),
        first_tokens: counter(metrics.first_tokens as f64),
        first_token_seconds: counter(metrics.first_token_seconds),
        token_gaps: counter(metrics.token_gaps as f64),
        token_gap_seconds: counter(metrics.token_gap_seconds),
        output_tokens: counter(metrics.output_tokens as f64),
        finished_requests: counter(metrics.finished_requests as f64),
        queried_tokens: Some(metrics.queried_tokens as f64),
        cached_tokens: Some(metrics.cached_tokens as f64),
    }
}
