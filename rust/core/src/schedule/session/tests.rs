//! Tests of both plugins, as a policy would build them.

use serde_json::json;

use crate::Nanos;
use crate::control::{Chosen, HeaderPairs, RequestEdits, Response};
use crate::plugin::testing::{built, refused};
use crate::plugin::{Parts, PluginKind};
use crate::schedule::testing::Scene;
use crate::schedule::{filters, scorers};

const BOTH: [PluginKind; 2] = [
    filters::session_affinity::KIND,
    scorers::session_affinity::KIND,
];

/// base64 of `default/endpoint-002`.
const SECOND: &str = "ZGVmYXVsdC9lbmRwb2ludC0wMDI=";

fn scene(headers: &[(&'static str, &str)], request_id: &'static str) -> Scene {
    let mut scene = Scene::new(3);
    scene.request.request_id = request_id.into();
    for (name, value) in headers {
        scene.header(name, value);
    }
    scene
}

/// The preferred row, as the plugin shows it: filter and scorer have to agree.
fn preferred(plugin: &Parts, scene: &Scene) -> Option<usize> {
    if plugin.filter.is_some() {
        let kept = scene.kept(plugin);
        let rows: Vec<usize> = (0..kept.len()).filter(|row| kept[*row]).collect();
        assert!(rows.len() == 1 || rows.len() == kept.len(), "{kept:?}");
        (rows.len() == 1).then(|| rows[0])
    } else {
        let scores = scene.rated(plugin);
        assert!(scores.iter().all(|score| [0.0, 1.0].contains(score)));
        scores.iter().position(|score| *score > 0.0)
    }
}

fn choose(plugin: &Parts, scene: &Scene, row: u32, profile: &str) {
    let chosen = Chosen {
        ranked: &[row, 0],
        profile,
    };
    let mut edits = RequestEdits::default();
    let part = plugin.pre_request.as_ref().expect("a pre-request part");
    part.pre_request(&scene.context(), &chosen, &mut edits);
    assert_eq!(edits, RequestEdits::default());
}

fn answered(plugin: &Parts, scene: &Scene, row: usize, profile: &str) -> HeaderPairs {
    let response = Response {
        endpoint: &scene.snapshot.endpoints[row],
        profile,
        lb_metadata: false,
        served: None,
    };
    let mut set = HeaderPairs::new();
    let part = plugin.response.as_ref().expect("a response part");
    part.response_received(&response, &mut set);
    set
}

#[test]
fn a_token_names_the_endpoint_and_the_answer_carries_it() {
    for kind in BOTH {
        let plugin = built(&kind, &json!({}));
        let answer = answered(&plugin, &scene(&[], ""), 1, "default");
        assert_eq!(answer, [("x-session-token".into(), SECOND.into())]);
        let back = scene(&[("x-session-token", SECOND)], "");
        assert_eq!(preferred(&plugin, &back), Some(1));
    }
}

#[test]
fn a_token_that_names_no_candidate_prefers_none() {
    // Undecodable, unpadded, no text, another namespace, a name without one, a prefix of a name, unused bits that are set.
    for (token, row) in [
        ("?", None),
        ("ZGVmYXVsdC9lbmRwb2ludC0wMDI", None),
        ("//79", None),
        ("b3RoZXIvZW5kcG9pbnQtMDAy", None),
        ("ZW5kcG9pbnQtMDAy", None),
        ("ZGVmYXVsdC9lbmRwb2ludC0wMA==", None),
        ("ZGVmYXVsdC9lbmRwb2ludC0wMDJ=", Some(1)),
        ("", None),
    ] {
        for kind in BOTH {
            let plugin = built(&kind, &json!({}));
            let scene = scene(&[("x-session-token", token)], "");
            assert_eq!(preferred(&plugin, &scene), row, "{token:?}");
        }
    }
    let plugin = built(&BOTH[0], &json!({}));
    let mut gone = scene(&[("x-session-token", SECOND)], "");
    gone.candidates.position = vec![0, 2, 9];
    assert_eq!(preferred(&plugin, &gone), None);
}

#[test]
fn a_filter_keeps_to_what_earlier_ones_left() {
    let plugin = built(&BOTH[0], &json!({}));
    let scene = scene(&[("x-session-token", SECOND)], "");
    let mut keep = [true, false, true];
    let filter = plugin.filter.as_ref().expect("a filter");
    filter.filter(&scene.context(), &mut keep);
    assert_eq!(keep, [true, false, true]);
}

#[test]
fn headers_and_profile_can_be_named() {
    for kind in BOTH {
        let plugin = built(
            &kind,
            &json!({"profileName": "prefill", "encodedEndpointHeaderConfig": {"header": " X-Session-Token-Prefill "}}),
        );
        let scene = scene(&[("x-session-token-prefill", SECOND)], "");
        assert_eq!(preferred(&plugin, &scene), Some(1));
        assert!(answered(&plugin, &scene, 1, "decode").is_empty());
        assert_eq!(
            answered(&plugin, &scene, 1, "prefill"),
            [("x-session-token-prefill".into(), SECOND.into())]
        );
    }
}

#[test]
fn an_id_is_bound_to_the_endpoint_that_its_first_request_went_to() {
    for kind in BOTH {
        let plugin = built(&kind, &json!({"strategy": "session_id"}));
        let first = scene(&[("x-session-id", " s1 ")], "first");
        assert_eq!(preferred(&plugin, &first), None);
        choose(&plugin, &first, 2, "default");
        let again = scene(&[("x-session-id", "s1")], "again");
        assert_eq!(preferred(&plugin, &again), Some(2));
        let other = scene(&[("x-session-id", "s2")], "other");
        assert_eq!(preferred(&plugin, &other), None);
        let none = scene(&[], "none");
        choose(&plugin, &none, 0, "default");
        assert_eq!(preferred(&plugin, &none), None);
        assert!(answered(&plugin, &again, 2, "default").is_empty());
    }
}

#[test]
fn a_session_moves_only_when_its_endpoint_is_not_there() {
    for kind in BOTH {
        let plugin = built(&kind, &json!({"strategy": "session_id"}));
        choose(&plugin, &scene(&[("x-session-id", "s")], "1"), 2, "p");
        // The picker preferred another one: the session stays.
        let second = scene(&[("x-session-id", "s")], "2");
        assert_eq!(preferred(&plugin, &second), Some(2));
        choose(&plugin, &second, 0, "p");
        assert_eq!(preferred(&plugin, &second), Some(2));
        // Its endpoint is not among the candidates.
        let mut third = scene(&[("x-session-id", "s")], "3");
        third.candidates.position = vec![0, 1, 7];
        assert_eq!(preferred(&plugin, &third), None);
        choose(&plugin, &third, 1, "p");
        let fourth = scene(&[("x-session-id", "s")], "4");
        assert_eq!(preferred(&plugin, &fourth), Some(1));
    }
}

#[test]
fn a_binding_ends_with_its_time_and_only_its_profile_makes_one() {
    let parameters = json!({"strategy": "session_id", "profileName": "decode", "sessionIdConfig": {"evictionTtlSeconds": 0.5, "evictionSweepSeconds": 0}});
    for kind in BOTH {
        let plugin = built(&kind, &parameters);
        let mut scene = scene(&[("x-session-id", "s")], "1");
        choose(&plugin, &scene, 1, "prefill");
        assert_eq!(preferred(&plugin, &scene), None);
        choose(&plugin, &scene, 1, "decode");
        scene.now = Nanos(500_000_000);
        assert_eq!(preferred(&plugin, &scene), Some(1));
        scene.now = Nanos(500_000_001);
        assert_eq!(preferred(&plugin, &scene), None);
    }
}

#[test]
fn the_first_source_with_a_value_counts() {
    let parameters = json!({"strategy": "session_id", "sessionIdConfig": {"sources": [
        {"header": "X-Session-ID"}, {"attribute": "agent-identity"}, {"attribute": "SessionID", "producer": "cookies"}]}});
    let plugin = built(&BOTH[1], &parameters);
    let with = |headers: &[(&'static str, &str)], attributes: &[(&'static str, &str, &str)]| {
        let mut scene = scene(headers, "r");
        for (key, producer, value) in attributes {
            scene
                .request
                .attributes
                .push(key, &(*producer).into(), value);
        }
        scene
    };
    for (row, id) in (0..).zip(["header", "agent", "cookie"]) {
        choose(&plugin, &with(&[("x-session-id", id)], &[]), row, "p");
    }
    let agent = ("agent-identity", "agent-identity", "agent");
    let cookie = ("SessionID", "cookies", "cookie");
    let foreign = ("SessionID", "another", "cookie");
    let header = [("x-session-id", "header")];
    for (headers, attributes, row) in [
        (&header[..], &[agent, cookie][..], Some(0)),
        (&[("x-session-id", "  ")], &[agent, cookie], Some(1)),
        (&[], &[cookie, agent], Some(1)),
        (&[], &[foreign, cookie], Some(2)),
        (&[], &[foreign], None),
    ] {
        assert_eq!(preferred(&plugin, &with(headers, attributes)), row);
    }
}

#[test]
fn scorer_and_filter_remember_apart() {
    let [filter, scorer] = BOTH.map(|kind| built(&kind, &json!({"strategy": "session_id"})));
    let scene = scene(&[("x-session-id", "s")], "1");
    choose(&filter, &scene, 1, "p");
    assert_eq!(preferred(&filter, &scene), Some(1));
    assert_eq!(preferred(&scorer, &scene), None);
}

#[test]
fn wrong_parameters_are_refused_by_place() {
    let session_id =
        |config: serde_json::Value| json!({"strategy": "session_id", "sessionIdConfig": config});
    for (parameters, message) in [
        (
            json!({"strategy": "cookie"}),
            "strategy: must be one of \"encoded_endpoint_header\", \"session_id\", not \"cookie\"",
        ),
        (
            session_id(
                json!({"sources": [{"header": "a"}, {"header": "b", "attribute": "SessionID"}]}),
            ),
            "sessionIdConfig.sources[1].attribute: exactly one of header and attribute must be given, not both",
        ),
        (
            session_id(json!({"sources": [{}]})),
            "sessionIdConfig.sources[0].header: exactly one of header and attribute must be given",
        ),
        (
            session_id(json!({"sources": [{"header": "a", "producer": "p"}]})),
            "sessionIdConfig.sources[0].producer: belongs to an attribute; a header has none",
        ),
        (
            session_id(json!({"sources": [{"attribute": "session"}]})),
            "sessionIdConfig.sources[0].attribute: no plugin makes \"session\"; write \"SessionID\" (session-id-producer) or \"agent-identity\" (agent-identity)",
        ),
        (
            session_id(json!({"evictionTtlSeconds": -1})),
            "sessionIdConfig.evictionTtlSeconds: must be a number of at least 0, not -1",
        ),
        (
            json!({"headerName": "x"}),
            "headerName: unknown field \"headerName\" (known: strategy, encodedEndpointHeaderConfig, sessionIdConfig, profileName)",
        ),
    ] {
        for kind in BOTH {
            assert_eq!(refused(&kind, &parameters), message);
        }
    }
    // The configuration of the strategy that is not chosen changes nothing.
    built(&BOTH[0], &json!({"sessionIdConfig": {"sources": [{}]}}));
    // An empty list is the default.
    let plugin = built(&BOTH[0], &session_id(json!({"sources": []})));
    let scene = scene(&[("x-session-id", "s")], "1");
    choose(&plugin, &scene, 1, "p");
    assert_eq!(preferred(&plugin, &scene), Some(1));
}
