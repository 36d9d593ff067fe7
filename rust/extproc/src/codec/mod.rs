//! The wire codec between protobuf bytes and the messages of [`warmroute_core::exchange`].
//!
//! Hand-written, because the hot path wants header values and bodies as slices of the frame they came in and replies whose body parts are
//! copied once. The subset that it speaks is in `protos/ext_proc.proto`; field numbers are those of `envoy.service.ext_proc.v3`.

mod decode;
mod encode;
mod metadata;
mod wire;

use std::error::Error;
use std::fmt;

pub use decode::{Outline, OutlinePhase, decode, decode_outline};
pub use encode::{encode, encoded_len};

/// Why a frame is not a `ProcessingRequest` that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The frame, or a message in it, ends inside a field that starts or continues at `offset`.
    Truncated {
        /// Byte offset in the frame.
        offset: usize,
    },
    /// A varint of more than 64 bits.
    VarintTooLong {
        /// Byte offset in the frame.
        offset: usize,
    },
    /// A tag with field number zero, an undefined wire type, or a group that does not end where it should.
    InvalidTag {
        /// Byte offset in the frame.
        offset: usize,
    },
    /// A `string` that the exchange reads as text is not UTF-8.
    NotUtf8 {
        /// Byte offset of the string in the frame.
        offset: usize,
    },
    /// `protocol_config` names a body mode that this picker does not speak (for example GRPC = 5).
    UnsupportedBodyMode {
        /// The number of the enum value.
        mode: u64,
    },
    /// None of `request_headers` … `response_trailers` is set.
    NoPhase,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { offset } => {
                write!(formatter, "message ends inside the field at byte {offset}")
            }
            Self::VarintTooLong { offset } => {
                write!(formatter, "varint at byte {offset} has more than 64 bits")
            }
            Self::InvalidTag { offset } => write!(formatter, "invalid field tag at byte {offset}"),
            Self::NotUtf8 { offset } => write!(formatter, "string at byte {offset} is not UTF-8"),
            Self::UnsupportedBodyMode { mode } => write!(
                formatter,
                "protocol_config asks for body mode {mode}, which is not one of NONE, STREAMED, BUFFERED, BUFFERED_PARTIAL, FULL_DUPLEX_STREAMED"
            ),
            Self::NoPhase => {
                formatter.write_str("ProcessingRequest carries no request or response message")
            }
        }
    }
}

impl Error for DecodeError {}
