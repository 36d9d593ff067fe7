//! From a complete request to its decision, with a wait in between where the prompt has to become tokens first.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::collect::Complete;
use super::message::Reply;
use super::refusal::Refusal;
use super::reply::{self, Decided, Wording};
use super::request::{DEFAULT_FLOW, State};
use super::{Exchange, Flight, Progress};
use crate::body::{self, Dialect};
use crate::engine::{Active, Decision, Inquiry};
use crate::schedule::{RequestAttributes, RequestFacts};
use crate::stats::RunningRequest;
use crate::tokens::{Awaited, TokenAnswer, TokenJob, TokenSequence, TokenizeError, Tokenizer};
use crate::{Engine, Nanos};

/// A request that can be decided.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Ready {
    facts: RequestFacts,
    /// Counts the request from before a wait on.
    running: RunningRequest,
    request_id: Bytes,
    /// The request came without one.
    new_request_id: bool,
    explain: bool,
    remove: SmallVec<[&'static str; 8]>,
    sequences: Vec<Vec<u64>>,
    cache_salt: Option<Box<str>>,
    /// The prompts are token ids already.
    is_token_ids: bool,
    streaming: bool,
    /// Model as the engine knows it and as the client wrote it, when they differ; `chunks` are edited then.
    renamed: Option<(Box<str>, Box<str>)>,
    chunks: Vec<Bytes>,
    size: usize,
    messages: usize,
    received: Nanos,
}

/// How the decision is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    wording: Wording,
    /// The request's trailers came and have to be answered after it.
    trailers: bool,
}

/// A request whose prompt is to become tokens before it is decided.
#[derive(Debug)]
pub(super) struct Waiting {
    ready: Ready,
    /// A reload comes between requests, never into one.
    active: Arc<Active>,
    ending: Ending,
    /// Counts what comes of it.
    awaited: Awaited,
    /// Until the host has taken it.
    job: Option<TokenJob>,
}

impl Ending {
    pub(super) fn new(wording: Wording) -> Self {
        Self {
            wording,
            trailers: false,
        }
    }

    /// Of a request whose body was ended by trailers.
    pub(super) fn with_trailers(wording: Wording) -> Self {
        Self {
            wording,
            trailers: wording != Wording::Trailers,
        }
    }
}

impl Ready {
    /// There is something in it that a model would see as tokens, and that the tokenizer reads.
    pub(super) fn is_for(&self, tokenizer: &dyn Tokenizer) -> bool {
        self.facts.prompt_tokens > 0 && (self.is_token_ids || !tokenizer.only_reads_ids())
    }

    /// Whether it is worth the work on its prompt: a request that would be refused anyway need not wait for that.
    pub(super) fn admitted(
        &self,
        engine: &Engine,
        active: &Active,
        subset_hint: Option<&[Box<str>]>,
        now: Nanos,
    ) -> Result<(), Refusal> {
        let admitted = engine.admits(active, &self.facts, subset_hint, now);
        admitted.inspect_err(|refusal| self.running.error(refusal.code()))
    }

    /// The job to tokenise it.
    pub(super) fn job(
        &self,
        tokenizer: Arc<dyn Tokenizer>,
        dialect: Dialect,
        engine: &Engine,
    ) -> TokenJob {
        TokenJob::new(
            tokenizer,
            dialect,
            self.chunks.clone(),
            &self.facts.target_model,
            engine.clock(),
            engine.stats().tokenize(),
        )
    }
}

impl Waiting {
    pub(super) fn new(ready: Ready, active: Arc<Active>, ending: Ending, job: TokenJob) -> Self {
        Self {
            ready,
            active,
            ending,
            awaited: job.awaited(),
            job: Some(job),
        }
    }
}

impl Exchange {
    /// The job that the decision waits for, once after each [`Progress::Wait`]. Its answer belongs to [`Exchange::resume`]; an exchange
    /// that is dropped before needs none.
    pub fn take_job(&mut self) -> Option<TokenJob> {
        match &mut self.request.state {
            State::Waiting(waiting) => waiting.job.take(),
            _ => None,
        }
    }

    /// Goes on after [`Progress::Wait`], as [`Exchange::receive`] would have without. Of an exchange that does not wait nothing comes.
    pub fn resume(
        &mut self,
        answer: TokenAnswer,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        match std::mem::replace(&mut self.request.state, State::Done) {
            State::Waiting(waiting) => {
                let Waiting {
                    ready,
                    active,
                    ending,
                    awaited,
                    ..
                } = *waiting;
                awaited.answered(&answer);
                let tokens = Some(answer.into_tokens());
                self.conclude(ready, &active, tokens, ending, now, replies)
            }
            other => {
                self.request.state = other;
                Progress::Continue
            }
        }
    }

