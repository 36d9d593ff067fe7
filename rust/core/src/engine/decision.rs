//! One decision: past the gates, through a profile, to the load reserved on what was chosen.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::decisions::RecordedDecision;
use super::policy::Policy;
use super::recording::{Captured, Recording, RecordingEntry};
use super::{Active, Choosing, Engine};
use crate::Nanos;
use crate::control::{Chosen, HeaderPairs, RequestEdits};
use crate::exchange::Refusal;
use crate::pool::{Endpoint, Reservation, Snapshot};
use crate::prefix;
use crate::schedule::{
    Candidates, Context, Explanation, PrefixColumn, Prepared, Prompt, RequestFacts, Scratch,
};
use crate::tokens::{TokenSequence, TokenizeError};

/// A request as the decision sees it.
#[derive(Debug)]
pub struct Inquiry<'a> {
    /// One for all of a request, from its first plugin to its response: a reload comes between requests, never into one.
    pub active: &'a Active,
    /// What plugins see.
    pub facts: RequestFacts,
    /// Block ids of each of its prompts.
    pub sequences: &'a [Vec<u64>],
    /// Separates caches of tenants.
    pub cache_salt: Option<&'a str>,
    /// Its prompts in the model's own tokens, or why there are none; `None` where nobody was asked for them.
    pub tokens: Option<Result<Vec<TokenSequence>, TokenizeError>>,
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
    /// A plugin put another destination in the place of the chosen one, so what the gateway reports as served says nothing of the choice.
    pub redirected: bool,
    /// Name of the profile that ran.
    pub profile: Arc<str>,
    /// What plugins change on the request; its destination is in the one above.
    pub edits: RequestEdits,
    /// Headers that plugins set on the response.
    pub response_headers: HeaderPairs,
    /// What is to be written of it, where it is recorded.
    pub recorded: Option<Box<RecordingEntry>>,
}

/// What the choice left, as it comes out of the critical section.
struct Choice<'a> {
    endpoints: SmallVec<[&'a Arc<Endpoint>; 4]>,
    reservation: Reservation,
    scores: Option<Vec<(Box<str>, f64)>>,
    edits: RequestEdits,
    captured: Option<Captured>,
}

/// A decision to be made: what stays the same while it is made. The prompt is no part of what a choice holds on to: its hashes go out with the decision.
struct Question<'a, 'p> {
    active: &'a Active,
    facts: &'a RequestFacts,
    snapshot: &'a Arc<Snapshot>,
    /// Positions in the snapshot; `None`: all.
    subset: Option<&'a [u32]>,
    /// By slot.
    prefixes: &'a [PrefixColumn],
    /// It is recorded; a number of its own.
    recorded: Option<u64>,
    prompt: Prompt<'p>,
    now: Nanos,
}

impl Question<'_, '_> {
    fn gather(&self, candidates: &mut Candidates) {
        let to_the_end = self.active.policy.in_flight.add_estimated_output_tokens;
        self.snapshot
            .gather(self.subset, self.prefixes, to_the_end, candidates);
        for producer in &self.active.policy.columns {
            producer.produce(self.facts, self.snapshot, candidates);
        }
    }
}

