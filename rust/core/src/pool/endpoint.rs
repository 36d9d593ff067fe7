//! One endpoint: who it is, what its engine last said, and the load reserved on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::attributes::{self, Attribute, AttributeTable};
use super::drift::CacheDrift;
use super::ledger::Ledger;
use super::numbers::Numbers;
use super::prefill::ScrapeMark;
use crate::Nanos;
use crate::learn::{Rates, Signal};

/// Who an endpoint is: one (address, port) that serves the model; a pod with several target ports is several endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointIdentity {
    /// Kubernetes-style namespace, `default` where discovery has none.
    pub namespace: Box<str>,
    /// Name, unique within the namespace.
    pub name: Box<str>,
    /// IP address of the model server.
    pub address: IpAddr,
    /// Port of the model server.
    pub port: u16,
    /// `host:port` where the metrics page is served, when it differs from the endpoint's own.
    pub metrics_host: Option<Box<str>>,
    /// Labels, as a pod has them.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// What an engine's metrics page last said. `None`: the page did not carry the series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineMetrics {
    /// Requests waiting in the engine's queue.
    pub waiting: Option<f64>,
    /// Requests running.
    pub running: Option<f64>,
    /// KV cache usage, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Tokens per KV block.
    pub block_size: Option<u32>,
    /// KV blocks on the accelerator (`num_gpu_blocks`).
    pub num_blocks: Option<u32>,
    /// `LoRA` adapters with a running request.
    pub running_adapters: Vec<Box<str>>,
    /// `LoRA` adapters with only waiting requests.
    pub waiting_adapters: Vec<Box<str>>,
    /// How many adapters fit at once.
    pub max_adapters: Option<u32>,
    /// First tokens produced since the engine started (a counter): drains the reserved prefill.
    pub first_tokens: Option<f64>,
    /// Seconds from arrival to the first token, summed over the requests of `first_tokens` (a counter).
    pub first_token_seconds: Option<f64>,
    /// Gaps between two tokens of a request since the engine started (a counter).
    pub token_gaps: Option<f64>,
    /// Seconds of these gaps together (a counter).
    pub token_gap_seconds: Option<f64>,
    /// Output tokens produced since the engine started (a counter).
    pub output_tokens: Option<f64>,
    /// Requests that ended by themselves since the engine started (a counter).
    pub finished_requests: Option<f64>,
    /// Prompt tokens looked up in the engine's cache since it started (a counter).
    pub queried_tokens: Option<f64>,
    /// Those of them that it had (a counter).
    pub cached_tokens: Option<f64>,
}

/// What lives as long as the (address, port) does, also over a change of the endpoint's labels.
#[derive(Debug)]
pub(super) struct State {
    pub(super) numbers: Numbers,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) rates: Arc<Rates>,
    page: ArcSwap<EngineMetrics>,
    attributes: ArcSwap<AttributeTable>,
    models: ArcSwap<Vec<Box<str>>>,
    picks: PickTotals,
    drift: Mutex<CacheDrift>,
}

