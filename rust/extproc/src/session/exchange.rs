//! The session that decides: the codec around [`Exchange`].

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use warmroute_core::exchange::{Exchange, Progress, Reply};
use warmroute_core::{Engine, Nanos};

use super::{Session, SessionFactory};
use crate::clock::now;
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
    fn open(&self, now: Nanos) -> Box<dyn Session> {
        Box::new(ExchangeSession::new(Arc::clone(&self.engine), now))
    }
}

/// One HTTP exchange behind the wire codec.
pub struct ExchangeSession {
    exchange: Exchange,
    /// Kept between messages for its capacity.
    replies: Vec<Reply>,
}

impl ExchangeSession {
    /// An exchange that starts at `now`.
    pub fn new(engine: Arc<Engine>, now: Nanos) -> Self {
        Self {
            exchange: Exchange::new(engine, now),
            replies: Vec::new(),
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
        // The exchange would release what it holds without this, but not know how long it took.
        self.exchange.close(now());
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
        let progress = self.exchange.receive(message, now, &mut self.replies);
        encode_all(self.replies.drain(..), out);
        Ok(progress)
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
