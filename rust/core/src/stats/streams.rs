//! The `Process` streams themselves, whichever host carries them (opt-in).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::buckets;
use super::number::Histogram;
use crate::Nanos;

/// Names of gRPC's status codes by number, as Go writes them: what the reference's label `code` holds.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const CANCELED: u8 = 1;
const UNKNOWN: u8 = 2;

/// Counters of streams.
#[derive(Debug)]
pub struct StreamStats {
    clock: fn() -> Nanos,
    pub(super) inflight: AtomicU64,
    pub(super) duration: Histogram,
    ended: [AtomicU64; CODES.len()],
}

impl StreamStats {
    pub(super) fn new(clock: fn() -> Nanos) -> Self {
        Self {
            clock,
            inflight: AtomicU64::new(0),
            duration: Histogram::new(buckets::STREAM),
            ended: [const { AtomicU64::new(0) }; CODES.len()],
        }
    }

    /// A stream begins; it counts as open until the result is dropped.
    #[must_use = "the stream counts as open only as long as this lives"]
    pub fn open(self: &Arc<Self>) -> OpenStream {
        self.inflight.fetch_add(1, Ordering::Relaxed);
        OpenStream {
            started: (self.clock)(),
            stats: Arc::clone(self),
            code: CANCELED,
        }
    }

    /// (code, count) of the codes that have occurred.
    pub(super) fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES
            .iter()
            .zip(&self.ended)
            .map(|(code, count)| (*code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

/// An open stream. Dropped without a status it counts as cancelled: the peer went away.
#[derive(Debug)]
pub struct OpenStream {
    stats: Arc<StreamStats>,
    started: Nanos,
    code: u8,
}

impl OpenStream {
    /// The stream ends with this gRPC status code (0 is OK); numbers that gRPC does not know count as Unknown.
    pub fn end(&mut self, code: u8) {
        self.code = if usize::from(code) < CODES.len() {
            code
        } else {
            UNKNOWN
        };
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.stats.inflight.fetch_sub(1, Ordering::Relaxed);
        self.stats
            .duration
            .observe(((self.stats.clock)() - self.started).as_secs_f64());
        self.stats.ended[usize::from(self.code)].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_counts_as_open_until_it_is_dropped_and_by_its_code_afterwards() {
        let stats = Arc::new(StreamStats::new(|| Nanos(1)));
        let (mut first, second, mut third) = (stats.open(), stats.open(), stats.open());
        assert_eq!(stats.inflight.load(Ordering::Relaxed), 3);
        first.end(0);
        third.end(200);
        drop((first, second, third));
        assert_eq!(stats.inflight.load(Ordering::Relaxed), 0);
        assert_eq!(
            stats.ended().collect::<Vec<_>>(),
            [("OK", 1), ("Canceled", 1), ("Unknown", 1)]
        );
    }
}
