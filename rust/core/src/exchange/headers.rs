//! The request headers that the exchange reads, and those it keeps from the model server.

use bytes::Bytes;
use smallvec::SmallVec;

use super::message::Header;

/// Header and metadata names of the protocol (reference: endpoint picker protocol, Gateway API Inference Extension).
pub mod names {
    /// Destination: request header and dynamic metadata key.
    pub const DESTINATION: &str = "x-gateway-destination-endpoint";
    /// Scores of the candidates, dynamic metadata key.
    pub const SCORES: &str = "x-gateway-destination-endpoint-scores";
    /// Why a request was dropped.
    pub const DROPPED_REASON: &str = "x-llm-d-request-dropped-reason";
    /// Request id.
    pub const REQUEST_ID: &str = "x-request-id";
    /// Asks for the decision to be told in the answer.
    pub const EXPLAIN: &str = "x-warmroute-explain";
    /// The decision, as JSON, on the answer.
    pub const DECISION: &str = "x-warmroute-decision";
}

/// Headers addressed to the picker: they never reach the model server.
const CONTROL: [&str; 11] = [
    "x-llm-d-inference-objective",
    "x-gateway-inference-objective",
    "x-llm-d-inference-fairness-id",
    "x-gateway-inference-fairness-id",
    "x-llm-d-model-name-rewrite",
    "x-gateway-model-name-rewrite",
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    names::SCORES,
    names::DROPPED_REASON,
    names::EXPLAIN,
];

/// What the request headers say.
#[derive(Debug, Default)]
pub struct RequestHeaders {
    /// `:path`, else `x-original-path`, else `x-forwarded-path`.
    pub path: Option<Box<str>>,
    /// `x-request-id`.
    pub request_id: Option<Bytes>,
    /// Name of the `InferenceObjective`.
    pub objective: Option<Box<str>>,
    /// Flow id.
    pub fairness_id: Option<Box<str>>,
    /// Model to ask the engine for instead of the body's.
    pub model_rewrite: Option<Box<str>>,
    /// `x-warmroute-explain` is there and not `0`.
    pub explain: bool,
    /// CONNECT, or an upgrade to another protocol: no body follows but a connection's bytes, which may never end.
    pub tunnel: bool,
    /// Control headers that are on the request and have to go.
    pub remove: SmallVec<[&'static str; 8]>,
    /// All headers, for plugins.
    pub all: Vec<Header>,
}

impl RequestHeaders {
    /// Reads them in one pass.
    pub fn read(all: Vec<Header>) -> Self {
        let mut read = Self::default();
        let mut fallback_path = [None, None];
        let (mut upgrade, mut connection_upgrades) = (false, false);
        for header in &all {
            let key: &[u8] = &header.key;
            // Most headers are none of ours: two bytes tell.
            match key {
                b":path" => read.path = text(&header.value),
                b":method" => read.tunnel = header.value == "CONNECT",
                b"upgrade" => upgrade = !header.value.is_empty(),
                b"connection" => {
                    connection_upgrades = header
                        .value
                        .to_ascii_lowercase()
                        .split(|byte| *byte == b',')
                        .any(|word| word.trim_ascii() == b"upgrade");
                }
                [b'x', b'-', ..] => {
                    if let Some(control) = CONTROL.iter().find(|name| name.as_bytes() == key)
                        && !read.remove.contains(control)
                    {
                        read.remove.push(control);
                    }
                    match key {
                        b"x-request-id" => {
                            read.request_id =
                                Some(header.value.clone()).filter(|id| !id.is_empty());
                        }
                        b"x-original-path" => fallback_path[0] = text(&header.value),
                        b"x-forwarded-path" => fallback_path[1] = text(&header.value),
                        b"x-llm-d-inference-objective" => read.objective = text(&header.value),
                        b"x-gateway-inference-objective" => {
                            read.objective = read.objective.take().or_else(|| text(&header.value));
                        }
                        b"x-llm-d-inference-fairness-id" => read.fairness_id = text(&header.value),
                        b"x-gateway-inference-fairness-id" => {
                            read.fairness_id =
                                read.fairness_id.take().or_else(|| text(&header.value));
                        }
                        b"x-llm-d-model-name-rewrite" => read.model_rewrite = text(&header.value),
                        b"x-gateway-model-name-rewrite" => {
                            read.model_rewrite =
                                read.model_rewrite.take().or_else(|| text(&header.value));
                        }
                        b"x-warmroute-explain" => read.explain = header.value != "0",
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        if read.path.is_none() {
            let [original, forwarded] = fallback_path;
            read.path = original.or(forwarded);
        }
        read.tunnel |= upgrade && connection_upgrades;
        read.all = all;
        read
    }
}

/// A header value as text; bytes that are no UTF-8 count as absent, as they name nothing.
fn text(value: &Bytes) -> Option<Box<str>> {
    std::str::from_utf8(value)
        .ok()
        .filter(|value| !value.is_empty())
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &'static str, value: &'static str) -> Header {
        Header {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    #[test]
    fn the_new_name_wins_over_its_alias_in_either_order() {
        for swap in [false, true] {
            let mut all = vec![
                header("x-llm-d-inference-objective", "new"),
                header("x-gateway-inference-objective", "old"),
            ];
            if swap {
                all.reverse();
            }
            let read = RequestHeaders::read(all);
            assert_eq!(read.objective.as_deref(), Some("new"));
            assert_eq!(read.remove.len(), 2);
        }
    }

    #[test]
    fn a_tunnel_is_a_connect_or_an_upgrade_that_the_connection_header_confirms() {
        for (all, tunnel) in [
            (vec![header(":method", "CONNECT")], true),
            (
                vec![
                    header(":method", "GET"),
                    header("upgrade", "websocket"),
                    header("connection", "keep-alive, Upgrade"),
                ],
                true,
            ),
            (
                vec![header(":method", "POST"), header("upgrade", "h2c")],
                false,
            ),
            (
                vec![header(":method", "POST"), header("connection", "upgrade")],
                false,
            ),
        ] {
            assert_eq!(RequestHeaders::read(all).tunnel, tunnel);
        }
    }

    #[test]
    fn a_value_that_is_no_text_names_nothing() {
        let bytes = Header {
            key: Bytes::from_static(b"x-llm-d-model-name-rewrite"),
            value: Bytes::from_static(&[0xff, 0xfe]),
        };
        let read = RequestHeaders::read(vec![bytes]);
        assert_eq!(read.model_rewrite, None);
        assert_eq!(read.remove.len(), 1);
    }

    #[test]
    fn the_path_falls_back_to_what_a_proxy_kept() {
        let read = RequestHeaders::read(vec![
            header("x-forwarded-path", "/b"),
            header("x-original-path", "/a"),
        ]);
        assert_eq!(read.path.as_deref(), Some("/a"));
        let read = RequestHeaders::read(vec![
            header("x-forwarded-path", "/b"),
            header(":path", "/c"),
        ]);
        assert_eq!(read.path.as_deref(), Some("/c"));
    }
}
