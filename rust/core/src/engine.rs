//! The engine: what all exchanges of a picker share, and the decision itself.

mod decisions;
mod refusals;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

pub use decisions::RecordedDecision;
pub use refusals::RefusedRequest;
pub use settings::{Settings, SettingsError};

use crate::Nanos;
use crate::exchange::Refusal;
use crate::pool::{Endpoint, EndpointIdentity, Pool, PoolFull, Reservation, SlotChange};
use crate::prefix::{self, ApproximateIndex};
use crate::schedule::{Candidates, Context, Explanation, Profile, RequestFacts, Scratch};
use crate::stats::Stats;

use decisions::Decisions;
use refusals::Refusals;

/// What all exchanges share. One per pool.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    pool: Arc<Pool>,
    index: Arc<ApproximateIndex>,
    /// Only to measure how long a decision takes; decisions themselves are given the time.
    clock: fn() -> Nanos,
    profile: Profile,
    stats: Stats,
    decisions: Option<Decisions>,
    refusals: Refusals,
    block_tokens: AtomicU32,
    /// Choosing and reserving are one critical section: two requests never see the same load.
    /// It covers about a microsecond of arithmetic.
    choice: Mutex<Choosing>,
}

/// What the critical section works with, kept between decisions so that none allocates.
#[derive(Debug)]
struct Choosing {
    random: fastrand::Rng,
    candidates: Candidates,
    scratch: Scratch,
    ranked: Vec<u32>,
}

/// A request as the decision sees it.
#[derive(Debug)]
pub struct Inquiry<'a> {
    /// What plugins see.
    pub facts: RequestFacts,
    /// Block ids of each of its prompts.
    pub sequences: &'a [Vec<u64>],
    /// Separates caches of tenants.
    pub cache_salt: Option<&'a str>,
    /// Endpoints that the gateway allows; `None`: all.
    pub subset_hint: Option<&'a [Box<str>]>,
    /// For the record of decisions.
    pub request_id: &'a Bytes,
    /// The client asked why.
    pub explain: bool,
    /// Now.
    pub now: Nanos,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Decision {
    /// `host:port`, comma-joined in order of preference.
    pub destination: Bytes,
    /// The load reserved on the first of them.
    pub reservation: Reservation,
    /// Chained hashes of the prompts.
    pub chains: Vec<Vec<u64>>,
    /// (authority, total score) of each candidate, when they are to be published.
    pub scores: Option<Vec<(Box<str>, f64)>>,
    /// JSON, when the client asked and may.
    pub explanation: Option<Box<str>>,
}

