//! Whole policies: what handlers, filters and detectors make of a decision together.

use bytes::Bytes;
use serde_json::{Value, json};
use warmroute_core::Nanos;
use warmroute_core::engine::{Decision, Engine, Inquiry, PolicySpec, Settings};
use warmroute_core::exchange::{Header, Refusal};
use warmroute_core::plugin::Externals;
use warmroute_core::pool::{EndpointIdentity, EngineMetrics};
use warmroute_core::schedule::RequestFacts;

const NOW: Nanos = Nanos(10_000_000_000);

/// An engine with endpoints 10.0.0.1 and on, port 8001, one for each role; fresh and idle.
fn engine(policy: Value, max_endpoints: usize, roles: &[&str]) -> Engine {
    let policy: PolicySpec = serde_json::from_value(policy).expect("a policy's form");
    let settings = Settings {
        max_endpoints,
        ..Settings::default()
    };
    let engine =
        Engine::new(settings, &policy, &Externals::new(), || NOW).expect("a usable policy");
    for (number, role) in (1..).zip(roles) {
        let endpoint = EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{number}").into(),
            address: [10, 0, 0, number].into(),
            port: 8001,
            metrics_host: None,
            labels: [("llm-d.ai/role".into(), (*role).into())].into(),
        };
        engine.upsert_endpoint(endpoint).expect("room in the pool");
    }
    for endpoint in &engine.pool().snapshot().endpoints {
        endpoint.refresh(EngineMetrics::default(), NOW);
    }
    engine
}

fn decide(engine: &Engine, facts: RequestFacts) -> Result<Decision, Refusal> {
    decide_prompt(engine, facts, &[])
}

/// As `decide`, with block ids of the prompts.
fn decide_prompt(
    engine: &Engine,
    facts: RequestFacts,
    sequences: &[Vec<u64>],
) -> Result<Decision, Refusal> {
    engine.decide(&Inquiry {
        active: &engine.active(),
        facts,
        sequences,
        cache_salt: None,
        tokens: None,
        subset_hint: None,
        request_id: &Bytes::from_static(b"request"),
        explain: false,
        now: NOW,
    })
}

fn with_header(name: &'static str, value: &'static str) -> RequestFacts {
    RequestFacts {
        headers: vec![Header {
            key: name.into(),
            value: value.into(),
        }],
        ..RequestFacts::default()
    }
}

fn with_priority(priority: i32) -> RequestFacts {
    RequestFacts {
        priority,
        ..RequestFacts::default()
    }
}

#[test]
fn a_header_names_the_stage_and_its_profile_keeps_the_endpoints_of_that_role() {
    let stage =
        |name: &str| json!({"name": name, "plugins": [{"plugin": format!("{name}-filter")}]});
    let policy = json!({
        "plugins": [{"type": "header-profile-handler"}, {"type": "prefill-filter"}, {"type": "decode-filter"}],
        "profiles": [stage("prefill"), stage("decode")],
    });
    let engine = engine(policy, 1, &["prefill", "decode"]);
    for (facts, profile, destination) in [
        (
            with_header("epp-profile", "prefill"),
            "prefill",
            "10.0.0.1:8001",
        ),
        (
            with_header("epp-profile", "decode"),
            "decode",
            "10.0.0.2:8001",
        ),
        (RequestFacts::default(), "decode", "10.0.0.2:8001"),
    ] {
        let decision = decide(&engine, facts).expect("an endpoint of the role");
        assert_eq!(
            (&*decision.profile, &*decision.destination),
            (profile, destination.as_bytes())
        );
    }
    let refusal =
        decide(&engine, with_header("epp-profile", "encode")).expect_err("no such profile");
    assert_eq!(refusal.status(), 429);
}

#[test]
fn data_parallel_destinations_have_the_primary_port_and_the_rank_is_in_a_header() {
    let policy = json!({
        "plugins": [
            {"type": "data-parallel-profile-handler"},
            {"type": "by-label", "parameters": {"label": "llm-d.ai/role", "validValues": ["decode"]}},
        ],
        "profiles": [{"name": "default", "plugins": [{"plugin": "by-label"}]}],
    });
    let engine = engine(policy, 2, &["decode", "prefill", "decode"]);
    let decision = decide(&engine, RequestFacts::default()).expect("an endpoint");
    let rank = &decision.edits.set[0];
    assert_eq!(&*rank.0, b"x-data-parallel-host-port");
    let expected = match &*rank.1 {
        b"10.0.0.1:8001" => "10.0.0.1:8000,10.0.0.3:8000",
        b"10.0.0.3:8001" => "10.0.0.3:8000,10.0.0.1:8000",
        other => panic!("{other:?}"),
    };
    assert_eq!(&*decision.destination, expected.as_bytes());
    // The load is on the rank, not on the primary port.
    assert_eq!(
        decision.reservation.endpoint().authority.as_bytes(),
        &*rank.1
    );
}