    /// What a decision needs of a request, which counts as running from here on.
    pub(super) fn prepare(
        &mut self,
        complete: Complete,
        active: &Active,
    ) -> Result<Ready, Refusal> {
        let Complete {
            headers,
            body,
            carries_model,
            mut chunks,
            mut size,
            messages,
            received,
        } = complete;
        let incoming = body.model.unwrap_or_default();
        let target = headers.model_rewrite.as_ref().unwrap_or(&incoming).clone();
        if carries_model && target.is_empty() {
            let problem = "model not found in request body";
            return Err(Refusal::BadRequest(problem.to_owned()));
        }
        let renamed = carries_model && target != incoming;
        if renamed {
            size = body::edit_model(&mut chunks, body.model_span, &target);
        }
        let new_request_id = headers.request_id.is_none();
        let request_id = headers.request_id.unwrap_or_else(Engine::new_request_id);
        let attributes = active.policy.attributes(&headers.all);
        let fairness_id = headers
            .fairness_id
            .as_deref()
            .or_else(|| attributes.get(RequestAttributes::AGENT_IDENTITY, None))
            .unwrap_or(DEFAULT_FLOW);
        let facts = RequestFacts {
            target_model: target.clone(),
            prompt_tokens: body.prompt_tokens,
            max_tokens: body.max_tokens,
            priority: 0,
            fairness_id: fairness_id.into(),
            request_id: request_id.clone(),
            headers: headers.all,
            media: body.media,
            attributes,
        };
        let series = (self.engine.stats()).series(&incoming, &target, &facts.fairness_id, 0);
        let running = series.started(size as u64);
        self.request.counted = true;
        Ok(Ready {
            facts,
            running,
            request_id,
            new_request_id,
            explain: headers.explain,
            remove: headers.remove,
            sequences: body.sequences,
            cache_salt: body.cache_salt,
            is_token_ids: body.is_token_ids,
            streaming: body.stream,
            renamed: renamed.then_some((target, incoming)),
            chunks,
            size,
            messages,
            received,
        })
    }

    /// Asks the engine and words what it says.
    pub(super) fn conclude(
        &mut self,
        ready: Ready,
        active: &Arc<Active>,
        tokens: Option<Result<Vec<TokenSequence>, TokenizeError>>,
        ending: Ending,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        let (decided, flight) = match self.choose(ready, active, tokens, now) {
            Ok(chosen) => chosen,
            Err(refusal) => return self.refuse(&refusal, replies),
        };
        let Ending { wording, trailers } = ending;
        let flight = self.flight.insert(flight);
        flight.streaming |= wording == Wording::Headers { tunnel: true };
        let wants_usage = flight.wants_usage(self.engine.settings());
        self.request.request_id = None;
        if let Wording::Headers { .. } = wording {
            self.response.declined =
                reply::response_body_override(self.protocol, wants_usage).is_some();
        }
        decided.word(wording, self.protocol, wants_usage, replies);
        if trailers {
            replies.push(reply::trailers_reply());
        }
        // Of a count of tokens the answer is of no interest.
        let uninteresting = self.response.dialect == Dialect::AnthropicCountTokens;
        if uninteresting && matches!(wording, Wording::FullDuplex { .. }) {
            Progress::Close
        } else {
            Progress::Continue
        }
    }

    fn choose(
        &self,
        ready: Ready,
        active: &Arc<Active>,
        tokens: Option<Result<Vec<TokenSequence>, TokenizeError>>,
        now: Nanos,
    ) -> Result<(Decided, Flight), Refusal> {
        let mut facts = ready.facts;
        if active.policy.prefixes.exact().is_some()
            && let Some(Ok(sequences)) = &tokens
            && !sequences.iter().any(|one| one.truncated)
        {
            // Blocks are counted in the model's own tokens.
            facts.prompt_tokens = sequences.iter().map(|one| one.tokens.len() as u32).sum();
        }
        let has_prompt = facts.prompt_tokens > 0;
        let inquiry = Inquiry {
            active,
            facts,
            sequences: &ready.sequences,
            cache_salt: ready.cache_salt.as_deref(),
            tokens,
            subset_hint: self.request.subset_hint.as_deref(),
            request_id: &ready.request_id,
            explain: ready.explain,
            now,
        };
        let Decision {
            destination,
            reservation,
            chains,
            scores,
            explanation,
            redirected,
            profile,
            edits,
            response_headers,
            recorded,
        } = self.engine.decide(&inquiry).inspect_err(|refusal| {
            ready.running.error(refusal.code());
        })?;
        let decided = Decided {
            destination,
            scores,
            set: edits.set,
            remove: ready.remove.into_iter().chain(edits.remove).collect(),
            new_request_id: ready.new_request_id.then_some(ready.request_id),
            chunks: ready.chunks,
            size: ready.size,
            messages: ready.messages,
            edited: ready.renamed.is_some(),
        };
        let flight = Flight {
            reservation,
            chains,
            running: ready.running,
            received: ready.received,
            streaming: ready.streaming,
            has_prompt,
            renamed: ready.renamed,
            explanation,
            response_headers,
            redirected,
            profile,
            recorded,
            active: active
                .policy
                .follows_responses()
                .then(|| Arc::clone(active)),
        };
        Ok((decided, flight))
    }
}
