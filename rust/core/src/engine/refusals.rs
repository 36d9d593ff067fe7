//! The record of refused requests, for the log: kept here in a bounded ring, taken by whoever writes the lines.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::Nanos;
use crate::exchange::Refusal;

/// Refusals kept until they are taken; further ones are only counted.
const KEPT: usize = 256;
/// Longest id and message kept, in bytes: both come from clients.
const TEXT_BYTES: usize = 256;

/// A request that the picker answered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRequest {
    /// When, on the host's clock.
    pub at: Nanos,
    /// `x-request-id`; empty when the request had none.
    pub request_id: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Name of the error.
    pub code: &'static str,
    /// Value of the header that says why a request was dropped.
    pub dropped_reason: Option<&'static str>,
    /// What is wrong.
    pub message: String,
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<RefusedRequest>,
    /// Refusals since the last look that found no room.
    dropped: u64,
}

impl Refusals {
    pub(super) fn push(&self, refusal: &Refusal, request_id: Option<&Bytes>, at: Nanos) {
        let mut ring = self.ring.lock();
        if ring.kept.len() >= KEPT {
            ring.dropped += 1;
            return;
        }
        ring.kept.push_back(RefusedRequest {
            at,
            request_id: request_id.map_or_else(String::new, |id| {
                shortened(&String::from_utf8_lossy(&id[..id.len().min(TEXT_BYTES)]))
            }),
            status: refusal.status(),
            code: refusal.code(),
            dropped_reason: refusal.dropped_reason(),
            message: shortened(&refusal.message()),
        });
    }

    /// Oldest first, and how many more there were.
    pub(super) fn take(&self) -> (Vec<RefusedRequest>, u64) {
        let mut ring = self.ring.lock();
        let dropped = std::mem::take(&mut ring.dropped);
        (ring.kept.drain(..).collect(), dropped)
    }
}

fn shortened(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_BYTES))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_taking_makes_room() {
        let refusals = Refusals::default();
        for _ in 0..KEPT + 3 {
            refusals.push(
                &Refusal::NoCandidates,
                Some(&Bytes::from_static(b"id")),
                Nanos(1),
            );
        }
        let (taken, dropped) = refusals.take();
        assert_eq!((taken.len(), dropped), (KEPT, 3));
        assert_eq!(
            (taken[0].status, taken[0].code, taken[0].dropped_reason),
            (503, "ServiceUnavailable", Some("rejected-no-endpoints"))
        );
        assert_eq!(refusals.take(), (vec![], 0));
    }

    #[test]
    fn texts_of_clients_are_cut_at_a_character() {
        let refusals = Refusals::default();
        let id = Bytes::from(vec![0xff; 100_000]);
        refusals.push(&Refusal::BadRequest("é".repeat(1000)), Some(&id), Nanos(1));
        let (taken, _) = refusals.take();
        assert!(taken[0].request_id.len() <= TEXT_BYTES);
        assert_eq!(taken[0].message.len(), TEXT_BYTES);
    }
}
