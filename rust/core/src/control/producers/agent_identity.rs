//! `agent-identity`: whose request it is, from the session headers that coding agents send.

use std::sync::Arc;

use crate::control::RequestProcessor;
use crate::exchange::Header;
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape, Stability};
use crate::schedule::RequestAttributes;

/// Of Claude Code, `OpenCode`, Codex, and Codex before 0.131.
const HEADERS: [&str; 4] = [
    "x-claude-code-session-id",
    "x-session-affinity",
    "session-id",
    "session_id",
];

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "agent-identity",
    roles: &[Role::Producer],
    stability: Stability::Alpha,
    summary: "Makes the request attribute agent-identity from an agent's session header; it is the flow of a request that names none.",
    parameters: &[ParameterKind {
        name: "additionalSessionHeaders",
        shape: Shape::Texts,
        default: "[]",
        summary: "Headers that are looked at after x-claude-code-session-id, x-session-affinity, session-id and session_id.",
        ..ParameterKind::BASE
    }],
    produces: Some(Data::AgentIdentity),
    build: |parameters| {
        let additional = parameters
            .texts("additionalSessionHeaders")
            .map(|name| name.trim().to_ascii_lowercase().into());
        let producer = AgentIdentity {
            name: parameters.plugin().into(),
            headers: HEADERS
                .map(Into::into)
                .into_iter()
                .chain(additional)
                .collect(),
        };
        Ok(Parts::default().with_request(Arc::new(producer)))
    },
    ..PluginKind::BASE
};

/// See the type.
#[derive(Debug)]
pub struct AgentIdentity {
    name: Arc<str>,
    /// Lower-case names, the first that has a value counts.
    headers: Vec<Box<str>>,
}

impl RequestProcessor for AgentIdentity {
    fn process(&self, headers: &[Header], attributes: &mut RequestAttributes) {
        let value_of = |name: &str| {
            headers
                .iter()
                .filter(|header| header.key == name.as_bytes())
                .filter_map(|header| std::str::from_utf8(&header.value).ok())
                .find(|value| !value.is_empty())
        };
        if let Some(identity) = self.headers.iter().find_map(|name| value_of(name)) {
            attributes.push(RequestAttributes::AGENT_IDENTITY, &self.name, identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};

    #[test]
    fn the_first_header_with_a_value_names_the_agent() {
        for (additional, headers, identity) in [
            (json!([]), &[("session_id", "codex")][..], Some("codex")),
            (
                json!([]),
                &[("session-id", "new"), ("session_id", "old")],
                Some("new"),
            ),
            (
                json!([]),
                &[("session-id", "codex"), ("x-session-affinity", "opencode")],
                Some("opencode"),
            ),
            (
                json!([]),
                &[
                    ("x-session-affinity", "opencode"),
                    ("x-claude-code-session-id", "claude"),
                ],
                Some("claude"),
            ),
            (
                json!([]),
                &[("x-claude-code-session-id", ""), ("session-id", "codex")],
                Some("codex"),
            ),
            (json!([]), &[("x-agent", "own")], None),
            (
                json!(["X-Other", "X-Agent"]),
                &[("x-agent", "own"), ("x-claude-code-session-id", "claude")],
                Some("claude"),
            ),
            (
                json!(["X-Other", "X-Agent"]),
                &[("x-agent", "own"), ("session_id", "")],
                Some("own"),
            ),
            (json!(["x-agent"]), &[], None),
        ] {
            let headers: Vec<Header> = headers
                .iter()
                .map(|(key, value)| Header {
                    key: Bytes::from_static(key.as_bytes()),
                    value: Bytes::from_static(value.as_bytes()),
                })
                .collect();
            let plugin = built(&KIND, &json!({"additionalSessionHeaders": additional}));
            let part = plugin.request.as_ref().expect("a request part");
            let mut attributes = RequestAttributes::default();
            part.process(&headers, &mut attributes);
            assert_eq!(attributes.get("agent-identity", Some("mine")), identity);
        }
    }

    #[test]
    fn header_names_are_strings() {
        assert_eq!(
            refused(&KIND, &json!({"additionalSessionHeaders": "x-agent"})),
            "additionalSessionHeaders: must be a list of strings that are not empty, not \"x-agent\""
        );
    }
}
