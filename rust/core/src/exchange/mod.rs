//! One HTTP exchange as a state machine over `ext_proc` messages: messages in, replies out, time passed in.
//!
//! The way of a request: `request` collects headers and body, `choose` asks the engine for a decision (and waits where the prompt has to become
//! tokens first: the host does that work, on a thread of its own), `reply` words it for the mode that Envoy runs in, `response` follows the answer so that the load reserved on the endpoint is released exactly once.
//!
//! Which replies Envoy expects in which mode is told in `ext_proc`'s documentation of `ProcessingMode`; what a choice made in each
//! of them is worth was measured (a header reply in STREAMED is the last chance to choose, BUFFERED chooses in the body reply).

mod choose;
mod collect;
mod headers;
mod message;
mod refusal;
mod reply;
mod request;
mod response;
mod sight;

use std::sync::Arc;

pub use headers::{RequestHeaders, names};
pub use message::{
    BodyMode, BodyMutation, CommonReply, Header, HeaderMutation, HttpBody, HttpHeaders,
    ImmediateReply, LbMetadata, Message, NamedNumbers, Phase, ProtocolConfig, Reply, ReplyPhase,
};
pub use refusal::Refusal;
pub use reply::{CHUNK_BYTES, cut};

use crate::control::HeaderPairs;
use crate::engine::{Active, RecordingEntry, Settings};
use crate::pool::Reservation;
use crate::stats::RunningRequest;
use crate::tokens::{TokenAnswer, TokenizeError};
use crate::{Engine, Nanos};

use request::{RequestSide, State};
use response::{End, Gateway, ResponseSide};

/// What the host does after it has sent the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Wait for the next message.
    Continue,
    /// Read nothing more: take the job ([`Exchange::take_job`]), have it run, and give its answer to [`Exchange::resume`].
    Wait,
    /// End the stream with status OK.
    Close,
}

/// One HTTP exchange. Dropping it releases whatever it reserved, exactly once, wherever the stream ended.
#[derive(Debug)]
pub struct Exchange {
    engine: Arc<Engine>,
    protocol: ProtocolConfig,
    request: RequestSide,
    response: ResponseSide,
    flight: Option<Flight>,
}

/// What lives from the decision to the end of the response.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) reservation: Reservation,
    /// Chained hashes of the prompt, kept to credit another endpoint when a retry was served there.
    pub(crate) chains: Vec<Vec<u64>>,
    /// Counts as running as long as it lives; leads to the request's series.
    pub(crate) running: RunningRequest,
    pub(crate) received: Nanos,
    /// The client asked for a stream.
    pub(crate) streaming: bool,
    /// Its prompt is known. Of what else is asked for, such as a list of models, there is no first token that could teach anything.
    pub(crate) has_prompt: bool,
    /// Model as the client wrote it and as the engine knows it, when they differ.
    pub(crate) renamed: Option<(Box<str>, Box<str>)>,
    /// JSON to answer with when the client asked why.
    pub(crate) explanation: Option<Box<str>>,
    /// Headers that plugins set on the answer.
    pub(crate) response_headers: HeaderPairs,
    /// The destination is not the chosen endpoint's own address: what served tells nothing.
    pub(crate) redirected: bool,
    /// Name of the profile that chose.
    pub(crate) profile: Arc<str>,
    /// What is to be written of the decision, where it is recorded.
    pub(crate) recorded: Option<Box<RecordingEntry>>,
    /// The policy that decided, where its plugins follow the response.
    pub(crate) active: Option<Arc<Active>>,
}

impl Flight {
    /// As [`Engine::wants_usage`], by the policy that decided: another one may be in force by now.
    pub(crate) fn wants_usage(&self, settings: &Settings) -> bool {
        settings.response_usage || self.active.as_ref().is_some_and(|active| active.reports())
    }
}

impl Exchange {
    /// An exchange of which nothing is known yet.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            // An Envoy that does not say (before 1.33) and the reference's own tests mean full duplex both ways.
            protocol: ProtocolConfig {
                request_body_mode: BodyMode::FullDuplexStreamed,
                response_body_mode: BodyMode::FullDuplexStreamed,
                send_body_without_waiting_for_header_response: false,
            },
            request: RequestSide::default(),
            response: ResponseSide::default(),
            flight: None,
        }
    }

    /// Takes one message and appends the replies to send, in order. A message that comes in spite of [`Progress::Wait`] ends the wait:
    /// the request is decided without tokens.
    pub fn receive(&mut self, message: Message, now: Nanos, replies: &mut Vec<Reply>) -> Progress {
        if matches!(self.request.state, State::Waiting(_)) {
            let not_awaited = TokenizeError::Unavailable("the host did not wait".into());
            if let Progress::Close = self.resume(TokenAnswer::failed(not_awaited), now, replies) {
                return Progress::Close;
            }
        }
        if let Some(protocol) = message.protocol_config {
            self.protocol = protocol;
        }
        if let Some(hint) = message.subset_hint {
            self.request.subset_hint = Some(hint);
        }
        match message.phase {
            Phase::RequestHeaders(headers) => self.on_request_headers(headers, now, replies),
            Phase::RequestBody(body) => self.on_request_body(body, now, replies),
            Phase::RequestTrailers => self.on_request_trailers(now, replies),
            Phase::ResponseHeaders(headers) => {
                let gateway = Gateway {
                    lb_metadata: message.lb_metadata,
                    served: message.served_endpoint.as_deref(),
                    upstream: message.upstream_address.as_deref(),
                };
                self.on_response_headers(&headers, gateway, now, replies)
            }
            Phase::ResponseBody(body) => self.on_response_body(body, now, replies),
            Phase::ResponseTrailers => self.on_response_trailers(now, replies),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.flight.is_some() {
            let now = self.engine.now();
            self.finish_flight(now, End::Cut);
        }
    }
}
