//! The session that decides nothing: the floor that the deciding one is measured against.
//!
//! It does the same transport work: every frame is read far enough to know its phase and body, every reply is a valid one for the
//! body mode, and in full duplex the whole body travels back.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use smallvec::smallvec;
use warmroute_core::Nanos;
use warmroute_core::exchange::{
    BodyMode, BodyMutation, CommonReply, HeaderMutation, HttpBody, LbMetadata, Progress, Reply,
    ReplyPhase, cut, names,
};

use super::exchange::encode_all;
use super::{Session, SessionFactory};
use crate::codec::{DecodeError, OutlinePhase, decode_outline};

/// Opens an [`EchoSession`] for each stream.
#[derive(Debug, Default)]
pub struct EchoFactory {
    destinations: Vec<Bytes>,
    next: AtomicUsize,
}

impl EchoFactory {
    /// Sessions that name one of `destinations` (`host:port`), in turn, as a picker must, without deciding anything: a gateway that heeds
    /// destinations then has the same work to do as behind a real picker. With an empty list none is named.
    pub fn naming(destinations: Vec<Bytes>) -> Self {
        Self {
            destinations,
            next: AtomicUsize::new(0),
        }
    }
}

impl SessionFactory for EchoFactory {
    fn open(&self) -> Box<dyn Session> {
        let destination = if self.destinations.is_empty() {
            None
        } else {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            Some(self.destinations[turn % self.destinations.len()].clone())
        };
        Box::new(EchoSession {
            destination,
            ..EchoSession::default()
        })
    }
}

/// Answers each message with an empty reply; in `FULL_DUPLEX_STREAMED` (also assumed when the client says nothing) it holds the header
/// reply until the request body is complete and then sends the body back.
#[derive(Debug)]
pub struct EchoSession {
    request_mode: BodyMode,
    response_mode: BodyMode,
    /// The request body so far, in full duplex.
    held: Vec<Bytes>,
    replies: Vec<Reply>,
    /// Named once, in the reply that chooses.
    destination: Option<Bytes>,
}

impl Default for EchoSession {
    fn default() -> Self {
        Self {
            request_mode: BodyMode::FullDuplexStreamed,
            response_mode: BodyMode::FullDuplexStreamed,
            held: Vec::new(),
            replies: Vec::new(),
            destination: None,
        }
    }
}

impl EchoSession {
    /// The reply in which a picker would choose.
    fn choose(&mut self, phase: fn(CommonReply) -> ReplyPhase) {
        let Some(destination) = self.destination.take() else {
            self.reply(phase(CommonReply::default()));
            return;
        };
        let name = Bytes::from_static(names::DESTINATION.as_bytes());
        self.replies.push(Reply {
            phase: phase(CommonReply {
                headers: HeaderMutation {
                    set: vec![(name, destination.clone())],
                    ..HeaderMutation::default()
                },
                clear_route_cache: true,
                ..CommonReply::default()
            }),
            metadata: Some(LbMetadata {
                strings: smallvec![(names::DESTINATION, destination)],
                ..LbMetadata::default()
            }),
            mode_override: None,
        });
    }

    fn reply(&mut self, phase: ReplyPhase) {
        self.replies.push(Reply {
            phase,
            metadata: None,
            mode_override: None,
        });
    }

    fn answer(&mut self, phase: OutlinePhase) {
        match phase {
            OutlinePhase::RequestHeaders { end_of_stream } => {
                let buffered = matches!(
                    self.request_mode,
                    BodyMode::Buffered | BodyMode::BufferedPartial
                );
                if buffered && !end_of_stream {
                    self.reply(ReplyPhase::RequestHeaders(CommonReply::default()));
                } else if end_of_stream || self.request_mode != BodyMode::FullDuplexStreamed {
                    self.choose(ReplyPhase::RequestHeaders);
                }
            }
            OutlinePhase::ResponseHeaders => {
                self.reply(ReplyPhase::ResponseHeaders(CommonReply::default()));
            }
            OutlinePhase::RequestBody(body)
                if self.request_mode == BodyMode::FullDuplexStreamed =>
            {
                self.hold(body);
            }
            OutlinePhase::RequestBody(_) => self.choose(ReplyPhase::RequestBody),
            OutlinePhase::ResponseBody(body)
                if self.response_mode == BodyMode::FullDuplexStreamed =>
            {
                cut(vec![body.body], body.end_of_stream, |body| {
                    self.reply(ReplyPhase::ResponseBody(streamed(body)));
                });
            }
            OutlinePhase::ResponseBody(_) => {
                self.reply(ReplyPhase::ResponseBody(CommonReply::default()));
            }
            OutlinePhase::RequestTrailers => {
                if !self.held.is_empty() {
                    // A body that trailers end carries no end of stream; answering here keeps the client from waiting for it.
                    self.release(false);
                }
                self.reply(ReplyPhase::RequestTrailers);
            }
            OutlinePhase::ResponseTrailers => self.reply(ReplyPhase::ResponseTrailers),
        }
    }

    fn hold(&mut self, body: HttpBody) {
        self.held.push(body.body);
        if body.end_of_stream {
            self.release(true);
        }
    }

    fn release(&mut self, end_of_stream: bool) {
        self.choose(ReplyPhase::RequestHeaders);
        let held = std::mem::take(&mut self.held);
        cut(held, end_of_stream, |body| {
            self.reply(ReplyPhase::RequestBody(streamed(body)));
        });
    }
}

impl Session for EchoSession {
    fn receive(
        &mut self,
        frame: Bytes,
        _now: Nanos,
        out: &mut Vec<Bytes>,
    ) -> Result<Progress, DecodeError> {
        let outline = decode_outline(&frame)?;
        if let Some(config) = outline.protocol_config {
            self.request_mode = config.request_body_mode;
            self.response_mode = config.response_body_mode;
        }
        self.answer(outline.phase);
        encode_all(self.replies.drain(..), out);
        Ok(Progress::Continue)
    }
}

fn streamed(body: BodyMutation) -> CommonReply {
    CommonReply {
        body,
        ..CommonReply::default()
    }
}
