//! `ProcessingRequest` from bytes. Header names, header values and bodies are slices of the frame: nothing is copied.
//!
//! Unknown fields, and known numbers with a foreign wire type, are skipped; a scalar that occurs twice takes its last value and a message
//! that occurs twice is merged, as the protobuf specification asks.

use std::ops::Range;

use bytes::Bytes;
use warmroute_core::exchange::{
    BodyMode, Header, HttpBody, HttpHeaders, Message, Phase, ProtocolConfig,
};

use super::DecodeError;
use super::metadata::{read_attributes, read_metadata_context};
use super::wire::{Fields, Wire};

/// A `ProcessingRequest` without its headers, metadata and attributes: what a host needs that decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// What the message carries.
    pub phase: OutlinePhase,
    /// Field 11, only on the first message of a stream.
    pub protocol_config: Option<ProtocolConfig>,
}

/// The phase of an [`Outline`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutlinePhase {
    /// Field 2.
    RequestHeaders {
        /// No body follows.
        end_of_stream: bool,
    },
    /// Field 3.
    ResponseHeaders,
    /// Field 4.
    RequestBody(HttpBody),
    /// Field 5.
    ResponseBody(HttpBody),
    /// Field 6.
    RequestTrailers,
    /// Field 7.
    ResponseTrailers,
}

/// Reads one `ProcessingRequest`.
///
/// # Errors
/// [`DecodeError`] when the bytes are not a `ProcessingRequest`, or one without a phase. Header names are taken as they are: Envoy sends
/// them lower-case and valid, and a name that is not UTF-8 matches none that the exchange looks for.
pub fn decode(frame: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Message::new(Phase::RequestTrailers);
    let mut phase = None;
    let mut fields = Fields::of_frame(frame);
    while let Some((number, wire)) = fields.next()? {
        let Wire::Delimited(range) = wire else {
            continue;
        };
        match number {
            2 => {
                let mut headers = match phase.take() {
                    Some(Phase::RequestHeaders(headers)) => headers,
                    _ => HttpHeaders::default(),
                };
                read_headers(frame, range, &mut headers)?;
                phase = Some(Phase::RequestHeaders(headers));
            }
            3 => {
                let mut headers = match phase.take() {
                    Some(Phase::ResponseHeaders(headers)) => headers,
                    _ => HttpHeaders::default(),
                };
                read_headers(frame, range, &mut headers)?;
                phase = Some(Phase::ResponseHeaders(headers));
            }
            4 => {
                let mut body = match phase.take() {
                    Some(Phase::RequestBody(body)) => body,
                    _ => HttpBody::default(),
                };
                read_body(frame, range, &mut body)?;
                phase = Some(Phase::RequestBody(body));
            }
            5 => {
                let mut body = match phase.take() {
                    Some(Phase::ResponseBody(body)) => body,
                    _ => HttpBody::default(),
                };
                read_body(frame, range, &mut body)?;
                phase = Some(Phase::ResponseBody(body));
            }
            6 => phase = Some(Phase::RequestTrailers),
            7 => phase = Some(Phase::ResponseTrailers),
            8 => read_metadata_context(frame, range, &mut message)?,
            9 => read_attributes(frame, range, &mut message)?,
            11 => read_protocol_config(frame, range, &mut message.protocol_config)?,
            _ => {}
        }
    }
    message.phase = phase.ok_or(DecodeError::NoPhase)?;
    Ok(message)
}

/// Reads one `ProcessingRequest` as an [`Outline`].
///
/// # Errors
/// As [`decode`], except that what is not read is not checked.
pub fn decode_outline(frame: &Bytes) -> Result<Outline, DecodeError> {
    let mut phase = None;
    let mut protocol_config = None;
    let mut fields = Fields::of_frame(frame);
    while let Some((number, wire)) = fields.next()? {
        let Wire::Delimited(range) = wire else {
            continue;
        };
        match number {
            2 => {
                phase = Some(OutlinePhase::RequestHeaders {
                    end_of_stream: headers_end_stream(frame, range)?,
                });
            }
            3 => phase = Some(OutlinePhase::ResponseHeaders),
            4 | 5 => {
                let mut body = HttpBody::default();
                read_body(frame, range, &mut body)?;
                phase = Some(if number == 4 {
                    OutlinePhase::RequestBody(body)
                } else {
                    OutlinePhase::ResponseBody(body)
                });
            }
            6 => phase = Some(OutlinePhase::RequestTrailers),
            7 => phase = Some(OutlinePhase::ResponseTrailers),
            11 => read_protocol_config(frame, range, &mut protocol_config)?,
            _ => {}
        }
    }
    Ok(Outline {
        phase: phase.ok_or(DecodeError::NoPhase)?,
        protocol_config,
    })
}