impl State {
    fn new(rates: &Arc<Rates>) -> Self {
        Self {
            numbers: Numbers::default(),
            ledger: Mutex::default(),
            rates: Arc::clone(rates),
            page: ArcSwap::default(),
            attributes: ArcSwap::default(),
            models: ArcSwap::default(),
            picks: PickTotals::default(),
            drift: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct PickTotals {
    requests: AtomicU64,
    prompt_tokens: AtomicU64,
    matched_tokens: AtomicU64,
}

/// What was sent to an endpoint since it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picks {
    /// Requests.
    pub requests: u64,
    /// Their prompt tokens.
    pub prompt_tokens: u64,
    /// Those of them that the index expected in the endpoint's cache.
    pub matched_tokens: u64,
}

/// What the engine last said; default until the first page. Reads and writes like an `ArcSwap<EngineMetrics>`.
#[derive(Debug)]
pub struct MetricsCell {
    state: Arc<State>,
}

impl MetricsCell {
    /// The last page, without a reference count.
    pub fn load(&self) -> Guard<Arc<EngineMetrics>> {
        self.state.page.load()
    }

    /// The last page, to keep.
    pub fn load_full(&self) -> Arc<EngineMetrics> {
        self.state.page.load_full()
    }

    /// Replaces the page and the numbers that candidates are gathered from. Drains no prefill: see `Endpoint::refresh`.
    pub fn store(&self, metrics: Arc<EngineMetrics>) {
        self.state.numbers.store_metrics(&metrics);
        self.state.page.store(metrics);
    }
}

/// A live endpoint. Shared by snapshots, so its load survives a change of the pool.
#[derive(Debug)]
pub struct Endpoint {
    /// Who it is.
    pub identity: EndpointIdentity,
    /// `address:port`, IPv6 bracketed: the form of the destination header.
    pub authority: Box<str>,
    /// Dense number, unique among live endpoints, reused after removal: the row in the prefix index.
    pub slot: u32,
    /// What the engine last said; default until the first page.
    pub metrics: MetricsCell,
    pub(super) state: Arc<State>,
}

impl Endpoint {
    pub(super) fn new(identity: EndpointIdentity, slot: u32, rates: &Arc<Rates>) -> Self {
        Self::with_state(identity, slot, Arc::new(State::new(rates)))
    }

    /// Whether both are one server, whatever its labels. One that left and came back is another.
    pub fn is_same_server(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// The same server under new labels or a new metrics address: load and metrics go on.
    pub(super) fn relabelled(&self, identity: EndpointIdentity) -> Self {
        Self::with_state(identity, self.slot, Arc::clone(&self.state))
    }

    fn with_state(identity: EndpointIdentity, slot: u32, state: Arc<State>) -> Self {
        let authority = SocketAddr::new(identity.address, identity.port)
            .to_string()
            .into();
        let metrics = MetricsCell {
            state: Arc::clone(&state),
        };
        Self {
            identity,
            authority,
            slot,
            metrics,
            state,
        }
    }

    /// What a scraper takes just before it sends the request for a page: the page can only speak of what was reserved before.
    pub fn scrape_mark(&self) -> ScrapeMark {
        self.state.scrape_mark()
    }

    /// A new page whose request was sent now: everything reserved so far may be in it.
    pub fn refresh(&self, metrics: EngineMetrics, now: Nanos) {
        self.refresh_since(metrics, self.scrape_mark(), now);
    }

    /// A new page, asked for at `mark` and read at `now`.
    ///
    /// The growth of `first_tokens` since the previous page releases that many of the oldest pending prefills (source 2 of
    /// `policy.md`, "Where the first-token and end signals come from"), and what all counters grew by teaches what no better signal does.
    /// A counter that fell (the engine restarted) and the first page give no growth.
    /// Requests of other routers grow the counter too, so the release can run ahead of the truth; it stops at what was reserved here before `mark`.
    pub fn refresh_since(&self, metrics: EngineMetrics, mark: ScrapeMark, now: Nanos) {
        self.state.page(&metrics, mark, now);
        if **self.metrics.load() != metrics {
            self.metrics.store(Arc::new(metrics));
        }
    }

    /// `delta` requests got their first token, as counted by the engine: releases that many of the oldest pending prefills.
    pub fn first_tokens_seen(&self, delta: u64) {
        self.state.first_tokens_counted(delta);
    }

    /// The number that the extractor named `producer` published under `key`, if it has.
    ///
    /// Extractors of core metrics have `WaitingQueueSize`, `RunningRequestsSize`, `KVCacheUsagePercent` (0 to 1), `MaxActiveModels`,
    /// `CacheBlockSize` (tokens) and `CacheNumBlocks` without any configuration, beside their custom metrics.
    pub fn attribute(&self, producer: &str, key: &str) -> Option<f64> {
        let table = self.state.attributes.load();
        attributes::find(&table, producer, key, |read| read(&self.metrics.load()))
    }

    /// Everything published under a key of a configuration or of an extractor, as (producer, key, value).
    pub fn attributes(&self) -> Vec<(Box<str>, Arc<str>, f64)> {
        attributes::list(&self.state.attributes.load())
    }

    /// Replaces what `producer` published. `engine`: it is an extractor of core metrics, whose built-in keys `attribute` reads from the
    /// endpoint's metrics. True when something changed; values that are not sorted by key always count as changed.
    pub fn set_attributes(&self, producer: &str, engine: bool, values: &[Attribute]) -> bool {
        if attributes::holds(&self.state.attributes.load(), producer, engine, values) {
            return false;
        }
        self.state
            .attributes
            .rcu(|table| attributes::replaced(table, producer, engine, values));
        true
    }

    /// Ids of the models that the server listed last, in its order; empty before.
    pub fn models(&self) -> Arc<Vec<Box<str>>> {
        self.state.models.load_full()
    }

    /// Replaces the list of models. True when it changed.
    pub fn set_models(&self, models: Vec<Box<str>>) -> bool {
        let changed = **self.state.models.load() != models;
        if changed {
            self.state.models.store(Arc::new(models));
        }
        changed
    }

    /// A request with so many prompt tokens was sent here, of which so many were expected in the cache.
    pub fn picked(&self, prompt_tokens: u32, matched_tokens: u64) {
        self.state.picks.requests.fetch_add(1, Ordering::Relaxed);
        self.state
            .picks
            .prompt_tokens
            .fetch_add(u64::from(prompt_tokens), Ordering::Relaxed);
        self.state.picks.matched_tokens.fetch_add(
            matched_tokens.min(u64::from(prompt_tokens)),
            Ordering::Relaxed,
        );
    }

    /// Totals over all requests sent here.
    pub fn picks(&self) -> Picks {
        Picks {
            requests: self.state.picks.requests.load(Ordering::Relaxed),
            prompt_tokens: self.state.picks.prompt_tokens.load(Ordering::Relaxed),
            matched_tokens: self.state.picks.matched_tokens.load(Ordering::Relaxed),
        }
    }

    /// Compares what the engine found in its cache with what was expected, since the last call. To be called about once a second.
    pub fn follow_cache(&self, now: Nanos) {
        let metrics = self.metrics.load();
        if let (Some(queried), Some(cached)) = (metrics.queried_tokens, metrics.cached_tokens) {
            self.state
                .drift
                .lock()
                .observe((cached, queried), self.picks(), now);
        }
    }

    /// Share of the prompts' tokens that the engine found in its cache, less the share that was expected, over about the last minute: from -1 to 1.
    /// `None` while too little was sent here to tell.
    pub fn cache_drift(&self) -> Option<f64> {
        self.state.drift.lock().drift()
    }

    /// The scraper found the endpoint idle and asks again only after `pause`, or at once when a request is sent there; zero: it does not pause.
    pub fn pauses(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.state.numbers.pause.store(nanos, Ordering::Relaxed);
    }

    /// How old the metrics are beyond a pause that was announced: an idle endpoint that is asked less often is not stale. `None`: there are none yet.
    pub fn overdue(&self, now: Nanos) -> Option<Duration> {
        let pause = Duration::from_nanos(self.state.numbers.pause.load(Ordering::Relaxed));
        self.refreshed()
            .map(|refreshed| (now - refreshed).saturating_sub(pause))
    }

    /// When the metrics were last refreshed, if ever.
    pub fn refreshed(&self) -> Option<Nanos> {
        match self.state.numbers.refreshed.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Nanos(nanos)),
        }
    }

    /// Requests in flight through this picker.
    pub fn inflight_requests(&self) -> u64 {
        self.state.numbers.requests.load(Ordering::Relaxed)
    }

    /// Uncached prompt tokens in flight through this picker.
    pub fn inflight_tokens(&self) -> u64 {
        self.state.numbers.tokens.load(Ordering::Relaxed)
    }

    /// Uncached prompt tokens reserved and not yet prefilled (P of `policy.md`).
    pub fn prefill_tokens(&self) -> u64 {
        self.state.numbers.prefill_tokens.load(Ordering::Relaxed)
    }

    /// Requests whose prefill is reserved and not yet released.
    pub fn pending_prefills(&self) -> usize {
        self.state.numbers.pending.load(Ordering::Relaxed) as usize
    }

    /// The best signal of first tokens that was heard in the last minute.
    pub fn signal(&self, now: Nanos) -> Signal {
        self.state.signal(now)
    }

    /// `R_i`: tokens that it is expected to prefill in a second.
    pub fn prefill_rate(&self) -> f64 {
        1.0 / (self.state.rates.curve().prefill_token * self.state.numbers.prefill_factor())
    }

    /// `A_i + B_i·n`: seconds that it is expected to take for an output token with the requests that are in flight.
    pub fn decode_seconds_per_token(&self) -> f64 {
        let requests = self.inflight_requests() as f64;
        self.state.rates.curve().token_seconds(requests) * self.state.numbers.decode_factor()
    }

    /// `s_i` and `f_i`: how much slower than the pool it prefills and decodes; 1: like the pool.
    pub fn factors(&self) -> (f64, f64) {
        let numbers = &self.state.numbers;
        (numbers.prefill_factor(), numbers.decode_factor())
    }

    /// Lets time pass where no request and no page tells of it. To be called about once a second.
    pub fn settle(&self, now: Nanos) {
        self.state.settle(now);
    }
}

/// Shared handle.
pub type SharedEndpoint = Arc<Endpoint>;
