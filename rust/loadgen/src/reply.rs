//! Replies of an `ext_proc` server, read as far as they are checked.
//!
//! Field numbers: `ProcessingResponse` {`request_headers` 1, `response_headers` 2, `request_body` 3, `response_body` 4,
//! `request_trailers` 5, `response_trailers` 6, `immediate_response` 7, `dynamic_metadata` 8, `mode_override` 9}.

use crate::wire::Direction;

/// What a reply did to the body of the message it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyReply {
    /// The body is left as it is.
    Unchanged,
    /// `body` or `clear_body`: replaced by this many bytes.
    Replaced(usize),
    /// `streamed_response`.
    Streamed {
        /// Bytes of this chunk.
        length: usize,
        /// Last chunk.
        end_of_stream: bool,
    },
}

/// `mode_override` of a reply to headers, as far as the generator obeys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeOverride {
    /// `request_body_mode`.
    pub request_body: u64,
    /// `response_body_mode`.
    pub response_body: u64,
    /// `response_header_mode` is SKIP.
    pub skip_response_headers: bool,
}

/// One `ProcessingResponse`, as far as it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a headers message.
    Headers {
        /// Request or response headers.
        direction: Direction,
        /// The reply sets `x-gateway-destination-endpoint`, as a header or as metadata.
        destination: bool,
        /// Body and header modes for the rest of the exchange.
        mode_override: Option<ModeOverride>,
    },
    /// To a body message.
    Body {
        /// Request or response body.
        direction: Direction,
        /// The reply sets `x-gateway-destination-endpoint`, as a header or as metadata.
        destination: bool,
        /// What became of the bytes.
        body: BodyReply,
    },
    /// To trailers.
    Trailers,
    /// `immediate_response` with its HTTP status code.
    Immediate(u16),
}

/// The reply is no `ProcessingResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;

/// Name of the header and of the metadata key that carry the choice.
const DESTINATION: &[u8] = b"x-gateway-destination-endpoint";

/// Reads one `ProcessingResponse` (without its gRPC prefix).
///
/// # Errors
/// The bytes are cut short, have a wire type that protobuf does not know, or carry none of the known replies.
pub fn read_reply(message: &[u8]) -> Result<Reply, Undecodable> {
    let mut reply = None;
    let mut metadata_destination = false;
    let mut mode_override = None;
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1 | 2, Value::Bytes(content)) => {
                let (_, destination) = read_common(content)?;
                let direction = if field == 1 {
                    Direction::Request
                } else {
                    Direction::Response
                };
                reply = Some(Reply::Headers {
                    direction,
                    destination,
                    mode_override: None,
                });
            }
            (3 | 4, Value::Bytes(content)) => {
                let (body, destination) = read_common(content)?;
                let direction = if field == 3 {
                    Direction::Request
                } else {
                    Direction::Response
                };
                reply = Some(Reply::Body {
                    direction,
                    destination,
                    body,
                });
            }
            (5 | 6, Value::Bytes(_)) => reply = Some(Reply::Trailers),
            (7, Value::Bytes(content)) => reply = Some(Reply::Immediate(read_status(content)?)),
            (8, Value::Bytes(content)) => {
                metadata_destination = memchr::memmem::find(content, DESTINATION).is_some();
            }
            (9, Value::Bytes(content)) => mode_override = Some(read_mode_override(content)?),
            _ => {}
        }
    }
    match reply.ok_or(Undecodable)? {
        Reply::Headers {
            direction,
            destination,
            ..
        } => Ok(Reply::Headers {
            direction,
            destination: destination || metadata_destination,
            mode_override,
        }),
        Reply::Body {
            direction,
            destination,
            body,
        } => Ok(Reply::Body {
            direction,
            destination: destination || metadata_destination,
            body,
        }),
        other => Ok(other),
    }
}

/// `HeadersResponse` and `BodyResponse` have the same shape: {`response` 1: `CommonResponse`}.
fn read_common(content: &[u8]) -> Result<(BodyReply, bool), Undecodable> {
    let (mut body, mut destination) = (BodyReply::Unchanged, false);
    let mut outer = Fields(content);
    while let Some((field, value)) = outer.next()? {
        let (1, Value::Bytes(common)) = (field, value) else {
            continue;
        };
        let mut fields = Fields(common);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (2, Value::Bytes(mutation)) => {
                    destination |= memchr::memmem::find(mutation, DESTINATION).is_some();
                }
                (3, Value::Bytes(mutation)) => body = read_body_mutation(mutation)?,
                _ => {}
            }
        }
    }
    Ok((body, destination))
}

