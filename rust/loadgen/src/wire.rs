//! The client's half of `envoy.service.ext_proc.v3` on the wire: requests encoded as Envoy sends them (replies: [`crate::reply`]).
//!
//! The picker's own codec is deliberately not used here: a mistake that both sides shared would never be measured.
//! Field numbers: `ProcessingRequest` {`request_headers` 2, `response_headers` 3, `request_body` 4, `response_body` 5, `protocol_config` 11}.

use std::ops::Range;

/// Length of the gRPC prefix of a message: a compression flag and a big-endian u32.
pub const GRPC_PREFIX: usize = 5;

/// `BodySendMode` values, as in `ProtocolConfiguration` and `ProcessingMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// The body is not sent.
    None = 0,
    /// Chunk by chunk, each answered.
    Streamed = 1,
    /// Whole, in one message.
    Buffered = 2,
    /// Chunk by chunk both ways.
    FullDuplexStreamed = 4,
}

/// `ProtocolConfiguration`, sent on the first message of a stream.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolConfig {
    /// How request bodies are sent.
    pub request: BodyMode,
    /// How response bodies are sent.
    pub response: BodyMode,
    /// Chunks do not wait for the reply to the headers.
    pub without_waiting: bool,
}

/// Which side of the HTTP exchange a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to model server.
    Request,
    /// Model server to client.
    Response,
}

/// A headers message; returns where the value of the header named `track` was written in `out`.
pub fn write_headers(
    out: &mut Vec<u8>,
    direction: Direction,
    headers: &[(&str, String)],
    protocol_config: Option<ProtocolConfig>,
    track: &str,
) -> Option<Range<usize>> {
    let mut map = Vec::new();
    let mut tracked = None;
    for (key, value) in headers {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, key.as_bytes());
        put_bytes(&mut entry, 3, value.as_bytes());
        put_bytes(&mut map, 1, &entry);
        if *key == track {
            // The value is the last thing of its entry.
            tracked = Some(map.len() - value.len()..map.len());
        }
    }
    let mut http_headers = Vec::new();
    put_bytes(&mut http_headers, 1, &map);
    let map_end = http_headers.len();
    let mut message = Vec::new();
    put_bytes(
        &mut message,
        if direction == Direction::Request {
            2
        } else {
            3
        },
        &http_headers,
    );
    let map_start = message.len() - http_headers.len() + map_end - map.len();
    if let Some(config) = protocol_config {
        let mut encoded = Vec::new();
        put_enum(&mut encoded, 1, config.request as u64);
        put_enum(&mut encoded, 2, config.response as u64);
        put_enum(&mut encoded, 3, u64::from(config.without_waiting));
        put_bytes(&mut message, 11, &encoded);
    }
    let frame_start = out.len() + GRPC_PREFIX;
    put_frame(out, &message);
    tracked.map(|range| frame_start + map_start + range.start..frame_start + map_start + range.end)
}

/// A body message; returns where `body` was written in `out`.
pub fn write_body(
    out: &mut Vec<u8>,
    direction: Direction,
    body: &[u8],
    end_of_stream: bool,
) -> Range<usize> {
    let mut http_body = Vec::with_capacity(body.len() + 16);
    if !body.is_empty() {
        put_bytes(&mut http_body, 1, body);
    }
    let body_end = http_body.len();
    put_enum(&mut http_body, 2, u64::from(end_of_stream));
    let mut message = Vec::with_capacity(http_body.len() + 16);
    put_bytes(
        &mut message,
        if direction == Direction::Request {
            4
        } else {
            5
        },
        &http_body,
    );
    let end = out.len() + GRPC_PREFIX + message.len() - (http_body.len() - body_end);
    put_frame(out, &message);
    end - body.len()..end
}

fn put_frame(out: &mut Vec<u8>, message: &[u8]) {
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Proto3 leaves zero values out.
fn put_enum(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(field << 3));
        put_varint(out, value);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headers_message_has_the_bytes_of_the_protocol() {
        let mut out = Vec::new();
        let config = ProtocolConfig {
            request: BodyMode::FullDuplexStreamed,
            response: BodyMode::None,
            without_waiting: false,
        };
        let range = write_headers(
            &mut out,
            Direction::Request,
            &[(":method", "POST".to_owned())],
            Some(config),
            ":method",
        );
        let expected_message =
            b"\x12\x13\x0a\x11\x0a\x0f\x0a\x07:method\x1a\x04POST\x5a\x02\x08\x04";
        assert_eq!(&out[GRPC_PREFIX..], expected_message);
        assert_eq!(
            out[..GRPC_PREFIX],
            [0, 0, 0, 0, expected_message.len() as u8]
        );
        assert_eq!(range.map(|range| &out[range]), Some(&b"POST"[..]));
    }

    #[test]
    fn a_body_message_has_the_bytes_of_the_protocol() {
        let mut out = vec![9];
        let range = write_body(&mut out, Direction::Request, b"abc", true);
        assert_eq!(out, b"\x09\x00\x00\x00\x00\x09\x22\x07\x0a\x03abc\x10\x01");
        assert_eq!(&out[range], b"abc");
        let mut empty = Vec::new();
        write_body(&mut empty, Direction::Response, b"", true);
        assert_eq!(empty, b"\x00\x00\x00\x00\x04\x2a\x02\x10\x01");
    }
}
