//! Wording a decision for the mode that Envoy runs in.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::control::HeaderPairs;

use super::headers::names;
use super::message::{
    BodyMode, BodyMutation, CommonReply, HeaderMutation, LbMetadata, ProtocolConfig, Reply,
    ReplyPhase,
};

/// Largest body of one streamed reply in bytes (the protocol's convention for `FULL_DUPLEX_STREAMED`).
pub const CHUNK_BYTES: usize = 62_000;

/// Which message carries the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wording {
    /// The reply to the request headers. `tunnel`: what follows is no body but the bytes of an upgraded connection.
    Headers { tunnel: bool },
    /// BUFFERED with trailers and no body: the reply to the trailers, whose metadata is all that can still choose.
    Trailers,
    /// The reply to a buffered body. Not `whole`: Envoy showed only its beginning.
    Body { whole: bool },
    /// STREAMED without waiting: the header reply was withheld; one body reply for each message follows it.
    Withheld,
    /// `FULL_DUPLEX_STREAMED`: header reply, then the body in chunks.
    FullDuplex { end_of_stream: bool },
}

/// A decision and the request it is for.
pub(super) struct Decided {
    /// `host:port`, comma-joined in order of preference.
    pub(super) destination: Bytes,
    /// Headers that plugins set.
    pub(super) set: HeaderPairs,
    /// Scores to publish.
    pub(super) scores: Option<Vec<(Box<str>, f64)>>,
    /// Control headers to take off.
    pub(super) remove: SmallVec<[&'static str; 8]>,
    /// Id made for a request that came without one.
    pub(super) new_request_id: Option<Bytes>,
    /// The body, edited when `edited`.
    pub(super) chunks: Vec<Bytes>,
    /// Bytes in `chunks`.
    pub(super) size: usize,
    /// Messages that brought it: each waits for a reply where the header reply was withheld.
    pub(super) messages: usize,
    /// The model was renamed.
    pub(super) edited: bool,
}

impl Decided {
    pub(super) fn word(
        self,
        wording: Wording,
        protocol: ProtocolConfig,
        response_usage: bool,
        replies: &mut Vec<Reply>,
    ) {
        let mut common = CommonReply {
            headers: self.header_mutation(),
            body: BodyMutation::None,
            clear_route_cache: true,
        };
        let metadata = Some(LbMetadata {
            strings: smallvec![(names::DESTINATION, self.destination.clone())],
            numbers: self
                .scores
                .map(|scores| (names::SCORES, scores))
                .into_iter()
                .collect(),
            reports: Vec::new(),
        });
        match wording {
            Wording::Headers { tunnel } => {
                let mode_override = if tunnel {
                    // A buffered tunnel would never end.
                    can_override(protocol).then_some((BodyMode::None, BodyMode::None))
                } else {
                    response_body_override(protocol, response_usage)
                };
                replies.push(Reply {
                    phase: ReplyPhase::RequestHeaders(common),
                    metadata,
                    mode_override,
                });
            }
            Wording::Trailers => replies.push(Reply {
                phase: ReplyPhase::RequestTrailers,
                metadata,
                mode_override: None,
            }),
            Wording::Body { whole } => {
                if self.edited {
                    if whole {
                        common.headers.set.push(content_length(self.size));
                    } else {
                        common.headers.remove.push("content-length");
                    }
                    common.body = BodyMutation::Replace(self.chunks.into());
                }
                replies.push(Reply {
                    phase: ReplyPhase::RequestBody(common),
                    metadata,
                    mode_override: None,
                });
            }
            Wording::Withheld => {
                replies.push(Reply {
                    phase: ReplyPhase::RequestHeaders(common),
                    metadata,
                    mode_override: None,
                });
                let mut edited = self.edited.then_some(self.chunks);
                for index in 0..self.messages {
                    let body = match edited.take() {
                        Some(chunks) => BodyMutation::Replace(chunks.into()),
                        None if self.edited && index > 0 => BodyMutation::Clear,
                        None => BodyMutation::None,
                    };
                    replies.push(body_reply(body));
                }
            }
            Wording::FullDuplex { end_of_stream } => {
                common.headers.set.push(content_length(self.size));
                replies.push(Reply {
                    phase: ReplyPhase::RequestHeaders(common),
                    metadata,
                    mode_override: None,
                });
                stream(self.chunks, end_of_stream, body_reply, replies);
            }
        }
    }

