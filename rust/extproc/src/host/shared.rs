//! What all connections of one server share: the factory, the clock, the counts.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Pool;
use crate::session::SessionFactory;

/// Totals since the start of the server, and what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Streams open now.
    pub open_streams: usize,
    /// Connections open now, handshakes included.
    pub open_connections: usize,
    /// Streams started.
    pub streams: u64,
    /// Connections accepted.
    pub connections: u64,
    /// `accept` calls that failed, for example for want of file descriptors.
    pub accept_errors: u64,
    /// TLS handshakes that failed or took too long.
    pub handshake_errors: u64,
    /// Streams ended because a message was not a `ProcessingRequest`.
    pub invalid_messages: u64,
    /// Streams ended because their session panicked, and jobs that panicked while a stream waited for them.
    pub panics: u64,
}

/// State shared by the accept loop, the connections and the streams of one server.
pub(super) struct Shared {
    pub(super) factory: Arc<dyn SessionFactory>,
    /// Runs what streams wait for.
    pub(super) pool: Pool,
    /// Bytes.
    pub(super) maximum_message_length: usize,
    open_streams: AtomicUsize,
    open_connections: AtomicUsize,
    streams: AtomicU64,
    connections: AtomicU64,
    accept_errors: AtomicU64,
    handshake_errors: AtomicU64,
    invalid_messages: AtomicU64,
    panics: AtomicU64,
    /// Somebody waits on `changed`. Only then do closing streams touch the lock.
    watched: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(factory: Arc<dyn SessionFactory>, maximum_message_length: usize) -> Self {
        Self {
            factory,
            pool: Pool::new(),
            maximum_message_length,
            open_streams: AtomicUsize::new(0),
            open_connections: AtomicUsize::new(0),
            streams: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            handshake_errors: AtomicU64::new(0),
            invalid_messages: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    pub(super) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_handshake_error(&self) {
        self.handshake_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_invalid_message(&self) {
        self.invalid_messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::SeqCst)
    }

    pub(super) fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::SeqCst)
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            open_streams: self.open_streams(),
            open_connections: self.open_connections(),
            streams: self.streams.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            accept_errors: self.accept_errors.load(Ordering::Relaxed),
            handshake_errors: self.handshake_errors.load(Ordering::Relaxed),
            invalid_messages: self.invalid_messages.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
        }
    }

    /// Blocks the calling thread until `reached` holds, at most for `patience`; whether it holds.
    pub(super) fn wait_until(&self, patience: Duration, reached: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now().checked_add(patience);
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever closes after this store sees it and takes the lock; whoever closed before is seen by `reached`.
        self.watched.store(true, Ordering::SeqCst);
        loop {
            if reached(self) {
                return true;
            }
            // A patience beyond the clock's range is waited for in pieces.
            let left = deadline.map_or(Duration::from_secs(3600), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return false;
            }
            held = self
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn closed(&self, count: &AtomicUsize) {
        count.fetch_sub(1, Ordering::SeqCst);
        if self.watched.load(Ordering::SeqCst) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }
}

/// Counts a stream as open while it lives.
pub(super) struct StreamGuard(Arc<Shared>);

impl StreamGuard {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.open_streams.fetch_add(1, Ordering::SeqCst);
        shared.streams.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.closed(&self.0.open_streams);
    }
}

/// Counts a connection as open while it lives.
pub(super) struct ConnectionGuard(Arc<Shared>);

impl ConnectionGuard {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.open_connections.fetch_add(1, Ordering::SeqCst);
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.closed(&self.0.open_connections);
    }
}
