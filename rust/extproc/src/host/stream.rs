//! One `Process` stream: the response body that reads the request body.
//!
//! hyper polls the response body of a stream. Polling it reads what the client sent, hands each message to the session and yields the
//! replies, all inline: no task, channel or lock beyond what hyper itself needs. The request is read only while there is room for
//! replies, so a client that does not read its answers is not read either. Nor is it read while the session waits for something.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use warmroute_core::Nanos;
use warmroute_core::tokens::TokenAnswer;

use super::framing::{Deframer, Outbox};
use super::pool::Pending;
use super::shared::{Shared, StreamGuard};
use super::status::Status;
use crate::clock::now;
use crate::codec::DecodeError;
use crate::session::{Progress, Session};

/// Replies wait for each other up to this many bytes, to leave together.
const FLUSH_THRESHOLD: usize = 64 << 10;

/// The body of every answer of the host.
pub(super) enum ReplyBody {
    /// The answer is all in its headers.
    Empty,
    /// A `Process` stream.
    Process(Box<ProcessStream>),
}

/// The state of a `Process` stream.
pub(super) struct ProcessStream {
    // Declared first, so that the session is released before the stream is counted out.
    session: Option<Box<dyn Session>>,
    request: Option<Incoming>,
    deframer: Deframer,
    outbox: Outbox,
    /// Kept between messages for its capacity.
    replies: Vec<Bytes>,
    /// What the session waits for.
    awaited: Option<Pending>,
    /// Set once: how the stream ends after what is in the outbox.
    end: Option<Status>,
    guard: StreamGuard,
}

impl ProcessStream {
    /// A stream that is counted as open until it is dropped.
    pub(super) fn new(request: Incoming, shared: Arc<Shared>) -> Self {
        let deframer = Deframer::new(shared.maximum_message_length);
        let guard = StreamGuard::new(shared);
        let shared = guard.shared();
        let session = catch_unwind(AssertUnwindSafe(|| shared.factory.open()));
        let mut stream = Self {
            session: None,
            request: Some(request),
            deframer,
            outbox: Outbox::default(),
            replies: Vec::new(),
            awaited: None,
            end: None,
            guard,
        };
        match session {
            Ok(session) => stream.session = Some(session),
            Err(_) => stream.finish_after_panic(),
        }
        stream
    }

    fn finish(&mut self, status: Status) {
        self.request = None;
        let code = status.code();
        self.end = Some(status);
        // A session that panics while it is released must not take the reply with it.
        if let Some(mut session) = self.session.take()
            && catch_unwind(AssertUnwindSafe(|| {
                session.end(code);
                drop(session);
            }))
            .is_err()
        {
            self.finish_after_panic();
        }
    }

    fn finish_after_panic(&mut self) {
        self.guard.shared().count_panic();
        self.finish(Status::internal(
            "the endpoint picker failed on this stream",
        ));
    }

    /// Lets the session do something, sends what comes of it, and goes on as it says.
    fn advance(
        &mut self,
        act: impl FnOnce(&mut dyn Session, Nanos, &mut Vec<Bytes>) -> Result<Progress, DecodeError>,
    ) {
        let Some(session) = self.session.as_deref_mut() else {
            return;
        };
        let begun = now();
        let replies = &mut self.replies;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            act(session, begun, replies).map(|progress| match progress {
                Progress::Wait => (progress, session.take_work()),
                Progress::Continue | Progress::Close => (progress, None),
            })
        }));
        if let Err(status) = self.outbox.push_all(&mut self.replies) {
            return self.finish(status);
        }
        match outcome {
            Ok(Ok((Progress::Continue, _))) => {}
            Ok(Ok((Progress::Close, _))) => self.finish(Status::OK),
            Ok(Ok((Progress::Wait, Some(job)))) => match self.guard.shared().pool.submit(job) {
                Ok(answer) => self.awaited = Some(answer),
                Err(refused) => self.resume(refused),
            },
            Ok(Ok((Progress::Wait, None))) => self.finish(Status::internal(
                "the endpoint picker waits for nothing on this stream",
            )),
            Ok(Err(error)) => {
                self.guard.shared().count_invalid_message();
                self.finish(Status::invalid_argument(error.to_string()));
            }
            Err(_) => self.finish_after_panic(),
        }
    }

    fn resume(&mut self, answer: TokenAnswer) {
        if answer.panicked() {
            self.guard.shared().count_panic();
        }
        self.advance(|session, now, replies| Ok(session.resume(answer, now, replies)));
    }

    /// Reads from the client until there is something to send; `Pending` when the client is silent, or the session waits, and all is sent.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if self.end.is_some() || self.outbox.len() >= FLUSH_THRESHOLD {
                if let Some(data) = self.outbox.pop() {
                    return Poll::Ready(Some(Frame::data(data)));
                }
                return Poll::Ready(
                    self.end
                        .as_ref()
                        .map(|status| Frame::trailers(status.trailers())),
                );
            }
            if self.poll_input(context).is_pending() {
                return self
                    .outbox
                    .pop()
                    .map_or(Poll::Pending, |data| Poll::Ready(Some(Frame::data(data))));
            }
        }
    }

    /// Takes what comes next: the answer that the session waits for (until then nothing is read), a message, or more of the request.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(awaited) = &mut self.awaited {
            let answer = ready!(Pin::new(awaited).poll(context));
            self.awaited = None;
            self.resume(answer);
            return Poll::Ready(());
        }
        match self.deframer.next() {
            Ok(Some(message)) => {
                self.advance(|session, now, replies| session.receive(message, now, replies));
            }
            Err(status) => self.finish(status),
            Ok(None) => return self.poll_request(context),
        }
        Poll::Ready(())
    }

    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(request) = &mut self.request else {
            return Poll::Ready(());
        };
        match Pin::new(request).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers of a request carry nothing in gRPC.
                if let Ok(data) = frame.into_data() {
                    self.deframer.push(data);
                }
            }
            Poll::Ready(None) if self.deframer.is_inside_message() => {
                self.finish(Status::internal("request ends inside a message"));
            }
            Poll::Ready(None) => self.finish(Status::OK),
            // The client reset the stream or its connection broke; nobody reads the status.
            Poll::Ready(Some(Err(_))) => self.finish(Status::CANCELLED),
        }
        Poll::Ready(())
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Process(stream) => stream.poll_frame(context).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}