#[test]
fn detectors_shed_only_what_can_be_dropped_and_only_a_saturated_pool() {
    for (detector, parameters) in [
        ("utilization-detector", json!({"queueDepthThreshold": 2})),
        ("concurrency-detector", json!({"maxConcurrency": 2})),
    ] {
        let policy = json!({
            "plugins": [{"type": detector, "parameters": parameters}],
            "profiles": [{"name": "default", "plugins": []}],
            "saturation_detector": detector,
        });
        let engine = engine(policy, 1, &["decode"]);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(decide(&engine, with_priority(-1)).expect("not saturated"));
        }
        let busy = EngineMetrics {
            waiting: Some(2.0),
            ..EngineMetrics::default()
        };
        engine.pool().snapshot().endpoints[0].refresh(busy, NOW);
        let refusal = decide(&engine, with_priority(-1)).expect_err("saturated");
        assert!(matches!(refusal, Refusal::Shed), "{detector} {refusal:?}");
        decide(&engine, with_priority(0)).expect("not to be dropped");
        drop(held);
        engine.pool().snapshot().endpoints[0].refresh(EngineMetrics::default(), NOW);
        decide(&engine, with_priority(-1)).expect("idle again");
    }
}

#[test]
fn a_detector_as_filter_keeps_all_or_nothing_of_a_saturated_pool_as_its_kind_does() {
    let policy = |detector: &str, parameters: Value| {
        json!({
            "plugins": [{"type": detector, "parameters": parameters}],
            "profiles": [{"name": "default", "plugins": [{"plugin": detector}]}],
        })
    };
    let open = engine(policy("utilization-detector", json!({})), 1, &["decode"]);
    open.pool().snapshot().endpoints[0].refresh(EngineMetrics::default(), Nanos(1));
    decide(&open, RequestFacts::default()).expect("stale metrics everywhere keep all");
    let closed = engine(
        policy("concurrency-detector", json!({"maxConcurrency": 1})),
        1,
        &["decode"],
    );
    let _held = decide(&closed, RequestFacts::default()).expect("idle");
    let refusal = decide(&closed, RequestFacts::default()).expect_err("full");
    assert_eq!(refusal.status(), 429);
}

/// A policy of one plugin, and an engine of three endpoints with it.
fn one_plugin(plugin: &str, parameters: &Value) -> Engine {
    let policy = json!({
        "plugins": [{"type": plugin, "parameters": parameters}],
        "profiles": [{"name": "default", "plugins": [{"plugin": plugin}]}],
    });
    engine(policy, 1, &["decode"; 3])
}

/// Where a prompt of `blocks` blocks goes, all different but for those that begin with the same number.
fn send(engine: &Engine, first: u64, blocks: u64) -> Decision {
    let facts = RequestFacts {
        prompt_tokens: blocks as u32 * engine.block_tokens(),
        ..RequestFacts::default()
    };
    let ids = (0..blocks).map(|block| first * 1000 + block).collect();
    decide_prompt(engine, facts, &[ids]).expect("an endpoint")
}

#[test]
fn hashed_beginnings_keep_their_endpoint_until_it_is_full_in_every_picker() {
    let engines = [(); 2].map(|()| one_plugin("bounded-hash-scorer", &json!({"prefixTokens": 1})));
    let mut used = std::collections::BTreeSet::new();
    for first in 0..30 {
        let destination = send(&engines[0], first, 9).destination;
        // The other picker has decided nothing of it, and the prompt goes on differently.
        assert_eq!(send(&engines[1], first, 4).destination, destination);
        let held = send(&engines[0], first, 9);
        assert_eq!(held.destination, destination);
        // One of ⌈1.25 · 2 / 3⌉ is in flight there.
        assert_ne!(send(&engines[0], first, 9).destination, destination);
        used.insert(destination);
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn a_prompt_that_nobody_knows_goes_to_the_smallest_index_and_then_stays() {
    let engine = one_plugin("cache-aware-scorer", &json!({"absoluteThreshold": 1}));
    let sizes = [7, 2, 5];
    let chosen: Vec<_> = (1..)
        .zip(sizes)
        .map(|(first, blocks)| send(&engine, first, blocks).destination)
        .collect();
    assert!(chosen[0] != chosen[1] && chosen[1] != chosen[2] && chosen[2] != chosen[0]);
    // 7, 2 and 5 blocks: the second has least, also with 2 more, and then the third.
    for (first, blocks, place) in [(4, 2, 1), (5, 2, 1), (6, 1, 2)] {
        assert_eq!(send(&engine, first, blocks).destination, chosen[place]);
    }
    let held = [(); 2].map(|()| send(&engine, 1, 7));
    assert!(
        held.iter()
            .all(|decision| decision.destination == chosen[0])
    );
    // Two in flight there and none elsewhere are uneven.
    assert_ne!(send(&engine, 1, 7).destination, chosen[0]);
}

#[test]
fn turns_go_on_with_endpoints_that_come_and_go() {
    let engine = one_plugin("round-robin-picker", &json!({}));
    let turn = || {
        let decision = decide(&engine, RequestFacts::default()).expect("an endpoint");
        String::from_utf8_lossy(&decision.destination)
            .trim_start_matches("10.0.0.")
            .trim_end_matches(":8001")
            .to_owned()
    };
    let turns = |count| (0..count).map(|_| turn()).collect::<Vec<_>>().concat();
    assert_eq!(turns(4), "1231");
    assert!(engine.pool().remove("default", "endpoint-3"));
    assert_eq!(turns(3), "212");
    let endpoint = EndpointIdentity {
        namespace: "default".into(),
        name: "endpoint-0".into(),
        address: [10, 0, 0, 9].into(),
        port: 8001,
        metrics_host: None,
        labels: [].into(),
    };
    engine.upsert_endpoint(endpoint).expect("room in the pool");
    assert_eq!(turns(6), "912912");
}
