//! gRPC's framing: one byte of flags, four of length (big endian), then the message. In pieces that may part it anywhere.
//!
//! Source: the gRPC over HTTP/2 protocol document, "Length-Prefixed-Message".

/// Bytes before each message.
pub(super) const HEADER_BYTES: usize = 5;

/// What a stream of frames holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A message of `length` bytes begins.
    Begin { flag: u8, length: u32 },
    /// More bytes of it; never empty.
    Payload(&'a [u8]),
    /// It ended.
    End,
}

/// Why a body cannot be read as a gRPC message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// It ended before the frame's header did.
    Short {
        /// Bytes that came.
        available: usize,
    },
    /// The flag says that the message is compressed, or is none of gRPC's flags.
    Flag(u8),
    /// It ended before the message did.
    Incomplete {
        /// Bytes that the header tells.
        declared: u32,
        /// Bytes that came after it.
        available: u32,
    },
}

impl std::fmt::Display for FrameFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short { available } => write!(
                formatter,
                "invalid gRPC frame: expected at least {HEADER_BYTES} bytes for header, got {available}"
            ),
            Self::Flag(1) => formatter.write_str(
                "compressed gRPC payload is not supported; send it without compression (grpc-encoding: identity)",
            ),
            Self::Flag(flag) => write!(
                formatter,
                "invalid gRPC frame: its flag is {flag}, where 0 (not compressed) is expected"
            ),
            Self::Incomplete {
                declared,
                available,
            } => write!(
                formatter,
                "incomplete gRPC payload: header indicates {declared} bytes, but only {available} bytes are available"
            ),
        }
    }
}

/// Finds the frames; keeps no bytes of a message.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    filled: usize,
    remaining: u32,
}

impl Frames {
    /// Reads the next piece.
    pub(super) fn feed<'a>(&mut self, mut piece: &'a [u8], mut take: impl FnMut(Frame<'a>)) {
        while !piece.is_empty() {
            if self.filled < HEADER_BYTES {
                let (head, rest) = piece.split_at(piece.len().min(HEADER_BYTES - self.filled));
                self.header[self.filled..self.filled + head.len()].copy_from_slice(head);
                self.filled += head.len();
                piece = rest;
                if self.filled < HEADER_BYTES {
                    return;
                }
                let [flag, length @ ..] = self.header;
                self.remaining = u32::from_be_bytes(length);
                take(Frame::Begin {
                    flag,
                    length: self.remaining,
                });
            } else {
                let length = piece.len().min(self.remaining as usize);
                let (payload, rest) = piece.split_at(length);
                self.remaining -= length as u32;
                piece = rest;
                take(Frame::Payload(payload));
            }
            if self.remaining == 0 {
                self.filled = 0;
                take(Frame::End);
            }
        }
    }

    /// What is wrong with a body that ends here with an unfinished frame, or with none.
    pub(super) fn fault(&self) -> FrameFault {
        if self.filled < HEADER_BYTES {
            return FrameFault::Short {
                available: self.filled,
            };
        }
        let [_, length @ ..] = self.header;
        let declared = u32::from_be_bytes(length);
        FrameFault::Incomplete {
            declared,
            available: declared - self.remaining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flag, length and bytes of each message that began.
    fn messages(pieces: &[&[u8]]) -> Vec<(u8, u32, Vec<u8>, bool)> {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for piece in pieces {
            frames.feed(piece, |frame| match (frame, found.last_mut()) {
                (Frame::Begin { flag, length }, _) => found.push((flag, length, Vec::new(), false)),
                (Frame::Payload(bytes), Some((_, _, payload, _))) => {
                    payload.extend_from_slice(bytes);
                }
                (Frame::End, Some((_, _, _, ended))) => *ended = true,
                (other, None) => panic!("{other:?} before a message began"),
            });
        }
        found
    }

    #[test]
    fn frames_are_the_same_wherever_the_body_is_parted() {
        let body = b"\x00\x00\x00\x00\x03abc\x01\x00\x00\x00\x00\x00\x00\x00\x00\x05de";
        let whole = messages(&[body]);
        assert_eq!(
            whole,
            [
                (0, 3, b"abc".to_vec(), true),
                (1, 0, Vec::new(), true),
                (0, 5, b"de".to_vec(), false)
            ]
        );
        for first in 0..=body.len() {
            for second in first..=body.len() {
                assert_eq!(
                    messages(&[&body[..first], &body[first..second], &body[second..]]),
                    whole
                );
            }
        }
    }

    #[test]
    fn an_unfinished_frame_tells_what_is_there() {
        for (body, fault) in [
            (&b""[..], FrameFault::Short { available: 0 }),
            (b"\0\0\0\0", FrameFault::Short { available: 4 }),
            (
                b"\0\xff\xff\xff\xffab",
                FrameFault::Incomplete {
                    declared: u32::MAX,
                    available: 2,
                },
            ),
        ] {
            let mut frames = Frames::default();
            frames.feed(body, |_| {});
            assert_eq!(frames.fault(), fault);
        }
    }
}