impl Engine {
    /// Chooses endpoints for a request and reserves its load on the first.
    ///
    /// # Errors
    /// In the order in which it is looked at: [`Refusal::Shed`], [`Refusal::NoCandidates`] when the pool or the subset is empty,
    /// [`Refusal::Screened`], [`Refusal::NotAdmitted`], [`Refusal::NoProfile`], [`Refusal::Exhausted`] when filters left nothing, [`Refusal::NotCached`].
    pub fn decide(&self, inquiry: &Inquiry<'_>) -> Result<Decision, Refusal> {
        let Inquiry {
            active,
            ref facts,
            subset_hint,
            request_id,
            explain,
            now,
            ..
        } = *inquiry;
        let begun = (self.clock)();
        let policy = &active.policy;
        let snapshot = self.pool.load();
        let subset = self.subset(&snapshot, subset_hint);
        let gates = self.gates(active, facts, &snapshot, now);
        gates.open(subset.as_deref())?;
        let explain = explain && self.settings.explain;
        let mut explanation = (explain || self.decisions.is_some()).then(Explanation::default);
        let mut response_headers = HeaderPairs::new();
        let subset = gates.screen(subset, &mut response_headers, explanation.as_mut())?;
        let matching = self.match_prompt(inquiry);
        gates.admit(subset.as_deref(), &matching.columns)?;

        // What was refused so far never came to the scheduler; from here on it is an attempt, as the reference counts them.
        let failed = |refusal: &Refusal| {
            if *refusal != Refusal::NotCached {
                self.stats.scheduler_attempt(&facts.target_model, None);
            }
        };
        let question = Question {
            active,
            facts,
            snapshot: &snapshot,
            subset: subset.as_deref(),
            prefixes: &matching.columns,
            recorded: self.recording.as_ref().and_then(Recording::draw),
            prompt: matching.prompt(active, self.block_tokens()),
            now,
        };
        let position = policy
            .profile_for(facts)
            .ok_or(Refusal::NoProfile)
            .inspect_err(failed)?;
        let mut choice = self
            .choose(&question, position, explanation.as_mut())
            .inspect_err(failed)?;
        self.show_in_flight(policy, facts, &mut choice);
        let first = choice.endpoints[0];
        let profile = policy.profiles()[position].name();
        let recorded = choice.captured.take().map(|captured| {
            let chains = &matching.chains;
            self.entry(inquiry, &snapshot, chains, profile, captured)
        });
        self.remember(inquiry, &mut choice.reservation, &matching);
        let redirected = choice.edits.destination.is_some();
        let destination = choice
            .edits
            .destination
            .take()
            .unwrap_or_else(|| join(&choice.endpoints));
        self.count(first, inquiry, &matching.columns, begun);
        let explanation = explanation.and_then(|explanation| {
            let decision = RecordedDecision::new(facts, request_id, &destination, explanation, now);
            self.record(decision, explain)
        });
        Ok(Decision {
            destination,
            reservation: choice.reservation,
            chains: matching.chains,
            scores: choice.scores,
            explanation,
            redirected,
            profile: Arc::clone(profile),
            edits: choice.edits,
            response_headers,
            recorded,
        })
    }