    fn header_mutation(&self) -> HeaderMutation {
        let mut set = Vec::with_capacity(3);
        set.push((
            Bytes::from_static(names::DESTINATION.as_bytes()),
            self.destination.clone(),
        ));
        if let Some(id) = &self.new_request_id {
            set.push((Bytes::from_static(names::REQUEST_ID.as_bytes()), id.clone()));
        }
        set.extend(self.set.iter().cloned());
        HeaderMutation {
            set,
            remove: self.remove.clone(),
        }
    }
}

/// Asks Envoy not to send the response body (or, when usage is wanted, handled at the response headers), where it can be asked at all:
/// not with full duplex in either direction and not when bodies are sent without waiting. Both modes are replaced, so the request's is repeated.
pub(super) fn response_body_override(
    protocol: ProtocolConfig,
    response_usage: bool,
) -> Option<(BodyMode, BodyMode)> {
    let unneeded = !response_usage && protocol.response_body_mode != BodyMode::None;
    (unneeded && can_override(protocol)).then_some((protocol.request_body_mode, BodyMode::None))
}

/// True where Envoy heeds `mode_override`.
pub(super) fn can_override(protocol: ProtocolConfig) -> bool {
    protocol.request_body_mode != BodyMode::FullDuplexStreamed
        && protocol.response_body_mode != BodyMode::FullDuplexStreamed
        && !protocol.send_body_without_waiting_for_header_response
}

/// Appends `chunks` as streamed replies, worded by `wrap`.
pub(super) fn stream(
    chunks: Vec<Bytes>,
    end_of_stream: bool,
    wrap: fn(BodyMutation) -> Reply,
    replies: &mut Vec<Reply>,
) {
    cut(chunks, end_of_stream, |body| replies.push(wrap(body)));
}

/// Cuts a body, given in `chunks`, into streamed pieces of at most [`CHUNK_BYTES`] without joining the chunks. There is always at least
/// one piece; the last has `end_of_stream`.
pub fn cut(chunks: Vec<Bytes>, end_of_stream: bool, mut take: impl FnMut(BodyMutation)) {
    let mut parts: SmallVec<[Bytes; 4]> = SmallVec::new();
    let mut filled = 0;
    for mut chunk in chunks {
        while !chunk.is_empty() {
            if filled == CHUNK_BYTES {
                take(BodyMutation::Streamed {
                    parts: std::mem::take(&mut parts),
                    end_of_stream: false,
                });
                filled = 0;
            }
            let part = chunk.split_to(chunk.len().min(CHUNK_BYTES - filled));
            filled += part.len();
            parts.push(part);
        }
    }
    take(BodyMutation::Streamed {
        parts,
        end_of_stream,
    });
}

pub(super) fn content_length(size: usize) -> (Bytes, Bytes) {
    // The reference spells it with capitals; header names are case-insensitive and Envoy lower-cases them.
    (
        Bytes::from_static(b"Content-Length"),
        Bytes::from(size.to_string()),
    )
}

/// What Envoy waits for after trailers, which are never changed.
pub(super) fn trailers_reply() -> Reply {
    Reply {
        phase: ReplyPhase::RequestTrailers,
        metadata: None,
        mode_override: None,
    }
}

pub(super) fn body_reply(body: BodyMutation) -> Reply {
    Reply {
        phase: ReplyPhase::RequestBody(CommonReply {
            body,
            ..CommonReply::default()
        }),
        metadata: None,
        mode_override: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(chunks: Vec<usize>) -> Vec<(usize, bool)> {
        let mut replies = Vec::new();
        stream(
            chunks
                .into_iter()
                .map(|size| Bytes::from(vec![b'x'; size]))
                .collect(),
            true,
            body_reply,
            &mut replies,
        );
        replies
            .into_iter()
            .map(|reply| match reply.phase {
                ReplyPhase::RequestBody(CommonReply {
                    body:
                        BodyMutation::Streamed {
                            parts,
                            end_of_stream,
                        },
                    ..
                }) => (parts.iter().map(Bytes::len).sum(), end_of_stream),
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    #[test]
    fn chunks_are_full_and_only_the_last_ends_the_stream() {
        assert_eq!(sizes(vec![]), [(0, true)]);
        assert_eq!(sizes(vec![62_000]), [(62_000, true)]);
        assert_eq!(sizes(vec![62_001]), [(62_000, false), (1, true)]);
        assert_eq!(
            sizes(vec![40_000, 40_000, 44_000]),
            [(62_000, false), (62_000, true)]
        );
    }

    #[test]
    fn the_response_body_is_declined_only_where_envoy_heeds_it() {
        let mut protocol = ProtocolConfig {
            request_body_mode: BodyMode::Buffered,
            response_body_mode: BodyMode::Buffered,
            send_body_without_waiting_for_header_response: false,
        };
        assert_eq!(
            response_body_override(protocol, false),
            Some((BodyMode::Buffered, BodyMode::None))
        );
        assert_eq!(response_body_override(protocol, true), None);
        protocol.response_body_mode = BodyMode::FullDuplexStreamed;
        assert_eq!(response_body_override(protocol, false), None);
        protocol.response_body_mode = BodyMode::None;
        assert_eq!(response_body_override(protocol, false), None);
    }
}
