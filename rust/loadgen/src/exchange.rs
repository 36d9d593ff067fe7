//! One `ext_proc` stream from the first message to the gRPC status, with every reply checked against the mode.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};

use crate::error::Failure;
use crate::payload::Template;
use crate::reply::{self, BodyReply, ModeOverride, Reply};
use crate::report::Success;
use crate::wire::{BodyMode, Direction, GRPC_PREFIX};

/// What every stream of a run does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Body mode of the filter.
    pub mode: BodyMode,
    /// The body is sent only after the reply to the headers.
    pub wait_for_header_reply: bool,
    /// Frames of the response headers, when that phase is run.
    pub response_headers: Option<Bytes>,
    /// Frames of the response body, when that phase is run.
    pub response_body: Option<Bytes>,
    /// Length of the response body.
    pub response_body_bytes: usize,
    /// Messages of the response body.
    pub response_body_messages: usize,
    /// Longest DATA frame.
    pub frame_bytes: usize,
    /// A decision without a destination is an error.
    pub require_destination: bool,
}

/// Runs one exchange. `frames` is an instance of `template`.
///
/// # Errors
/// Whatever a gateway would stumble over, see [`Failure`].
pub async fn run(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    script: &Script,
    template: &Template,
    frames: Vec<u8>,
) -> Result<Success, Failure> {
    let mut sender = sender.ready().await.map_err(|_| Failure::Connection)?;
    let (response, send) = sender
        .send_request(request, false)
        .map_err(|error| failure(&error))?;
    let mut stream = Stream {
        send,
        frame_bytes: script.frame_bytes,
        receive: Receive::Waiting(response),
        pending: BytesMut::new(),
        chunk: Bytes::new(),
    };
    let mut frames = Bytes::from(frames);

    let mut decision = Decision::default();
    if script.wait_for_header_reply {
        stream.send(frames.split_to(template.headers_end))?;
        decision.take(
            stream.reply().await?.ok_or(Failure::NoHeaderReply)?,
            script.mode,
        )?;
    }
    let body_skipped = decision
        .mode_override
        .is_some_and(|mode| script.mode == BodyMode::Buffered && mode.request_body == 0);
    if !body_skipped {
        stream.send(frames)?;
        while !decision.complete(script.mode, template.body_messages) {
            let Some(reply) = stream.reply().await? else {
                return Err(decision.cut_short(script.mode));
            };
            decision.take(reply, script.mode)?;
        }
        if script.mode == BodyMode::FullDuplexStreamed && decision.bytes != template.body_bytes {
            return Err(Failure::WrongByteCount);
        }
    }
    if script.require_destination && !decision.destination {
        return Err(Failure::NoDestination);
    }
    let mut success = Success {
        answered: Some(Instant::now()),
        ..Success::default()
    };
    success.closed_early = !respond(&mut stream, script, decision.mode_override).await?;
    stream.finish(script.mode).await?;
    Ok(success)
}

/// What the replies of the request phase have said so far.
#[derive(Debug, Default)]
struct Decision {
    headers: bool,
    destination: bool,
    mode_override: Option<ModeOverride>,
    body_messages: usize,
    bytes: usize,
    ended: bool,
}

impl Decision {
    fn take(&mut self, reply: Reply, mode: BodyMode) -> Result<(), Failure> {
        match reply {
            Reply::Headers {
                direction: Direction::Request,
                destination,
                mode_override,
            } if !self.headers => {
                self.headers = true;
                self.destination |= destination;
                self.mode_override = mode_override;
            }
            Reply::Body {
                direction: Direction::Request,
                destination,
                body,
            } if self.headers => {
                self.destination |= destination;
                self.body_messages += 1;
                match (mode, body) {
                    (BodyMode::FullDuplexStreamed, BodyReply::Streamed { .. }) if self.ended => {
                        return Err(Failure::AfterEndOfStream);
                    }
                    (
                        BodyMode::FullDuplexStreamed,
                        BodyReply::Streamed {
                            length,
                            end_of_stream,
                        },
                    ) => {
                        self.bytes += length;
                        self.ended = end_of_stream;
                    }
                    (BodyMode::FullDuplexStreamed, _) | (_, BodyReply::Streamed { .. }) => {
                        return Err(Failure::UnexpectedReply);
                    }
                    _ => {}
                }
            }
            Reply::Immediate(status) => return Err(Failure::Immediate(status)),
            _ => return Err(Failure::UnexpectedReply),
        }
        Ok(())
    }

