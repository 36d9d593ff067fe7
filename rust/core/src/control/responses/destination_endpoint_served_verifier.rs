//! `destination-endpoint-served-verifier`: tells the client which endpoint the gateway says it used. For conformance tests.

use std::sync::Arc;

use bytes::Bytes;

use crate::control::{HeaderPairs, Response, ResponseReceived};
use crate::plugin::{Parts, PluginKind, Role};

/// The response header that conformance tests read.
const HEADER: &str = "x-conformance-test-served-endpoint";

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "destination-endpoint-served-verifier",
    roles: &[Role::ResponseReceived],
    summary: "Sets the response header x-conformance-test-served-endpoint to the endpoint that the gateway's metadata names, or to what is missing of it.",
    build: |_| Ok(Parts::default().with_response(Arc::new(ServedVerifier))),
    ..PluginKind::BASE
};

/// See [`KIND`].
#[derive(Debug)]
struct ServedVerifier;

impl ResponseReceived for ServedVerifier {
    fn response_received(&self, response: &Response<'_>, set: &mut HeaderPairs) {
        let value = match (response.served, response.lb_metadata) {
            (Some(served), _) => served,
            (None, true) => "fail: missing destination endpoint served metadata",
            (None, false) => "fail: missing envoy lb metadata",
        };
        set.push((
            Bytes::from_static(HEADER.as_bytes()),
            Bytes::copy_from_slice(value.as_bytes()),
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::built;
    use crate::schedule::testing::Scene;

    #[test]
    fn the_header_tells_the_endpoint_or_what_is_missing() {
        let scene = Scene::new(1);
        let plugin = built(&KIND, &json!({})).response.expect("a response part");
        for (served, lb_metadata, told) in [
            (Some("10.0.0.9:8000"), true, "10.0.0.9:8000"),
            (
                None,
                true,
                "fail: missing destination endpoint served metadata",
            ),
            (None, false, "fail: missing envoy lb metadata"),
        ] {
            let response = Response {
                endpoint: &scene.snapshot.endpoints[0],
                profile: "default",
                lb_metadata,
                served,
            };
            let mut set = HeaderPairs::new();
            plugin.response_received(&response, &mut set);
            assert_eq!(set, [(Bytes::from(HEADER), Bytes::from(told))]);
        }
    }
}
