//! The engine: what all exchanges of a picker share. `decision` decides.

mod decision;
mod decisions;
mod exact;
mod gates;
mod indexes;
mod matching;
mod policy;
mod recording;
mod refusals;
mod rerun;
mod sample;
mod settings;
mod speculation;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::Mutex;

pub use decision::{Decision, Inquiry};
pub use decisions::RecordedDecision;
pub use policy::{Policy, PolicyError, PolicySpec, ProfilePlugin, ProfileSpec};
pub(crate) use recording::Ending;
pub use recording::{RecordingEntry, RecordingState};
pub use refusals::RefusedRequest;
pub use rerun::{Again, Rerun, RerunError, Took};
pub use settings::{Settings, SettingsError};

use crate::Nanos;
use crate::exchange::Refusal;
use crate::kv_events::KvEvents;
use crate::plugin::{Externals, PrefixSettings};
use crate::pool::{Endpoint, EndpointIdentity, Pool, PoolFull, SlotChange};
use crate::prefix::{ApproximateIndex, IndexUsage};
use crate::schedule::{Candidates, Scratch};
use crate::stats::{PluginTimers, PrefixStats, RateFamilies, Stats};
use crate::tokens::Tokenizer;

use decisions::Decisions;
use exact::Exact;
use indexes::Indexes;
use recording::Recording;
use refusals::Refusals;
use sample::ResponseSample;

/// What all exchanges share. One per pool.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    pool: Arc<Pool>,
    /// Those of the policy in force, as the pool's slots come and go.
    indexes: Arc<Indexes>,
    exact: Arc<Exact>,
    /// Only to measure how long a decision takes; decisions themselves are given the time.
    clock: fn() -> Nanos,
    active: ArcSwap<Active>,
    /// One reload at a time.
    reloading: Mutex<()>,
    stats: Stats,
    decisions: Option<Decisions>,
    refusals: Refusals,
    recording: Option<Recording>,
    response_sample: ResponseSample,
    block_tokens: AtomicU32,
    /// Choosing and reserving are one critical section: two requests never see the same load.
    /// It covers about a microsecond of arithmetic.
    choice: Mutex<Choosing>,
}

/// The policy in force, and where its plugins are measured.
#[derive(Debug)]
pub struct Active {
    /// What decides.
    pub policy: Policy,
    /// One for each profile.
    timers: Vec<PluginTimers>,
    /// Of what stands before the profiles.
    gate_timers: PluginTimers,
    /// One for each approximate index of the policy.
    indexes: Vec<Arc<ApproximateIndex>>,
    /// One for each producer of prefix matches.
    prefix_stats: Vec<Arc<PrefixStats>>,
}

/// What a policy comes to live in.
struct Around<'a> {
    stats: &'a Stats,
    pool: &'a Arc<Pool>,
    exact: &'a Exact,
    index_bytes: usize,
    clock: fn() -> Nanos,
}

/// What the critical section works with, kept between decisions so that none allocates.
#[derive(Debug)]
struct Choosing {
    random: RefCell<fastrand::Rng>,
    candidates: Candidates,
    scratch: Scratch,
    ranked: Vec<u32>,
}

impl Engine {
    /// An engine without endpoints.
    ///
    /// # Errors
    /// When a plugin of the policy does not exist or its parameters are wrong.
    pub fn new(
        settings: Settings,
        policy: &PolicySpec,
        externals: &Externals,
        clock: fn() -> Nanos,
    ) -> Result<Self, PolicyError> {
        let policy = Policy::build(policy, externals, settings.max_endpoints, None)?;
        let mut stats = Stats::new();
        if settings.stream_metrics {
            stats = stats.with_streams(clock);
        }
        let pool = Arc::new(Pool::new());
        let indexes = Arc::new(Indexes::default());
        let exact = Arc::new(Exact::new(clock));
        let (following, forgetting) = (Arc::clone(&indexes), Arc::clone(&exact));
        pool.on_slot_change(move |change| {
            following.follow(change);
            if let SlotChange::Freed(slot) = change {
                forgetting.forget(slot);
            }
        });
        let around = Around {
            stats: &stats,
            pool: &pool,
            exact: &exact,
            index_bytes: settings.index_bytes,
            clock,
        };
        let active = Active::new(policy, None, &around);
        let engine = Self {
            indexes,
            exact,
            clock,
            active: ArcSwap::from_pointee(active),
            pool,
            reloading: Mutex::new(()),
            stats,
            decisions: settings
                .explain
                .then(|| Decisions::new(settings.decisions_kept)),
            refusals: Refusals::default(),
            recording: settings
                .record_sample
                .map(|sample| Recording::new(sample, settings.seed, clock())),
            response_sample: ResponseSample::new(settings.response_sample, settings.seed),
            block_tokens: AtomicU32::new(0),
            choice: Mutex::new(Choosing {
                random: RefCell::new(
                    settings
                        .seed
                        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
                ),
                candidates: Candidates::default(),
                scratch: Scratch::timed(clock),
                ranked: Vec::new(),
            }),
            settings,
        };
        engine.maintain();
        Ok(engine)
    }

