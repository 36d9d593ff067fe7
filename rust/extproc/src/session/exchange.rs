//! The session that decides: the codec around [`Exchange`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use warmroute_core::exchange::{Exchange, Phase, Progress, Reply};
use warmroute_core::stats::OpenStream;
use warmroute_core::tokens::{TokenAnswer, TokenJob};
use warmroute_core::{Engine, Nanos};

use super::{Session, SessionFactory};
use crate::clock;
use crate::codec::{DecodeError, decode, encode, encoded_len};

/// Opens an [`ExchangeSession`] on one engine for each stream.
pub struct ExchangeFactory {
    engine: Arc<Engine>,
}

impl ExchangeFactory {
    /// A factory whose sessions share `engine`.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

impl fmt::Debug for ExchangeFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExchangeFactory")
            .finish_non_exhaustive()
    }
}

impl SessionFactory for ExchangeFactory {
    fn open(&self) -> Box<dyn Session> {
        Box::new(ExchangeSession::new(Arc::clone(&self.engine)))
    }
}

/// One HTTP exchange behind the wire codec.
pub struct ExchangeSession {
    exchange: Exchange,
    /// Kept between messages for its capacity.
    replies: Vec<Reply>,
    engine: Arc<Engine>,
    /// Time spent here on messages of the request and of the response.
    requesting: Duration,
    responding: Duration,
    /// Counts the stream, where streams are counted.
    open: Option<OpenStream>,
}

impl ExchangeSession {
    /// An exchange of which nothing is known yet.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            exchange: Exchange::new(Arc::clone(&engine)),
            replies: Vec::new(),
            open: engine
                .stats()
                .streams()
                .map(warmroute_core::stats::StreamStats::open),
            engine,
            requesting: Duration::ZERO,
            responding: Duration::ZERO,
        }
    }
}

impl fmt::Debug for ExchangeSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExchangeSession")
            .finish_non_exhaustive()
    }
}

impl Drop for ExchangeSession {
    fn drop(&mut self) {
        let stats = self.engine.stats();
        if !self.requesting.is_zero() {
            stats.request_processing(self.requesting);
        }
        if !self.responding.is_zero() {
            stats.response_processing(self.responding);
        }
    }
}

impl Session for ExchangeSession {
    fn receive(
        &mut self,
        frame: Bytes,
        now: Nanos,
        out: &mut Vec<Bytes>,
    ) -> Result<Progress, DecodeError> {
        let message = decode(&frame)?;
        let of_request = matches!(
            message.phase,
            Phase::RequestHeaders(_) | Phase::RequestBody(_) | Phase::RequestTrailers
        );
        let progress = self.exchange.receive(message, now, &mut self.replies);
        encode_all(self.replies.drain(..), out);
        let spent = clock::now() - now;
        if of_request {
            self.requesting += spent;
        } else {
            self.responding += spent;
        }
        Ok(progress)
    }

    fn take_work(&mut self) -> Option<TokenJob> {
        self.exchange.take_job()
    }

    fn resume(&mut self, answer: TokenAnswer, now: Nanos, out: &mut Vec<Bytes>) -> Progress {
        let progress = self.exchange.resume(answer, now, &mut self.replies);
        encode_all(self.replies.drain(..), out);
        self.requesting += clock::now() - now;
        progress
    }

    fn end(&mut self, code: u8) {
        if let Some(open) = &mut self.open {
            open.end(code);
        }
    }
}

/// Encodes replies into one allocation, each as its own slice.
pub(super) fn encode_all(
    replies: impl AsRef<[Reply]> + IntoIterator<Item = Reply>,
    out: &mut Vec<Bytes>,
) {
    let length = replies.as_ref().iter().map(encoded_len).sum();
    let mut buffer = BytesMut::with_capacity(length);
    for reply in replies {
        encode(&reply, &mut buffer);
        out.push(buffer.split().freeze());
    }
}