    fn complete(&self, mode: BodyMode, body_messages: usize) -> bool {
        self.headers
            && if mode == BodyMode::FullDuplexStreamed {
                self.ended
            } else {
                self.body_messages == body_messages
            }
    }

    fn cut_short(&self, mode: BodyMode) -> Failure {
        match (self.headers, mode) {
            (false, _) => Failure::NoHeaderReply,
            (true, BodyMode::FullDuplexStreamed) if self.body_messages > 0 => {
                Failure::NoEndOfStream
            }
            _ => Failure::NoBodyReply,
        }
    }
}

/// The response phases; false when the picker had ended the stream and so did not want them.
async fn respond(
    stream: &mut Stream,
    script: &Script,
    mode: Option<ModeOverride>,
) -> Result<bool, Failure> {
    let Some(headers) = &script.response_headers else {
        return Ok(true);
    };
    if mode.is_some_and(|mode| mode.skip_response_headers) {
        return Ok(true);
    }
    if stream.send(headers.clone()).is_err() {
        return Ok(false);
    }
    match stream.reply().await? {
        Some(Reply::Headers {
            direction: Direction::Response,
            ..
        }) => {}
        Some(Reply::Immediate(status)) => return Err(Failure::Immediate(status)),
        // A chunk of the request although its end was said.
        Some(Reply::Body {
            direction: Direction::Request,
            ..
        }) => return Err(Failure::AfterEndOfStream),
        Some(_) => return Err(Failure::UnexpectedReply),
        None => return Ok(false),
    }
    let Some(body) = &script.response_body else {
        return Ok(true);
    };
    if mode.is_some_and(|mode| mode.response_body == BodyMode::None as u64) {
        return Ok(true);
    }
    stream.send(body.clone())?;
    let (mut messages, mut bytes, mut ended) = (0, 0, false);
    while if script.mode == BodyMode::FullDuplexStreamed {
        !ended
    } else {
        messages < script.response_body_messages
    } {
        match stream.reply().await?.ok_or(if messages > 0 {
            Failure::NoEndOfStream
        } else {
            Failure::NoBodyReply
        })? {
            Reply::Body {
                direction: Direction::Response,
                body,
                ..
            } => {
                messages += 1;
                if let BodyReply::Streamed {
                    length,
                    end_of_stream,
                } = body
                {
                    bytes += length;
                    ended = end_of_stream;
                }
            }
            Reply::Immediate(status) => return Err(Failure::Immediate(status)),
            _ => return Err(Failure::UnexpectedReply),
        }
    }
    if script.mode == BodyMode::FullDuplexStreamed && bytes != script.response_body_bytes {
        return Err(Failure::WrongByteCount);
    }
    Ok(true)
}

enum Receive {
    Waiting(ResponseFuture),
    Open(RecvStream),
    Ended,
}

/// A gRPC stream of raw messages.
struct Stream {
    send: SendStream<Bytes>,
    frame_bytes: usize,
    receive: Receive,
    /// The start of a message that lies over several DATA frames.
    pending: BytesMut,
    chunk: Bytes,
}

