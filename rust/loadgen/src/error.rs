//! What can go wrong before or after the load, and what can go wrong with one request under load.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// The run could not be started or its result could not be written.
#[derive(Debug)]
pub enum LoadError {
    /// An argument that clap cannot judge alone.
    Argument(String),
    /// A file or a process could not be read, a result not written, a socket not opened: what, and why.
    Io(String, io::Error),
    /// A worker thread ended without its result.
    Worker,
}

impl LoadError {
    /// For `map_err`: names what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io(what, source)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(message) => formatter.write_str(message),
            Self::Io(what, source) => write!(formatter, "{what}: {source}"),
            Self::Worker => formatter.write_str("a load thread ended without its result"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, source) => Some(source),
            _ => None,
        }
    }
}

/// Why one request counts as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, or the connection ended under the request.
    Connection,
    /// No complete answer within the time limit.
    Timeout,
    /// The stream was reset.
    Reset,
    /// HTTP status other than 200 (of the gateway, or of the gRPC server itself).
    HttpStatus(u16),
    /// gRPC status other than 0.
    GrpcStatus(u32),
    /// The gRPC stream ended without a status.
    NoGrpcStatus,
    /// `immediate_response` with this HTTP status.
    Immediate(u16),
    /// The picker ended the stream before it replied to the headers.
    NoHeaderReply,
    /// A header reply without a destination although one is required.
    NoDestination,
    /// The picker ended the stream, or stopped, before it replied to the body.
    NoBodyReply,
    /// Full duplex: the returned chunks do not add up to the body.
    WrongByteCount,
    /// Full duplex: the stream ended without a chunk that says `end_of_stream`.
    NoEndOfStream,
    /// Full duplex: another chunk after the one that said `end_of_stream`.
    AfterEndOfStream,
    /// A reply of a kind that the protocol does not allow at this point.
    UnexpectedReply,
    /// Bytes that are no reply.
    Undecodable,
    /// An event stream without its last event, `data: [DONE]`.
    NoDone,
    /// Open loop: still not sent when the time to drain was over.
    NotSent,
}

impl Failure {
    /// The name under which it is counted.
    pub fn kind(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::HttpStatus(code) => return Cow::Owned(format!("http_{code}")),
            Self::GrpcStatus(code) => return Cow::Owned(format!("grpc_{code}")),
            Self::Immediate(code) => return Cow::Owned(format!("immediate_{code}")),
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::NoGrpcStatus => "no_grpc_status",
            Self::NoHeaderReply => "no_header_reply",
            Self::NoDestination => "no_destination",
            Self::NoBodyReply => "no_body_reply",
            Self::WrongByteCount => "wrong_byte_count",
            Self::NoEndOfStream => "no_end_of_stream",
            Self::AfterEndOfStream => "after_end_of_stream",
            Self::UnexpectedReply => "unexpected_reply",
            Self::Undecodable => "undecodable",
            Self::NoDone => "no_done",
            Self::NotSent => "not_sent",
        })
    }
}