/// `BodyMutation` {`body` 1, `clear_body` 2, `streamed_response` 3 {`body` 1, `end_of_stream` 2}}.
fn read_body_mutation(content: &[u8]) -> Result<BodyReply, Undecodable> {
    let mut reply = BodyReply::Unchanged;
    let mut fields = Fields(content);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(body)) => reply = BodyReply::Replaced(body.len()),
            (2, Value::Number(1)) => reply = BodyReply::Replaced(0),
            (3, Value::Bytes(streamed)) => {
                let (mut length, mut end_of_stream) = (0, false);
                let mut parts = Fields(streamed);
                while let Some((field, value)) = parts.next()? {
                    match (field, value) {
                        (1, Value::Bytes(body)) => length = body.len(),
                        (2, Value::Number(flag)) => end_of_stream = flag != 0,
                        _ => {}
                    }
                }
                reply = BodyReply::Streamed {
                    length,
                    end_of_stream,
                };
            }
            _ => {}
        }
    }
    Ok(reply)
}

/// `ImmediateResponse` {`status` 1: `HttpStatus` {`code` 1}}.
fn read_status(content: &[u8]) -> Result<u16, Undecodable> {
    let mut fields = Fields(content);
    while let Some((field, value)) = fields.next()? {
        if let (1, Value::Bytes(status)) = (field, value) {
            let mut inner = Fields(status);
            while let Some((field, value)) = inner.next()? {
                if let (1, Value::Number(code)) = (field, value) {
                    return u16::try_from(code).map_err(|_| Undecodable);
                }
            }
        }
    }
    Ok(0)
}

/// `ProcessingMode` {`response_header_mode` 2 (SKIP = 2), `request_body_mode` 3, `response_body_mode` 4}.
fn read_mode_override(content: &[u8]) -> Result<ModeOverride, Undecodable> {
    let mut mode = ModeOverride {
        request_body: 0,
        response_body: 0,
        skip_response_headers: false,
    };
    let mut fields = Fields(content);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (2, Value::Number(number)) => mode.skip_response_headers = number == 2,
            (3, Value::Number(number)) => mode.request_body = number,
            (4, Value::Number(number)) => mode.response_body = number,
            _ => {}
        }
    }
    Ok(mode)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a protobuf message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Undecodable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Undecodable)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Undecodable),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Undecodable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Undecodable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Undecodable> {
        let mut value = 0;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(Undecodable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_bytes;

    #[test]
    fn replies_are_read_as_far_as_they_are_checked() {
        assert_eq!(
            read_reply(b"\x0a\x00"),
            Ok(Reply::Headers {
                direction: Direction::Request,
                destination: false,
                mode_override: None
            })
        );
        assert_eq!(
            read_reply(b"\x1a\x0b\x0a\x09\x1a\x07\x1a\x05\x0a\x01x\x10\x01"),
            Ok(Reply::Body {
                direction: Direction::Request,
                destination: false,
                body: BodyReply::Streamed {
                    length: 1,
                    end_of_stream: true
                }
            })
        );
        assert_eq!(
            read_reply(b"\x3a\x05\x0a\x03\x08\xf7\x03"),
            Ok(Reply::Immediate(503))
        );
        assert_eq!(read_reply(b""), Err(Undecodable));
        assert_eq!(read_reply(b"\x0a\x05\x00"), Err(Undecodable));
    }

    #[test]
    fn a_destination_is_seen_in_a_header_and_in_metadata() {
        let mut mutation = Vec::new();
        put_bytes(&mut mutation, 1, DESTINATION);
        let mut common = Vec::new();
        put_bytes(&mut common, 2, &mutation);
        let mut headers = Vec::new();
        put_bytes(&mut headers, 1, &common);
        let mut with_header = Vec::new();
        put_bytes(&mut with_header, 1, &headers);
        let mut with_metadata = b"\x1a\x00".to_vec();
        put_bytes(&mut with_metadata, 8, DESTINATION);
        assert!(matches!(
            read_reply(&with_header),
            Ok(Reply::Headers {
                destination: true,
                ..
            })
        ));
        assert!(matches!(
            read_reply(&with_metadata),
            Ok(Reply::Body {
                destination: true,
                ..
            })
        ));
    }

    #[test]
    fn a_mode_override_is_read() {
        let Ok(Reply::Headers {
            mode_override: Some(mode),
            ..
        }) = read_reply(b"\x0a\x00\x4a\x04\x10\x02\x18\x02")
        else {
            unreachable!("the reply carries a mode override")
        };
        assert_eq!(
            mode,
            ModeOverride {
                request_body: 2,
                response_body: 0,
                skip_response_headers: true
            }
        );
    }
}