impl Stream {
    /// Sends gRPC messages, each in DATA frames of its own as Envoy does, none longer than `frame_bytes`.
    fn send(&mut self, mut messages: Bytes) -> Result<(), Failure> {
        while !messages.is_empty() {
            // What the generator wrote itself is complete.
            let length = message_length(&messages)?.unwrap_or(messages.len());
            let mut message = messages.split_to(length);
            while !message.is_empty() {
                let frame = message.split_to(message.len().min(self.frame_bytes));
                self.send
                    .send_data(frame, false)
                    .map_err(|error| failure(&error))?;
            }
        }
        Ok(())
    }

    /// The next message; `None` when the server has ended the stream with status OK.
    async fn reply(&mut self) -> Result<Option<Reply>, Failure> {
        loop {
            if let Some(reply) = self.buffered_reply()? {
                return Ok(Some(reply));
            }
            match &mut self.receive {
                Receive::Waiting(response) => {
                    let response = response.await.map_err(|error| failure(&error))?;
                    if response.status() != http::StatusCode::OK {
                        return Err(Failure::HttpStatus(response.status().as_u16()));
                    }
                    if response.headers().contains_key("grpc-status") {
                        // Trailers only.
                        let status = grpc_status(response.headers());
                        self.receive = Receive::Ended;
                        status?;
                    } else {
                        self.receive = Receive::Open(response.into_body());
                    }
                }
                Receive::Open(body) => {
                    if let Some(data) = body.data().await {
                        let data = data.map_err(|error| failure(&error))?;
                        // Releasing fails only when the stream is over, which the next read says.
                        let _ = body.flow_control().release_capacity(data.len());
                        self.chunk = data;
                    } else {
                        let trailers = body.trailers().await.map_err(|error| failure(&error))?;
                        self.receive = Receive::Ended;
                        grpc_status(&trailers.ok_or(Failure::NoGrpcStatus)?)?;
                        if !self.pending.is_empty() {
                            return Err(Failure::Undecodable);
                        }
                    }
                }
                Receive::Ended => return Ok(None),
            }
        }
    }

    /// A message that is there already. Whole ones are read where they lie; only split ones are copied together.
    fn buffered_reply(&mut self) -> Result<Option<Reply>, Failure> {
        if self.pending.is_empty()
            && let Some(length) = message_length(&self.chunk)?
        {
            let reply = reply::read_reply(&self.chunk[GRPC_PREFIX..length])
                .map_err(|_| Failure::Undecodable)?;
            self.chunk.advance(length);
            return Ok(Some(reply));
        }
        self.pending.extend_from_slice(&self.chunk);
        self.chunk = Bytes::new();
        let Some(length) = message_length(&self.pending)? else {
            return Ok(None);
        };
        let reply = reply::read_reply(&self.pending[GRPC_PREFIX..length])
            .map_err(|_| Failure::Undecodable)?;
        self.pending.advance(length);
        // What follows is read in place again.
        self.chunk = self.pending.split().freeze();
        Ok(Some(reply))
    }

    /// Ends the stream and waits for the server's status; nothing more may come before it.
    async fn finish(mut self, mode: BodyMode) -> Result<(), Failure> {
        // It fails when the server has ended the stream already.
        let _ = self.send.send_data(Bytes::new(), true);
        match self.reply().await? {
            None => Ok(()),
            Some(Reply::Body { .. }) if mode == BodyMode::FullDuplexStreamed => {
                Err(Failure::AfterEndOfStream)
            }
            Some(_) => Err(Failure::UnexpectedReply),
        }
    }
}

/// Length of the first message with its prefix, if it is complete.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<GRPC_PREFIX>() else {
        return Ok(None);
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(Failure::Undecodable);
    }
    let length = u32::from_be_bytes(length) as usize;
    Ok((rest.len() >= length).then_some(GRPC_PREFIX + length))
}

fn grpc_status(headers: &HeaderMap) -> Result<(), Failure> {
    let value = headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    match value {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::GrpcStatus(code)),
        None => Err(Failure::NoGrpcStatus),
    }
}

fn failure(error: &h2::Error) -> Failure {
    if error.is_reset() {
        Failure::Reset
    } else {
        Failure::Connection
    }
}
