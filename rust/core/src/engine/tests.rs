//! Reloads while requests are decided.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use super::*;
use crate::exchange::{
    BodyMode, Exchange, Header, HttpBody, HttpHeaders, Message, Phase, ProtocolConfig, Reply,
};
use crate::schedule::RequestFacts;

fn engine(policy: &PolicySpec) -> Arc<Engine> {
    let engine = Engine::new(Settings::default(), policy, &Externals::new(), || Nanos(0))
        .expect("a valid policy");
    for number in 1..=2 {
        let identity = EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{number}").into(),
            address: [10, 0, 0, number].into(),
            port: 8000,
            metrics_host: None,
            labels: std::collections::BTreeMap::new(),
        };
        engine.upsert_endpoint(identity).expect("room");
    }
    Arc::new(engine)
}

fn policy(plugins: &serde_json::Value, profile: &str, scorer: &str) -> PolicySpec {
    serde_json::from_value(json!({
        "plugins": plugins,
        "profiles": [{"name": profile, "plugins": [{"plugin": scorer}]}],
    }))
    .expect("a policy")
}

/// Sends to port 9000 and names the rank in a header.
fn redirecting() -> PolicySpec {
    policy(
        &json!([
            {"type": "queue-scorer"},
            {"type": "data-parallel-profile-handler", "parameters": {"primaryPort": 9000}},
        ]),
        "redirecting",
        "queue-scorer",
    )
}

/// Remembers sessions.
fn sticky(ttl: u32) -> PolicySpec {
    policy(
        &json!([{
            "type": "session-affinity-scorer",
            "parameters": {"strategy": "session_id", "sessionIdConfig": {"evictionTtlSeconds": ttl}},
        }]),
        "sticky",
        "session-affinity-scorer",
    )
}

fn decide(engine: &Engine, session: &str) -> Decision {
    let active = engine.active();
    let request_id = Bytes::copy_from_slice(session.as_bytes());
    let header = Header {
        key: Bytes::from("x-session-id"),
        value: request_id.clone(),
    };
    let decided = engine.decide(&Inquiry {
        active: &active,
        facts: RequestFacts {
            target_model: "m".into(),
            prompt_tokens: 64,
            headers: vec![header],
            ..RequestFacts::default()
        },
        sequences: &[],
        cache_salt: None,
        tokens: None,
        subset_hint: None,
        request_id: &request_id,
        explain: false,
        now: Nanos(0),
    });
    decided.expect("an endpoint")
}

#[test]
fn each_decision_is_made_by_one_policy_and_reserves_once_while_policies_change() {
    let engine = engine(&sticky(300));
    let done = AtomicBool::new(false);
    let [redirected, stayed] = thread::scope(|scope| {
        let deciding = || {
            let mut seen = [0_u32; 2];
            while !done.load(Ordering::Relaxed) || seen.contains(&0) {
                let decision = decide(&engine, "session");
                let redirecting = &*decision.profile == "redirecting";
                seen[usize::from(!redirecting)] += 1;
                assert_eq!(decision.redirected, redirecting);
                assert_eq!(decision.edits.set.len(), usize::from(redirecting));
                let port = if redirecting { ":9000" } else { ":8000" };
                assert!(decision.destination.ends_with(port.as_bytes()));
            }
            seen
        };
        let deciders = [scope.spawn(deciding), scope.spawn(deciding)];
        for round in 0..200 {
            let policy = [redirecting(), sticky(300)][round % 2].clone();
            engine.reload(&policy, &Externals::new()).expect("valid");
        }
        done.store(true, Ordering::Relaxed);
        // Whoever has seen only one of them goes on until there is the other.
        let mut round = 0;
        while deciders.iter().any(|decider| !decider.is_finished()) {
            let policy = [redirecting(), sticky(300)][round % 2].clone();
            engine.reload(&policy, &Externals::new()).expect("valid");
            round += 1;
        }
        let mut sums = [0; 2];
        for decider in deciders {
            let seen = decider.join().expect("no decision failed");
            sums = [sums[0] + seen[0], sums[1] + seen[1]];
        }
        sums
    });
    assert!(redirected > 0 && stayed > 0);
    for endpoint in &engine.pool().snapshot().endpoints {
        assert_eq!(endpoint.inflight_requests(), 0);
    }
}

#[test]
fn a_policy_that_is_refused_changes_nothing_and_what_stayed_the_same_keeps_its_state() {
    let engine = engine(&sticky(300));
    let home = decide(&engine, "a session").destination;
    let keeps_home = || (0..20).all(|_| decide(&engine, "a session").destination == home);
    let reload = |policy: &PolicySpec| engine.reload(policy, &Externals::new());
    assert!(keeps_home());
    let mut bad = redirecting();
    bad.plugins[0].type_name = "queue-scorrer".to_owned();
    assert!(reload(&bad).is_err());
    assert!(keeps_home());
    reload(&sticky(300)).expect("valid");
    assert!(keeps_home());
    // Another time to live is another plugin, which knows no session: one of some new sessions goes elsewhere.
    let moves = (0..64).any(|_| {
        reload(&sticky(299)).expect("valid");
        reload(&sticky(300)).expect("valid");
        decide(&engine, "a session").destination != home
    });
    assert!(moves);
}

#[test]
fn a_response_is_asked_for_by_the_policy_that_decided_the_request() {
    let reporting = policy(
        &json!([
            {"type": "queue-scorer"},
            {"type": "request-attribute-reporter", "parameters": {"attributes": [{"key": {"name": "cost"}, "expression": "usage.total_tokens"}]}},
        ]),
        "default",
        "queue-scorer",
    );
    let silent = policy(
        &json!([{"type": "queue-scorer"}]),
        "default",
        "queue-scorer",
    );
    for (first, second, asked) in [(&reporting, &silent, true), (&silent, &reporting, false)] {
        let engine = engine(first);
        let mut exchange = Exchange::new(Arc::clone(&engine));
        let mut receive = |phase: Phase| -> Vec<Reply> {
            let mut replies = Vec::new();
            let message = Message {
                protocol_config: Some(ProtocolConfig {
                    request_body_mode: BodyMode::Buffered,
                    response_body_mode: BodyMode::None,
                    send_body_without_waiting_for_header_response: false,
                }),
                ..Message::new(phase)
            };
            exchange.receive(message, Nanos(0), &mut replies);
            replies
        };
        let headers = |pairs: &[(&'static str, &'static str)]| HttpHeaders {
            headers: pairs
                .iter()
                .map(|&(key, value)| Header {
                    key: Bytes::from(key),
                    value: Bytes::from(value),
                })
                .collect(),
            end_of_stream: false,
        };
        receive(Phase::RequestHeaders(headers(&[(
            ":path",
            "/v1/completions",
        )])));
        receive(Phase::RequestBody(HttpBody {
            body: Bytes::from(r#"{"model":"m","prompt":"p"}"#),
            end_of_stream: true,
        }));
        engine.reload(second, &Externals::new()).expect("valid");
        let replies = receive(Phase::ResponseHeaders(headers(&[(":status", "200")])));
        assert_eq!(replies[0].mode_override.is_some(), asked);
    }
}