    /// Runs a profile and reserves the load on what it chose.
    fn choose<'a>(
        &self,
        question: &Question<'a, '_>,
        position: usize,
        mut explanation: Option<&mut Explanation>,
    ) -> Result<Choice<'a>, Refusal> {
        let Question {
            active,
            facts,
            snapshot,
            now,
            ..
        } = *question;
        let policy = &active.policy;
        let profile = &policy.profiles()[position];
        let timers = &active.timers[position];
        let prepared = if profile.has_external() {
            Some(self.prepare(question, position, explanation.as_deref_mut())?)
        } else {
            None
        };
        let skipped = prepared.as_ref().map_or(0, |_| profile.filter_count());
        let wants_warm_cache = wants_warm_cache(facts);
        let (chosen, marks) = {
            let mut choosing = self.choice.lock();
            let Choosing {
                random,
                candidates,
                scratch,
                ranked,
            } = &mut *choosing;
            question.gather(candidates);
            let context = Context {
                request: facts,
                snapshot,
                candidates,
                prompt: question.prompt,
                now,
                random,
            };
            let outcome = profile.run(&context, prepared.as_ref(), scratch, ranked, explanation);
            let marks: SmallVec<[Nanos; 8]> = SmallVec::from_slice(scratch.marks());
            let chosen = match outcome {
                Err(error) => Err(Refusal::Exhausted(error.to_string())),
                Ok(_) if wants_warm_cache && context.prefix(None).held(ranked[0] as usize) == 0 => {
                    // An endpoint was found; that it is not used is no failure of the scheduler.
                    let position = candidates.position[ranked[0] as usize];
                    let endpoint = &snapshot.endpoints[position as usize];
                    self.stats
                        .scheduler_attempt(&facts.target_model, Some(endpoint));
                    Err(Refusal::NotCached)
                }
                Ok(_) => Ok(self.reserve(question, &context, profile.name(), scratch, ranked)),
            };
            (chosen, marks)
        };
        let took = prepared.as_ref().map_or(&[][..], |prepared| &prepared.took);
        timers.observe_from(skipped, &marks, took);
        chosen
    }

    /// The part of the critical section that follows the choice.
    fn reserve<'a>(
        &self,
        question: &Question<'a, '_>,
        context: &Context<'_>,
        profile: &str,
        scratch: &Scratch,
        ranked: &[u32],
    ) -> Choice<'a> {
        let policy = &question.active.policy;
        let candidates = context.candidates;
        let endpoint_of =
            |row: u32| &question.snapshot.endpoints[candidates.position[row as usize] as usize];
        let endpoints: SmallVec<[&Arc<Endpoint>; 4]> =
            ranked.iter().map(|row| endpoint_of(*row)).collect();
        let first = ranked[0] as usize;
        let mut edits = RequestEdits::default();
        if !policy.pre_requests.is_empty() {
            let chosen = Chosen { ranked, profile };
            for plugin in &policy.pre_requests {
                plugin.pre_request(context, &chosen, &mut edits);
            }
        }
        let prefix = context.prefix(policy.in_flight.prefix_producer.as_deref());
        let output_tokens = policy
            .in_flight
            .output_tokens(question.facts.prompt_tokens, question.facts.max_tokens);
        Choice {
            reservation: Reservation::reserve(
                endpoints[0],
                context.uncached_by(prefix, first) as u32,
                output_tokens,
                question.now,
            ),
            scores: self.settings.emit_endpoint_scores.then(|| {
                scratch
                    .totals()
                    .map(|(row, total)| (endpoint_of(row).authority.clone(), total))
                    .collect()
            }),
            endpoints,
            edits,
            captured: question
                .recorded
                .map(|number| Captured::take(candidates, ranked[0], number)),
        }
    }

    /// Lets external plugins work before the choice is locked.
    fn prepare(
        &self,
        question: &Question<'_, '_>,
        position: usize,
        explanation: Option<&mut Explanation>,
    ) -> Result<Prepared, Refusal> {
        let profile = &question.active.policy.profiles()[position];
        let mut candidates = Candidates::default();
        question.gather(&mut candidates);
        let random = RefCell::new(fastrand::Rng::new());
        let context = Context {
            request: question.facts,
            snapshot: question.snapshot,
            candidates: &candidates,
            prompt: question.prompt,
            now: question.now,
            random: &random,
        };
        let mut scratch = Scratch::timed(self.clock);
        let prepared = profile.prepare(question.snapshot, &context, &mut scratch, explanation);
        question.active.timers[position].observe(scratch.marks());
        let prepared = prepared.map_err(|error| Refusal::Exhausted(error.to_string()))?;
        for (type_name, name, failure) in &prepared.failures {
            self.stats.plugin_failed(type_name, name, failure);
        }
        Ok(prepared)
    }

    /// Shows the reserved load in the gauges, where a producer of the policy counts it.
    fn show_in_flight(&self, policy: &Policy, facts: &RequestFacts, choice: &mut Choice<'_>) {
        let Some(producer) = policy.in_flight_producer() else {
            return;
        };
        choice.reservation.show(self.stats.in_flight().enter(
            producer,
            &choice.endpoints[0].identity,
            (&facts.fairness_id, facts.priority),
            choice.reservation.tokens(),
            !policy.in_flight.add_estimated_output_tokens,
        ));
    }

    /// Keeps a decision; gives it as JSON where it is to be told.
    fn record(&self, decision: RecordedDecision, told: bool) -> Option<Box<str>> {
        let json = told.then(|| decision.to_header().into_boxed_str());
        if let Some(decisions) = &self.decisions {
            decisions.push(decision);
        }
        json
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
        let active = self.active.load();
        active.remember(endpoint.slot, chains, self.block_tokens());
    }

    fn count(
        &self,
        endpoint: &Endpoint,
        inquiry: &Inquiry<'_>,
        columns: &[PrefixColumn],
        begun: Nanos,
    ) {
        let facts = &inquiry.facts;
        let slot = endpoint.slot as usize;
        // What is compared with the engine's own figure is what the engine itself has told, where anybody asks for that.
        let expected = columns.get(inquiry.active.policy.prefixes.best());
        let expected = expected.unwrap_or(PrefixColumn::nothing());
        endpoint.picked(facts.prompt_tokens, expected.cached_tokens(slot));
        self.stats
            .scheduler_attempt(&facts.target_model, Some(endpoint));
        for (column, stats) in columns.iter().zip(&inquiry.active.prefix_stats) {
            if column.total_blocks > 0 {
                let blocks = column.blocks(slot);
                let tokens = u64::from(blocks) * u64::from(column.block_tokens);
                stats.hit(
                    f64::from(blocks) / f64::from(column.total_blocks),
                    tokens * prefix::BYTES_PER_TOKEN as u64,
                );
            }
        }
        self.stats.scheduler_e2e((self.clock)() - begun);
    }
}

/// The client wants an answer only where its prompt is cached (`prefer: if-available`, RFC 7240).
fn wants_warm_cache(facts: &RequestFacts) -> bool {
    let mut prefer = facts.headers.iter().filter(|header| header.key == "prefer");
    prefer.any(|header| {
        header.value.split(|byte| *byte == b',').any(|preference| {
            let name = preference.split(|byte| *byte == b';').next();
            name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"if-available"))
        })
    })
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