fn headers_end_stream(frame: &Bytes, range: Range<usize>) -> Result<bool, DecodeError> {
    let mut end_of_stream = false;
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        if let (3, Wire::Varint(value)) = (number, wire) {
            end_of_stream = value != 0;
        }
    }
    Ok(end_of_stream)
}

/// `HttpHeaders { HeaderMap headers = 1; bool end_of_stream = 3; }`
fn read_headers(
    frame: &Bytes,
    range: Range<usize>,
    headers: &mut HttpHeaders,
) -> Result<(), DecodeError> {
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (1, Wire::Delimited(range)) => read_header_map(frame, range, &mut headers.headers)?,
            (3, Wire::Varint(value)) => headers.end_of_stream = value != 0,
            _ => {}
        }
    }
    Ok(())
}

/// `HeaderMap { repeated HeaderValue headers = 1; }`
fn read_header_map(
    frame: &Bytes,
    range: Range<usize>,
    headers: &mut Vec<Header>,
) -> Result<(), DecodeError> {
    // A header takes some 40 bytes on the wire; one reservation saves the growth steps of the vector.
    headers.reserve((range.len() / 40).clamp(4, 64));
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        if let (1, Wire::Delimited(range)) = (number, wire) {
            headers.push(read_header(frame, range)?);
        }
    }
    Ok(())
}

/// `HeaderValue { string key = 1; string value = 2; bytes raw_value = 3; }`
fn read_header(frame: &Bytes, range: Range<usize>) -> Result<Header, DecodeError> {
    let (mut key, mut value, mut raw_value) = (0..0, 0..0, 0..0);
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (1, Wire::Delimited(range)) => key = range,
            (2, Wire::Delimited(range)) => value = range,
            (3, Wire::Delimited(range)) => raw_value = range,
            _ => {}
        }
    }
    let value = if raw_value.is_empty() {
        value
    } else {
        raw_value
    };
    Ok(Header {
        key: frame.slice(key),
        value: frame.slice(value),
    })
}

/// `HttpBody { bytes body = 1; bool end_of_stream = 2; }`
fn read_body(frame: &Bytes, range: Range<usize>, body: &mut HttpBody) -> Result<(), DecodeError> {
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (1, Wire::Delimited(range)) => body.body = frame.slice(range),
            (2, Wire::Varint(value)) => body.end_of_stream = value != 0,
            _ => {}
        }
    }
    Ok(())
}

/// `ProtocolConfiguration`: two body modes and a flag.
fn read_protocol_config(
    frame: &Bytes,
    range: Range<usize>,
    config: &mut Option<ProtocolConfig>,
) -> Result<(), DecodeError> {
    // An empty message counts: Envoy sends it when both body modes are NONE.
    let config = config.get_or_insert_with(ProtocolConfig::default);
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        let Wire::Varint(value) = wire else { continue };
        match number {
            1 => config.request_body_mode = body_mode(value)?,
            2 => config.response_body_mode = body_mode(value)?,
            3 => config.send_body_without_waiting_for_header_response = value != 0,
            _ => {}
        }
    }
    Ok(())
}

fn body_mode(value: u64) -> Result<BodyMode, DecodeError> {
    match value {
        0 => Ok(BodyMode::None),
        1 => Ok(BodyMode::Streamed),
        2 => Ok(BodyMode::Buffered),
        3 => Ok(BodyMode::BufferedPartial),
        4 => Ok(BodyMode::FullDuplexStreamed),
        mode => Err(DecodeError::UnsupportedBodyMode { mode }),
    }
}
