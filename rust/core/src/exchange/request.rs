//! The request's side: collect what the mode lets us see, decide, word the reply.

use std::sync::Arc;

use bytes::Bytes;

use super::choose::{Ending, Waiting};
use super::collect::{Collecting, Complete, Renaming};
use super::message::{
    BodyMode, BodyMutation, CommonReply, Header, HttpBody, HttpHeaders, Reply, ReplyPhase,
};
use super::refusal::Refusal;
use super::reply::{self, Wording};
use super::{Exchange, Progress};
use crate::Nanos;
use crate::body;

/// Flow of requests that name none.
pub(super) const DEFAULT_FLOW: &str = "default-flow";

/// Where the request's side stands.
#[derive(Debug, Default)]
pub(super) struct RequestSide {
    pub(super) subset_hint: Option<Vec<Box<str>>>,
    pub(super) state: State,
    /// The request stands in the counters, under its model.
    pub(super) counted: bool,
    /// For the record of a refusal; given back with the decision, as it keeps the message that carried it.
    pub(super) request_id: Option<Bytes>,
    /// For the counter of refusals.
    fairness_id: Option<Box<str>>,
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// No headers yet.
    #[default]
    Start,
    /// Headers seen, body wanted.
    Collecting(Box<Collecting>),
    /// Chosen from the headers (STREAMED, or a tunnel), or never asked (request headers are not sent to us): the body passes.
    Passing,
    /// Chosen from the headers, and the model has to be renamed in the body that follows (STREAMED).
    Renaming(Box<Renaming>),
    /// All is known but the tokens of the prompt, for which the host was given a job.
    Waiting(Box<Waiting>),
    /// Decided on the whole body, or refused: nothing more is answered.
    Done,
}

impl Exchange {
    pub(super) fn on_request_headers(
        &mut self,
        headers: HttpHeaders,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        if !matches!(self.request.state, State::Start) {
            return Progress::Continue;
        }
        let end_of_stream = headers.end_of_stream;
        let limit = self.engine.settings().max_body_bytes;
        let mut collecting = Collecting::new(&self.engine, headers, now);
        self.request
            .request_id
            .clone_from(&collecting.headers.request_id);
        self.request
            .fairness_id
            .clone_from(&collecting.headers.fairness_id);
        let tunnel = collecting.headers.tunnel && !end_of_stream;
        if !end_of_stream
            && !tunnel
            && declared_length(&collecting.headers.all).is_some_and(|length| length > limit)
        {
            return self.refuse(&Refusal::TooLarge { limit }, replies);
        }
        let streamed = matches!(self.protocol.request_body_mode, BodyMode::Streamed);
        let blind = matches!(self.protocol.request_body_mode, BodyMode::None)
            || (streamed && !self.protocol.send_body_without_waiting_for_header_response);
        if end_of_stream || blind || tunnel {
            // Nothing more will be shown before the upstream is chosen, or what follows is no body: decide from the headers.
            let renaming = if streamed && !end_of_stream && !tunnel {
                collecting.split_renaming(now)
            } else {
                None
            };
            self.request.state = match renaming {
                Some(renaming) => State::Renaming(Box::new(renaming)),
                None if end_of_stream => State::Done,
                None => State::Passing,
            };
            let ending = Ending::new(Wording::Headers { tunnel });
            return self.decide(collecting, false, ending, now, replies);
        }
        self.request.state = State::Collecting(Box::new(collecting));
        if matches!(
            self.protocol.request_body_mode,
            BodyMode::Buffered | BodyMode::BufferedPartial
        ) {
            // Envoy sends the body only after this; the choice is made in the body's reply.
            let mode_override =
                reply::response_body_override(self.protocol, self.engine.wants_usage());
            self.response.declined = mode_override.is_some();
            replies.push(Reply {
                phase: ReplyPhase::RequestHeaders(CommonReply::default()),
                metadata: None,
                mode_override,
            });
        }
        Progress::Continue
    }

    pub(super) fn on_request_body(
        &mut self,
        body: HttpBody,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        let mode = self.protocol.request_body_mode;
        let limit = self.engine.settings().max_body_bytes;
        let collecting = match &mut self.request.state {
            State::Collecting(collecting) => collecting,
            State::Renaming(_) => return self.rename_streamed(body, replies),
            State::Start | State::Passing => {
                self.request.state = if body.end_of_stream {
                    State::Done
                } else {
                    State::Passing
                };
                if mode == BodyMode::FullDuplexStreamed {
                    reply::stream(
                        vec![body.body],
                        body.end_of_stream,
                        reply::body_reply,
                        replies,
                    );
                } else {
                    replies.push(reply::body_reply(BodyMutation::None));
                }
                return Progress::Continue;
            }
            // After a refusal or the end (envoy#46237) nothing is expected.
            State::Waiting(_) | State::Done => return Progress::Continue,
        };
        if let Err(refusal) = collecting.feed(body.body, limit) {
            return self.refuse(&refusal, replies);
        }
        let buffered = matches!(mode, BodyMode::Buffered | BodyMode::BufferedPartial);
        if !body.end_of_stream && !buffered {
            return Progress::Continue;
        }
        let State::Collecting(collecting) = std::mem::replace(&mut self.request.state, State::Done)
        else {
            return Progress::Continue;
        };
        // A BUFFERED body is whole even when trailers follow it and its message says no end of stream.
        let whole = body.end_of_stream || matches!(mode, BodyMode::Buffered);
        let wording = match mode {
            BodyMode::Buffered => Wording::Body { whole: true },
            BodyMode::BufferedPartial => Wording::Body { whole },
            BodyMode::Streamed => Wording::Withheld,
            BodyMode::FullDuplexStreamed | BodyMode::None => Wording::FullDuplex {
                end_of_stream: true,
            },
        };
        self.decide(*collecting, whole, Ending::new(wording), now, replies)
    }

