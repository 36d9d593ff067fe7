//! gRPC bodies: the one message of a request, the messages of a response, field by field as their bytes come.

use super::frame::{Frame, FrameFault, Frames};
use super::protobuf::{Fields, Protobuf};
use super::scan::{ScanError, ScannedBody};

/// What is looked for in the message of a request.
pub(super) trait RequestFields: Fields {
    /// A fault in the bytes of a field, known before the message ends.
    fn fault(&self) -> Option<ScanError>;
    /// Whether the message, now whole, has what it needs.
    fn check(&self) -> Result<(), ScanError>;
    /// What was found.
    fn into_body(self) -> ScannedBody;
}

/// Reads a request. It has one message: bytes after it are not looked at.
#[derive(Debug)]
pub(super) struct GrpcRequest<F> {
    frames: Frames,
    message: Option<Protobuf>,
    ended: bool,
    fault: Option<ScanError>,
    fields: F,
}

impl<F: RequestFields> GrpcRequest<F> {
    /// Before a body.
    pub(super) fn new(fields: F) -> Self {
        Self {
            frames: Frames::default(),
            message: None,
            ended: false,
            fault: None,
            fields,
        }
    }

    /// Reads the next piece. Once it failed, it fails with the same fault.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        if self.ended {
            return self.fault.map_or(Ok(()), Err);
        }
        let Self {
            frames,
            message,
            ended,
            fault,
            fields,
        } = self;
        frames.feed(piece, |frame| {
            if *ended {
                return;
            }
            *fault = match frame {
                Frame::Begin { flag: 0, length } => {
                    *message = Some(Protobuf::new(length));
                    None
                }
                Frame::Begin { flag, .. } => Some(ScanError::Frame(FrameFault::Flag(flag))),
                Frame::Payload(run) => message.as_mut().and_then(|message| {
                    let read = message.feed(run, fields);
                    fields
                        .fault()
                        .or_else(|| read.err().map(ScanError::Message))
                }),
                Frame::End => {
                    *ended = true;
                    message
                        .take()
                        .and_then(|message| message.finish().err())
                        .map(ScanError::Message)
                }
            };
            *ended |= fault.is_some();
        });
        self.fault.map_or(Ok(()), Err)
    }

    /// The body ended.
    pub(super) fn finish(self) -> Result<ScannedBody, ScanError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !self.ended {
            return Err(ScanError::Frame(self.frames.fault()));
        }
        self.fields.check()?;
        Ok(self.fields.into_body())
    }

    /// What was found, unchecked.
    pub(super) fn into_body(self) -> ScannedBody {
        self.fields.into_body()
    }

    /// What looked for it.
    pub(super) fn into_fields(self) -> F {
        self.fields
    }
}

/// What is looked for in each message of a response.
pub(super) trait ResponseFields: Fields {
    /// The message ended. Not `valid`: it was no message, and what was found in it does not count.
    fn message_ended(&mut self, valid: bool);
}

/// Reads a response: any number of messages, each passed over when it cannot be read.
#[derive(Debug)]
pub(super) struct GrpcResponse<F> {
    frames: Frames,
    message: Option<Protobuf>,
    /// These are no gRPC frames: nothing more is read.
    foreign: bool,
    pub(super) fields: F,
}

impl<F: ResponseFields> GrpcResponse<F> {
    /// Before a body.
    pub(super) fn new(fields: F) -> Self {
        Self {
            frames: Frames::default(),
            message: None,
            foreign: false,
            fields,
        }
    }

    /// Reads the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let Self {
            frames,
            message,
            foreign,
            fields,
        } = self;
        if *foreign {
            return;
        }
        frames.feed(piece, |frame| match frame {
            _ if *foreign => {}
            Frame::Begin { flag: 0, length } => *message = Some(Protobuf::new(length)),
            // Compressed: passed over.
            Frame::Begin { flag: 1, .. } => {}
            Frame::Begin { .. } => *foreign = true,
            Frame::Payload(run) => {
                if message
                    .as_mut()
                    .is_some_and(|message| message.feed(run, fields).is_err())
                {
                    *message = None;
                    fields.message_ended(false);
                }
            }
            Frame::End => {
                if let Some(message) = message.take() {
                    fields.message_ended(message.finish().is_ok());
                }
            }
        });
    }
}