impl Engine {
    /// An engine without endpoints.
    ///
    /// # Errors
    /// When a plugin of the profile does not exist or its parameters are wrong.
    pub fn new(settings: Settings, clock: fn() -> Nanos) -> Result<Self, SettingsError> {
        let profile = settings.profile()?;
        let mut stats = Stats::new().with_plugins(profile.plugins());
        if settings.stream_metrics {
            stats = stats.with_streams(clock);
        }
        let pool = Arc::new(Pool::new());
        let index = Arc::new(ApproximateIndex::new(settings.index_bytes));
        let forgetful = Arc::clone(&index);
        let default_capacity = settings.lru_capacity_per_endpoint;
        pool.on_slot_change(move |change| match change {
            SlotChange::Taken(slot) => forgetful.add_endpoint(slot, default_capacity),
            SlotChange::Freed(slot) => forgetful.remove_endpoint(slot),
        });
        Ok(Self {
            pool,
            index,
            clock,
            profile,
            stats,
            decisions: settings
                .explain
                .then(|| Decisions::new(settings.decisions_kept)),
            refusals: Refusals::default(),
            block_tokens: AtomicU32::new(settings.block_tokens.max(settings.min_block_tokens)),
            choice: Mutex::new(Choosing {
                random: fastrand::Rng::new(),
                candidates: Candidates::default(),
                scratch: Scratch::timed(clock),
                ranked: Vec::new(),
            }),
            settings,
        })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The endpoints; shared with the scraper.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The prefix index.
    pub fn index(&self) -> &ApproximateIndex {
        &self.index
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Tokens in a block of the prefix index, now.
    pub fn block_tokens(&self) -> u32 {
        self.block_tokens.load(Ordering::Relaxed)
    }

    /// Longest prompt, in blocks, that is matched.
    pub fn max_blocks(&self) -> usize {
        (self.settings.max_prefix_tokens / self.block_tokens()).max(1) as usize
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
        let block_tokens = snapshot
            .endpoints
            .iter()
            .find_map(|endpoint| endpoint.metrics.load().block_size)
            .unwrap_or(self.settings.block_tokens)
            .min(self.settings.max_prefix_tokens)
            .max(self.settings.min_block_tokens);
        self.block_tokens.store(block_tokens, Ordering::Relaxed);
        for endpoint in &snapshot.endpoints {
            self.index
                .add_endpoint(endpoint.slot, self.capacity(endpoint));
        }
        self.stats
            .set_prefix_indexer_size(self.index.usage().pairs as u64);
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

    /// Chooses endpoints for a request and reserves its load on the first.
    ///
    /// # Errors
    /// [`Refusal::NoCandidates`] when the pool or the subset is empty, [`Refusal::Exhausted`] when filters left nothing.
    pub fn decide(&self, inquiry: Inquiry<'_>) -> Result<Decision, Refusal> {
        let Inquiry {
            facts,
            sequences,
            cache_salt,
            subset_hint,
            request_id,
            explain,
            now,
        } = inquiry;
        let begun = (self.clock)();
        let snapshot = self.pool.load();
        let subset = subset_hint
            .filter(|_| self.settings.subset_filter)
            .map(|hint| snapshot.subset(hint));
        if snapshot.endpoints.is_empty() || subset.as_ref().is_some_and(Vec::is_empty) {
            self.stats.scheduler_attempt(&facts.target_model, None);
            return Err(Refusal::NoCandidates);
        }
        let seed = prefix::seed(&facts.target_model, cache_salt);
        let chains: Vec<Vec<u64>> = sequences
            .iter()
            .map(|ids| prefix::chain(seed, ids))
            .collect();
        let matched = self.matched_blocks(&chains);

        let explain = explain && self.settings.explain;
        let mut explanation = (explain || self.decisions.is_some()).then(Explanation::default);
        let (endpoints, reservation, blocks, scores, marks) = {
            let mut choosing = self.choice.lock();
            let Choosing {
                random,
                candidates,
                scratch,
                ranked,
            } = &mut *choosing;
            snapshot.gather(subset.as_deref(), &matched, candidates);
            let context = Context {
                request: &facts,
                snapshot: &snapshot,
                candidates,
                now,
            };
            if let Err(error) =
                self.profile
                    .run(&context, random, scratch, ranked, explanation.as_mut())
            {
                self.stats.plugin_durations(scratch.marks());
                self.stats.scheduler_attempt(&facts.target_model, None);
                return Err(Refusal::Exhausted(error.to_string()));
            }
            let endpoint_of =
                |row: u32| &snapshot.endpoints[candidates.position[row as usize] as usize];
            let endpoints: SmallVec<[&Arc<Endpoint>; 4]> =
                ranked.iter().map(|row| endpoint_of(*row)).collect();
            let first = ranked[0] as usize;
            let reservation =
                Reservation::reserve(endpoints[0], context.uncached_tokens(first) as u32);
            let scores = self.settings.emit_endpoint_scores.then(|| {
                scratch
                    .totals()
                    .map(|(row, total)| (endpoint_of(row).authority.clone(), total))
                    .collect()
            });
            let marks: SmallVec<[Nanos; 8]> = SmallVec::from_slice(scratch.marks());
            (
                endpoints,
                reservation,
                candidates.matched_blocks[first],
                scores,
                marks,
            )
        };
        self.stats.plugin_durations(&marks);
        // What was just sent counts as held from now on.
        for chain in &chains {
            self.index.record(endpoints[0].slot, chain);
        }
        let destination = join(&endpoints);
        self.count(endpoints[0], &facts, blocks, begun);
        let explanation = explanation.and_then(|explanation| {
            let decision =
                RecordedDecision::new(&facts, request_id, &destination, explanation, now);
            let told = explain.then(|| decision.to_header().into_boxed_str());
            if let Some(decisions) = &self.decisions {
                decisions.push(decision);
            }
            told
        });
        Ok(Decision {
            destination,
            reservation,
            chains,
            scores,
            explanation,
        })
    }

    /// The gateway reports which endpoint served the request; after a retry it is another than the first choice, and the load moves there.
    pub fn served_by(&self, reservation: &mut Reservation, chains: &[Vec<u64>], served: &str) {
        if &*reservation.endpoint().authority == served {
            return;
        }
        let snapshot = self.pool.load();
        let Some(endpoint) = snapshot.by_authority(served) else {
            return;
        };
        reservation.move_to(endpoint);
        for chain in chains {
            self.index.record(endpoint.slot, chain);
        }
    }

    /// Leading blocks that each slot holds, summed over the prompts.
    fn matched_blocks(&self, chains: &[Vec<u64>]) -> Vec<u32> {
        let mut matched = Vec::new();
        let mut one = Vec::new();
        for chain in chains {
            if matched.is_empty() {
                self.index.longest_match(chain, &mut matched);
                continue;
            }
            self.index.longest_match(chain, &mut one);
            matched.resize(matched.len().max(one.len()), 0);
            for (sum, blocks) in matched.iter_mut().zip(&one) {
                *sum += blocks;
            }
        }
        matched
    }

    fn count(&self, endpoint: &Endpoint, facts: &RequestFacts, matched_blocks: u32, begun: Nanos) {
        let matched_tokens = u64::from(matched_blocks) * u64::from(facts.block_tokens);
        endpoint.picked(facts.prompt_tokens, matched_tokens);
        self.stats
            .scheduler_attempt(&facts.target_model, Some(endpoint));
        if facts.total_blocks > 0 {
            let ratio = f64::from(matched_blocks) / f64::from(facts.total_blocks);
            self.stats
                .prefix_hit(ratio, matched_tokens * prefix::BYTES_PER_TOKEN as u64);
        }
        self.stats.scheduler_e2e((self.clock)() - begun);
    }

    /// Blocks of the index that equal the engine's own cache: its number of blocks, in tokens, over the index's block.
    fn capacity(&self, endpoint: &Endpoint) -> usize {
        let metrics = endpoint.metrics.load();
        match (metrics.num_blocks, metrics.block_size) {
            (Some(blocks), Some(size)) if blocks > 0 && size > 0 => {
                (u64::from(blocks) * u64::from(size) / u64::from(self.block_tokens())).max(1)
                    as usize
            }
            _ => self.settings.lru_capacity_per_endpoint,
        }
    }
}

fn join(endpoints: &[&Arc<Endpoint>]) -> Bytes {
    let mut joined = String::with_capacity(endpoints.len() * 24);
    for (index, endpoint) in endpoints.iter().enumerate() {
        if index > 0 {
            joined.push(',');
        }
        joined.push_str(&endpoint.authority);
    }
    Bytes::from(joined)
}