    /// Decides by another policy from now on. Requests that were decided stay as they were; plugins that did not change keep their state.
    ///
    /// # Errors
    /// As `new`; the policy in force stays.
    pub fn reload(&self, policy: &PolicySpec, externals: &Externals) -> Result<(), PolicyError> {
        let _one_at_a_time = self.reloading.lock();
        let active = self.active.load();
        let limit = self.settings.max_endpoints;
        let policy = Policy::build(policy, externals, limit, Some(&active.policy))?;
        let around = Around {
            stats: &self.stats,
            pool: &self.pool,
            exact: &self.exact,
            index_bytes: self.settings.index_bytes,
            clock: self.clock,
        };
        let active = Active::new(policy, Some(&active), &around);
        self.active.store(Arc::new(active));
        self.maintain();
        Ok(())
    }

    /// The same engine with a tokenizer until the next reload: lets tests of hosts have requests that wait.
    #[doc(hidden)]
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: Arc<dyn Tokenizer>) -> Self {
        let mut active = self.active.into_inner();
        if let Some(active) = Arc::get_mut(&mut active) {
            active.policy.tokenizer = Some(tokenizer);
        }
        self.active = ArcSwap::new(active);
        self
    }

    /// Response bodies of requests that are decided now are to be processed for their usage, where the gateway can be asked to send them.
    pub fn wants_usage(&self) -> bool {
        self.settings.response_usage || self.active.load().reports()
    }

    /// Whether the streamed answer whose headers have come is one of the share that is watched. Asked once for each.
    pub(crate) fn samples_response(&self) -> bool {
        self.response_sample.draw()
    }

    /// The policy in force.
    pub fn active(&self) -> Guard<Arc<Active>> {
        self.active.load()
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The endpoints; shared with the scraper.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What the approximate prefix indexes hold, together.
    pub fn index_usage(&self) -> IndexUsage {
        let active = self.active.load();
        let usages = active.indexes.iter().map(|index| index.usage());
        usages.fold(IndexUsage::default(), IndexUsage::plus)
    }

    /// Blocks that the approximate prefix indexes expect an endpoint to hold, by its slot.
    pub fn indexed_blocks(&self, slot: u32) -> usize {
        let active = self.active.load();
        let blocks = active.indexes.iter().map(|index| index.blocks_of(slot));
        blocks.sum()
    }

    /// What the host gives the engines' KV events to.
    pub fn kv_events(&self) -> &Arc<KvEvents> {
        self.exact.events()
    }

    /// Whether a prompt's tokens are of use: not where they are for the exact index only, and no engine tells what it holds.
    pub(crate) fn wants_tokens(&self, active: &Active) -> bool {
        active.policy.prefixes.exact().is_none() || !self.exact.events().known().is_empty()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Tokens in a block of the prefix index, now.
    pub fn block_tokens(&self) -> u32 {
        self.block_tokens.load(Ordering::Relaxed)
    }

    /// Longest prompt, in blocks, that is matched or recorded; 0 where nobody asks for blocks.
    pub fn max_blocks(&self) -> usize {
        let active = self.active.load();
        let block_tokens = self.block_tokens();
        let matched = active.policy.prefixes.max_blocks(block_tokens);
        if matched == 0 && self.recording.is_some() {
            return PrefixSettings::default().longest.blocks(block_tokens);
        }
        matched
    }

    /// Adds or changes an endpoint.
    ///
    /// # Errors
    /// When the pool is full.
    pub fn upsert_endpoint(&self, identity: EndpointIdentity) -> Result<(), PoolFull> {
        self.pool.try_upsert(identity).map(|_| ())
    }

    /// Removes an endpoint and forgets what it held. False: it was not there.
    pub fn remove_endpoint(&self, namespace: &str, name: &str) -> bool {
        self.pool.remove(namespace, name)
    }

    /// The last decisions, newest first; none unless explaining is enabled.
    pub fn decisions(&self, limit: usize) -> Vec<RecordedDecision> {
        self.decisions
            .as_ref()
            .map(|decisions| decisions.last(limit))
            .unwrap_or_default()
    }

    /// Follows what the engines say of themselves (block size, number of blocks). To be called about once a second.
    pub fn maintain(&self) {
        let snapshot = self.pool.snapshot();
        let active = self.active.load();
        let told = snapshot
            .endpoints
            .iter()
            .find_map(|endpoint| endpoint.metrics.load().block_size);
        let policy = &active.policy;
        let block_tokens = policy.prefixes.block_tokens(told, policy.min_block_tokens);
        self.block_tokens.store(block_tokens, Ordering::Relaxed);
        let approximates = &policy.prefixes.approximates;
        let kept = active.indexes.iter().zip(approximates);
        self.indexes
            .set(kept.map(|(index, of)| (Arc::clone(index), of.settings.lru_capacity)));
        for (index, of) in active.indexes.iter().zip(approximates) {
            for endpoint in &snapshot.endpoints {
                index.add_endpoint(endpoint.slot, self.capacity(endpoint, &of.settings));
            }
        }
        self.exact
            .configure(policy.prefixes.exact().map(|settings| &**settings));
        let now = self.now();
        self.exact.expire(now);
        for endpoint in &snapshot.endpoints {
            endpoint.follow_cache(now);
            endpoint.settle(now);
        }
        for (producer, stats) in policy.prefixes.producers.iter().zip(&active.prefix_stats) {
            let entries = if producer.exact.is_some() {
                self.exact.index().usage().pairs
            } else {
                active.indexes[producer.approximate].usage().pairs
            };
            stats.set_entries(entries as u64);
        }
    }

    /// Records a request that was refused, for [`Engine::take_refusals`].
    pub(crate) fn refused(&self, refusal: &Refusal, request_id: Option<&Bytes>) {
        self.refusals.push(refusal, request_id, self.now());
    }

    /// The refusals since the last call, oldest first and at most 256, and how many more there were.
    pub fn take_refusals(&self) -> (Vec<RefusedRequest>, u64) {
        self.refusals.take()
    }

    /// Now, on the host's clock.
    pub(crate) fn now(&self) -> Nanos {
        (self.clock)()
    }

    /// The host's clock.
    pub(crate) fn clock(&self) -> fn() -> Nanos {
        self.clock
    }

    /// A random (version 4) UUID.
    pub fn new_request_id() -> Bytes {
        let mut id = fastrand::u128(..).to_be_bytes();
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        let mut text = Vec::with_capacity(36);
        for (index, byte) in id.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push(b'-');
            }
            text.extend(
                [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]),
            );
        }
        Bytes::from(text)
    }

    /// Blocks of the index that equal the engine's own cache: its number of blocks, in tokens, over the index's block.
    fn capacity(&self, endpoint: &Endpoint, prefix: &PrefixSettings) -> usize {
        let metrics = endpoint.metrics.load();
        match (metrics.num_blocks, metrics.block_size) {
            (Some(blocks), Some(size)) if prefix.auto_tune && blocks > 0 && size > 0 => {
                (u64::from(blocks) * u64::from(size) / u64::from(self.block_tokens())).max(1)
                    as usize
            }
            _ => prefix.lru_capacity,
        }
    }
}

impl Active {
    /// Its plugins tell of usage.
    pub(crate) fn reports(&self) -> bool {
        !self.policy.reporters.is_empty()
    }

    fn new(policy: Policy, previous: Option<&Self>, around: &Around<'_>) -> Self {
        let Around {
            stats,
            pool,
            exact,
            index_bytes,
            clock,
        } = *around;
        let timers = policy
            .profiles()
            .iter()
            .map(|profile| stats.plugin_timers(profile.plugins()))
            .collect();
        let producers = policy.prefixes.producers.iter();
        let prefix_stats =
            stats.prefix_producers(producers.map(|producer| (&producer.name, &producer.type_name)));
        let mut families = policy.families.clone();
        if policy.prefixes.exact().is_some() {
            families.extend(exact.families());
        }
        families.push(Arc::new(RateFamilies::new(Arc::clone(pool.rates()), clock)));
        stats.set_plugin_families(families, pool);
        Self {
            timers,
            gate_timers: stats.plugin_timers(policy.gate_plugins()),
            indexes: indexes::keep(&policy, previous, index_bytes),
            prefix_stats,
            policy,
        }
    }
}

#[cfg(test)]
mod tests;