    pub(super) fn on_request_trailers(&mut self, now: Nanos, replies: &mut Vec<Reply>) -> Progress {
        match std::mem::replace(&mut self.request.state, State::Done) {
            State::Collecting(collecting) => {
                // Trailers end a body whose last message did not say so.
                let wording = match self.protocol.request_body_mode {
                    BodyMode::FullDuplexStreamed => Wording::FullDuplex {
                        end_of_stream: false,
                    },
                    // The header reply is out, and there was no body whose reply could carry the choice.
                    BodyMode::Buffered | BodyMode::BufferedPartial => Wording::Trailers,
                    BodyMode::None | BodyMode::Streamed => Wording::Withheld,
                };
                let ending = Ending::with_trailers(wording);
                return self.decide(*collecting, true, ending, now, replies);
            }
            State::Renaming(_) => {
                // Which message was the last of the body is known only now, when none is left to put the body into.
                let refusal = Refusal::BadRequest(
                    "a model cannot be renamed in a streamed body that ends with trailers"
                        .to_owned(),
                );
                return self.refuse(&refusal, replies);
            }
            State::Start | State::Passing | State::Waiting(_) | State::Done => {}
        }
        replies.push(reply::trailers_reply());
        Progress::Continue
    }

    /// Takes one message of a streamed body out; with the last one the whole body leaves, renamed.
    fn rename_streamed(&mut self, body: HttpBody, replies: &mut Vec<Reply>) -> Progress {
        let State::Renaming(mut renaming) = std::mem::replace(&mut self.request.state, State::Done)
        else {
            return Progress::Continue;
        };
        if let Err(refusal) = renaming
            .body
            .feed(body.body, self.engine.settings().max_body_bytes)
        {
            return self.refuse(&refusal, replies);
        }
        if !body.end_of_stream {
            self.request.state = State::Renaming(renaming);
            replies.push(reply::body_reply(BodyMutation::Clear));
            return Progress::Continue;
        }
        let Renaming { body, target } = *renaming;
        let Complete {
            body: scanned,
            mut chunks,
            ..
        } = match body.complete(true) {
            Ok(complete) => complete,
            Err(refusal) => return self.refuse(&refusal, replies),
        };
        let incoming = scanned.model.unwrap_or_default();
        if incoming != target {
            body::edit_model(&mut chunks, scanned.model_span, &target);
            if let Some(flight) = &mut self.flight {
                flight.renamed = Some((target, incoming));
            }
        }
        replies.push(reply::body_reply(BodyMutation::Replace(chunks.into())));
        Progress::Continue
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal, replies: &mut Vec<Reply>) -> Progress {
        self.request.state = State::Done;
        // Only a body that is renamed is refused after the choice.
        if let Some(flight) = self.flight.take() {
            flight.running.error(refusal.code());
        } else if !self.request.counted {
            let fairness_id = self.request.fairness_id.as_deref().unwrap_or(DEFAULT_FLOW);
            self.engine
                .stats()
                .series("", "", fairness_id, 0)
                .error(refusal.code());
        }
        self.request.counted = true;
        self.engine
            .refused(refusal, self.request.request_id.as_ref());
        replies.push(Reply {
            phase: ReplyPhase::Immediate(refusal.reply()),
            metadata: None,
            mode_override: None,
        });
        Progress::Close
    }

    /// The body is complete, or as much of it as the mode lets us see. Where the policy has a tokenizer for its prompts, the decision waits for them.
    fn decide(
        &mut self,
        collecting: Collecting,
        whole: bool,
        ending: Ending,
        now: Nanos,
        replies: &mut Vec<Reply>,
    ) -> Progress {
        let dialect = collecting.dialect;
        self.response.dialect = dialect;
        let complete = match collecting.complete(whole) {
            Ok(complete) => complete,
            Err(refusal) => return self.refuse(&refusal, replies),
        };
        let active = self.engine.active();
        let ready = match self.prepare(complete, &active) {
            Ok(ready) => ready,
            Err(refusal) => return self.refuse(&refusal, replies),
        };
        match &active.policy.tokenizer {
            Some(tokenizer)
                if whole && ready.is_for(&**tokenizer) && self.engine.wants_tokens(&active) =>
            {
                let hint = self.request.subset_hint.as_deref();
                if let Err(refusal) = ready.admitted(&self.engine, &active, hint, now) {
                    return self.refuse(&refusal, replies);
                }
                let job = ready.job(Arc::clone(tokenizer), dialect, &self.engine);
                let active = Arc::clone(&active);
                let waiting = Waiting::new(ready, active, ending, job);
                self.request.state = State::Waiting(Box::new(waiting));
                Progress::Wait
            }
            _ => self.conclude(ready, &active, None, ending, now, replies),
        }
    }
}

fn declared_length(headers: &[Header]) -> Option<usize> {
    let header = headers
        .iter()
        .find(|header| header.key == "content-length")?;
    std::str::from_utf8(&header.value).ok()?.trim().parse().ok()
}
