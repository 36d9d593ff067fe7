//! gRPC's length-prefixed messages: a flag byte, four bytes of length, the message.
//!
//! Source: "gRPC over HTTP2", section "Length-Prefixed-Message". Compression is not offered, so a set flag is an error.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::status::Status;

const HEADER_LENGTH: usize = 5;

/// How much is reserved for a message on the word of its header alone; a larger one grows as its bytes arrive, so that a forged length
/// costs the sender what it costs us.
const TRUSTED_RESERVATION: usize = 1 << 20;

/// A reply up to this size is copied behind its header so that both leave in one DATA frame; a longer one goes as it is, uncopied.
const COPIED_REPLY: usize = 16 << 10;

/// Cuts DATA frames into messages. A message that lies in one DATA frame is a slice of it; only one that spans several is copied.
#[derive(Debug)]
pub(super) struct Deframer {
    /// What is left of the last DATA frame.
    current: Bytes,
    /// The start of a message that spans DATA frames, header included.
    partial: BytesMut,
    /// Longest message accepted, in bytes.
    limit: usize,
}

impl Deframer {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            current: Bytes::new(),
            partial: BytesMut::new(),
            limit,
        }
    }

    /// Takes the next DATA frame; called only after [`Deframer::next`] returned `None`, so nothing piles up.
    pub(super) fn push(&mut self, data: Bytes) {
        self.current = data;
    }

    /// Bytes of an unfinished message are waiting for the rest.
    pub(super) fn is_inside_message(&self) -> bool {
        !self.partial.is_empty() || !self.current.is_empty()
    }

    /// The next whole message, or `None` when more data is needed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty() && self.current.len() >= HEADER_LENGTH {
            let length = self.message_length(&self.current)?;
            if self.current.len() - HEADER_LENGTH >= length {
                self.current.advance(HEADER_LENGTH);
                return Ok(Some(self.current.split_to(length)));
            }
        }
        self.next_spanning()
    }

    fn next_spanning(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let wanted = if self.partial.len() < HEADER_LENGTH {
                HEADER_LENGTH
            } else {
                HEADER_LENGTH + self.message_length(&self.partial)?
            };
            if self.partial.len() == wanted && wanted > HEADER_LENGTH || self.is_empty_message()? {
                let mut message = std::mem::take(&mut self.partial).freeze();
                message.advance(HEADER_LENGTH);
                return Ok(Some(message));
            }
            if self.current.is_empty() {
                return Ok(None);
            }
            let missing = wanted - self.partial.len();
            self.partial
                .reserve(missing.min(TRUSTED_RESERVATION.max(self.current.len())));
            let taken = self.current.split_to(missing.min(self.current.len()));
            self.partial.put_slice(&taken);
        }
    }

    fn is_empty_message(&self) -> Result<bool, Status> {
        Ok(self.partial.len() == HEADER_LENGTH && self.message_length(&self.partial)? == 0)
    }

    fn message_length(&self, mut header: &[u8]) -> Result<usize, Status> {
        if header.get_u8() != 0 {
            return Err(Status::internal(
                "compressed message, but no compression was agreed on",
            ));
        }
        let length = header.get_u32() as usize;
        if length > self.limit {
            return Err(Status::resource_exhausted(format!(
                "message of {length} bytes is larger than the limit of {} bytes",
                self.limit
            )));
        }
        Ok(length)
    }
}

/// Replies on their way out, as DATA frames in which small replies share one.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    /// The frame that is being filled; the last to leave.
    open: BytesMut,
    length: usize,
}

impl Outbox {
    /// Bytes that wait here.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Appends messages, leaving `replies` empty. A message of 4 GiB or more cannot be framed and is refused.
    pub(super) fn push_all(&mut self, replies: &mut Vec<Bytes>) -> Result<(), Status> {
        let copied: usize = replies
            .iter()
            .map(|reply| {
                HEADER_LENGTH
                    + if reply.len() <= COPIED_REPLY {
                        reply.len()
                    } else {
                        0
                    }
            })
            .sum();
        self.open.reserve(copied);
        for reply in replies.drain(..) {
            let length = u32::try_from(reply.len())
                .map_err(|_| Status::internal("reply of more than 4 GiB"))?;
            self.length += HEADER_LENGTH + reply.len();
            self.open.put_u8(0);
            self.open.put_u32(length);
            if reply.len() <= COPIED_REPLY {
                self.open.put_slice(&reply);
            } else {
                self.frames.push_back(self.open.split().freeze());
                self.frames.push_back(reply);
            }
        }
        Ok(())
    }

    /// The next DATA frame.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = match self.frames.pop_front() {
            Some(frame) => frame,
            None if self.open.is_empty() => return None,
            None => std::mem::take(&mut self.open).freeze(),
        };
        self.length -= frame.len();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = vec![0];
        framed.extend((u32::try_from(message.len()).unwrap_or(u32::MAX)).to_be_bytes());
        framed.extend(message);
        framed
    }

    #[test]
    fn a_message_inside_one_data_frame_is_not_copied() {
        let data = Bytes::from(framed(&[1; 100]));
        let span = data.as_ptr_range();
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(data);
        let message = deframer.next().ok().flatten();
        assert!(message.is_some_and(|message| span.contains(&message.as_ptr())));
    }

    #[test]
    fn a_forged_length_reserves_little() {
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
        assert!(deframer.next().is_ok_and(|message| message.is_none()));
        assert!(deframer.partial.capacity() <= 2 * TRUSTED_RESERVATION);
        assert!(deframer.is_inside_message());
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_arrives() {
        let mut deframer = Deframer::new(10);
        deframer.push(Bytes::from_static(&[0, 0, 0, 0, 11]));
        assert!(deframer.next().is_err());
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut deframer = Deframer::new(10);
        deframer.push(Bytes::from_static(&[1, 0, 0, 0, 1, 1]));
        assert!(deframer.next().is_err());
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut_into_data_frames(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            sizes in proptest::collection::vec(1_usize..200, 1..20),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let mut deframer = Deframer::new(usize::MAX);
            let mut rest = &stream[..];
            let mut found = Vec::new();
            for size in sizes.iter().cycle() {
                while let Some(message) = deframer.next().ok().flatten() {
                    found.push(message.to_vec());
                }
                if rest.is_empty() {
                    break;
                }
                let (data, later) = rest.split_at((*size).min(rest.len()));
                deframer.push(Bytes::copy_from_slice(data));
                rest = later;
            }
            prop_assert_eq!(found, messages);
            prop_assert!(!deframer.is_inside_message());
        }

        #[test]
        fn what_leaves_the_outbox_are_the_framed_replies(lengths in proptest::collection::vec(0_usize..40_000, 0..8)) {
            let replies: Vec<Bytes> = lengths.iter().map(|&length| Bytes::from(vec![7; length])).collect();
            let expected: Vec<u8> = replies.iter().flat_map(|reply| framed(reply)).collect();
            let mut outbox = Outbox::default();
            prop_assert!(outbox.push_all(&mut replies.clone()).is_ok());
            prop_assert_eq!(outbox.len(), expected.len());
            let mut left = Vec::new();
            while let Some(frame) = outbox.pop() {
                left.extend(frame);
            }
            prop_assert_eq!(left, expected);
            prop_assert_eq!(outbox.len(), 0);
        }
    }
}
