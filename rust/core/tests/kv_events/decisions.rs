//! What engines tell, as decisions use it: who is chosen, and how much of the prompt counts as held there.

use serde_json::{Value as Json, json};
use warmroute_core::exchange::Refusal;
use warmroute_core::kv_events::Engine as Form;
use warmroute_core::plugin::Externals;
use warmroute_core::tokens::TokenizeError;

use crate::gateway::{Ask, EXACT, Gateway, SIZE, policy, stored};
use crate::recorded;
use crate::wire::{Value, count, list, prompt, text};

const FALLBACKS: &str = "prefix_fallbacks_total";

fn on(medium: &str) -> Vec<(&'static str, Value)> {
    vec![("medium", text(medium))]
}

#[test]
fn blocks_count_by_the_weight_of_their_memory_and_are_held_in_any() {
    // (memory of the first endpoint's ten blocks, blocks of the second on the GPU, who is chosen)
    let listed = json!({"indexerConfig": {"kvCacheBackendConfigs": [
        {"name": "GPU", "weight": 1.0}, {"name": "cpu", "weight": 0.8}, {"name": "disk", "weight": 0.2},
    ]}});
    let cases = [
        (json!({}), "CPU", 9, 2),
        (json!({}), "cpu", 7, 1),
        (json!({}), "CPU_PINNED", 9, 2),
        (json!({}), "CPU_PINNED", 7, 1),
        (json!({}), "EXTERNAL", 9, 1),
        (listed.clone(), "DISK", 3, 2),
        (listed, "DISK", 1, 1),
    ];
    let ids = count(0, 20 * SIZE);
    for (parameters, medium, others, chosen) in cases {
        let gateway = Gateway::new(&policy(&parameters, &[]), 2);
        gateway.holds(1, &ids[..10 * SIZE as usize], SIZE, on(medium));
        gateway.holds(2, &ids[..others * SIZE as usize], SIZE, on("GPU"));
        let held = [0, 10, others as u32][usize::from(chosen)] * SIZE;
        let asked = gateway.ask(&Ask::of(&ids));
        assert_eq!(
            asked,
            (chosen, held),
            "{medium} against {others}: {parameters}"
        );
    }
}

#[test]
fn adapters_and_salts_keep_prefixes_apart() {
    let ids = count(0, 5 * SIZE + 3);
    let gateway = Gateway::new(&policy(&json!({}), &[]), 3);
    gateway.holds(1, &ids, SIZE, vec![("lora_name", text("a1"))]);
    let salts = [
        list([text("pepper")]),
        Value::Nil,
        Value::Nil,
        Value::Nil,
        Value::Nil,
    ];
    gateway.holds(2, &ids, SIZE, vec![("extra_keys", list(salts))]);
    gateway.holds(3, &ids[..2 * SIZE as usize], SIZE, vec![]);
    for (model, salt, chosen, blocks) in [
        ("a1", None, 1, 5),
        ("tiny", Some("pepper"), 2, 5),
        ("tiny", None, 3, 2),
    ] {
        let ask = Ask {
            model,
            salt,
            ..Ask::of(&ids)
        };
        assert_eq!(
            gateway.ask(&ask),
            (chosen, blocks * SIZE),
            "{model} {salt:?}"
        );
    }
    for (model, salt) in [
        ("a1", Some("pepper")),
        ("tiny", Some("salt")),
        ("a2", Some("pepper")),
    ] {
        for endpoint in 1..=3 {
            let ask = Ask {
                model,
                salt,
                ..Ask::of(&ids)
            };
            let held = u32::from(model == "a2" && endpoint == 2) * 5 * SIZE;
            assert_eq!(
                gateway.cached(endpoint, ask),
                held,
                "{model} {salt:?} {endpoint}"
            );
        }
    }
}

#[test]
fn prompts_of_one_request_are_summed() {
    let [first, second] = [count(0, 4 * SIZE + 1), count(5000, 6 * SIZE + 1)];
    let gateway = Gateway::new(&policy(&json!({}), &[]), 2);
    gateway.holds(1, &first, SIZE, vec![]);
    let mut other = gateway.holds(2, &first[..2 * SIZE as usize], SIZE, vec![]);
    other.send(vec![stored(&second[..3 * SIZE as usize], SIZE, vec![])]);
    let tokens = Some(Ok(vec![prompt(&first), prompt(&second)]));
    let ask = || Ask {
        tokens: tokens.clone(),
        ..Ask::of(&[])
    };
    assert_eq!(gateway.ask(&ask()), (2, 5 * SIZE));
    assert_eq!(gateway.cached(1, ask()), 4 * SIZE);
}

#[test]
fn sizes_of_blocks_may_differ_and_a_made_up_one_costs_the_others_nothing() {
    let ids = count(0, 4 * 64 + 5);
    let gateway = Gateway::new(&policy(&json!({}), &[]), 5);
    gateway.holds(1, &ids[..64], SIZE, vec![]);
    gateway.holds(2, &ids[..2 * 64], 64, vec![]);
    gateway.holds(3, &ids[..48], SIZE, vec![]);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (2, 128));
    let ratio = || gateway.metric("kv_cache_index_max_pod_hit_count_total", &[]);
    assert_eq!(ratio(), Some(8), "in blocks of 16");
    // One that says that its blocks are of a token each, and that it has the others' as well.
    gateway.holds(4, &ids[..9], 1, vec![]);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (2, 128));
    assert_eq!(ratio(), Some(16), "still in blocks of 16");
    for (endpoint, held) in [(1, 64), (3, 48), (4, 0), (5, 0)] {
        assert_eq!(gateway.cached(endpoint, Ask::of(&ids)), held, "{endpoint}");
    }
}

#[test]
fn engines_of_one_endpoint_count_with_the_best_of_them() {
    let ids = count(0, 10 * SIZE + 1);
    let gateway = Gateway::new(&policy(&json!({}), &[]), 2);
    let mut ranks = [0, 1].map(|rank| gateway.publisher(1, rank, Form::Vllm));
    ranks[0].send(vec![stored(&ids[..2 * SIZE as usize], SIZE, vec![])]);
    ranks[1].send(vec![stored(&ids[..5 * SIZE as usize], SIZE, vec![])]);
    gateway.holds(2, &ids[..4 * SIZE as usize], SIZE, vec![]);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (1, 5 * SIZE));
    gateway.engine.kv_events().close(ranks[1].id);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (2, 4 * SIZE));
    assert_eq!(gateway.cached(1, Ask::of(&ids)), 2 * SIZE);
}

#[test]
fn endpoints_that_tell_nothing_are_expected_to_hold_what_they_were_sent() {
    let ids = count(0, 10 * 64 + 1);
    let gateway = Gateway::new(&policy(&json!({}), &[]), 3);
    let among = |among| Ask {
        among,
        ..Ask::of(&ids)
    };
    assert_eq!(gateway.ask(&among(&[1])), (1, 0), "nothing was sent yet");
    // What was sent is matched by 64 tokens; 2 tells that it has less, 3 nothing at all.
    gateway.holds(2, &ids[..4 * SIZE as usize], SIZE, vec![]);
    assert_eq!(gateway.ask(&among(&[1, 2, 3])), (1, 10 * 64));
    assert_eq!(gateway.cached(2, among(&[])), 4 * SIZE);
    assert_eq!(gateway.cached(3, among(&[])), 0);
    // Now it tells: what it was sent counts for nothing.
    let mut first = gateway.publisher(1, 0, Form::Vllm);
    assert_eq!(
        gateway.ask(&among(&[1, 2])),
        (1, 10 * 64),
        "not heard of yet"
    );
    first.send(vec![]);
    assert_eq!(gateway.ask(&among(&[1, 2])), (2, 4 * SIZE));
    first.send(vec![stored(&ids, SIZE, vec![])]);
    assert_eq!(gateway.ask(&among(&[1, 2])), (1, 10 * 64));
    // Its connection is lost: what it said may be old, what was sent is the better guess.
    gateway.engine.kv_events().connected(first.id, false);
    assert_eq!(gateway.cached(1, among(&[])), 10 * 64);
}

#[test]
fn what_cannot_be_matched_exactly_is_matched_by_what_was_sent_and_counted_by_its_reason() {
    let ids = count(0, 5 * 64 + 1);
    let gateway = Gateway::new(&policy(&json!({}), &[]), 2);
    let fallbacks = |reason| gateway.metric(FALLBACKS, &[reason]);
    let asked = |tokens| {
        gateway
            .try_ask(&Ask {
                tokens,
                ..Ask::of(&[])
            })
            .expect("an endpoint")
    };
    let whole = || Some(Ok(vec![prompt(&ids)]));
    asked(whole());
    gateway.publisher(1, 0, Form::Vllm);
    asked(whole());
    assert_eq!(
        fallbacks("no_events"),
        Some(2),
        "subscribed to, and not heard of"
    );
    let (home, cached) = gateway.ask(&Ask::of(&ids));
    assert_eq!(cached, 5 * 64, "by what was sent");
    gateway.holds(3 - home, &ids, SIZE, vec![]);
    let errors = [
        TokenizeError::Busy,
        TokenizeError::Unavailable("down".into()),
        TokenizeError::BadRequest("no template".into()),
        TokenizeError::Unsupported("a film".into()),
    ];
    for error in errors {
        let reason = error.reason();
        asked(Some(Err(error)));
        assert_eq!(fallbacks(reason), Some(1), "{reason}");
    }
    asked(None);
    asked(Some(Ok(vec![prompt(&[])])));
    assert_eq!(fallbacks("no_tokens"), Some(2));
    let lookups = gateway.metric("kv_cache_index_lookup_requests_total", &[]);
    assert_eq!(lookups, Some(0));
    let told = gateway.cached(3 - home, Ask::of(&ids));
    assert_eq!(told, 5 * 64, "by what it tells");
}

#[test]
fn recorded_events_of_a_real_engine_decide() {
    let gateway = Gateway::new(&policy(&json!({}), &[]), 2);
    let publisher = gateway.publisher(2, 0, Form::Vllm);
    for [topic, sequence, payload] in &recorded::messages() {
        let events = gateway.engine.kv_events();
        events.receive(publisher.id, topic, sequence, payload);
    }
    gateway.publisher(1, 0, Form::Vllm).send(vec![]);
    let [first, own] = [0, 3].map(|message| recorded::tokens(&recorded::messages()[message][2]));
    let third = [&first[..], &own[..20]].concat();
    // As the engine itself answered: 96 of 116.
    assert_eq!(gateway.ask(&Ask::of(&third)), (2, 96));
}

/// The exact producer beside the approximate one; `more` names whose matches a plugin goes by.
fn beside(more: &[Json]) -> Gateway {
    let approximate = json!({"type": "approx-prefix-cache-producer"});
    let more = [&[approximate], more].concat();
    Gateway::new(&policy(&json!({}), &more), 2)
}

#[test]
fn plugins_go_by_the_producer_that_they_name() {
    let ids = count(0, 4 * 64 + 1);
    for (named, held) in [(Some(EXACT), 2 * SIZE), (None, 4 * 64)] {
        let parameters = json!({"prefixMatchInfoProducerName": named});
        let in_flight = json!({"type": "inflight-load-producer", "parameters": parameters});
        let gateway = beside(&[in_flight]);
        gateway.holds(1, &ids[..2 * SIZE as usize], SIZE, vec![]);
        gateway.publisher(2, 0, Form::Vllm).send(vec![]);
        gateway.ask(&Ask::of(&ids));
        assert_eq!(gateway.ask(&Ask::of(&ids)), (1, held), "{named:?}");
    }
    let parameters = json!({"prefixMatchInfoProducerName": EXACT});
    let source = json!({"type": "p2p-source-producer", "parameters": parameters});
    let gateway = beside(&[source]);
    // On a disk it counts for little, so the other one is chosen, and may fetch it.
    let mut first = gateway.holds(1, &ids[..SIZE as usize], SIZE, vec![]);
    gateway.holds(2, &ids[..3 * SIZE as usize], SIZE, vec![]);
    let source = |among| {
        let ask = Ask {
            among,
            ..Ask::of(&ids)
        };
        let decision = gateway.try_ask(&ask).expect("an endpoint");
        assert_eq!(decision.destination, "10.0.0.2:8000");
        let mut set = decision.edits.set.into_iter();
        set.find(|(name, _)| name == "x-kv-cache-source-host-port")
            .map(|(_, value)| value)
    };
    assert_eq!(source(&[]), None, "nobody has more");
    first.send(vec![stored(&ids, SIZE, on("disk"))]);
    let weights =
        json!({"indexerConfig": {"kvCacheBackendConfigs": [{"name": "disk", "weight": 0.1}]}});
    let approximate = json!({"type": "approx-prefix-cache-producer"});
    let source_plugin = json!({"type": "p2p-source-producer", "parameters": parameters});
    let cheap = policy(&weights, &[approximate, source_plugin]);
    gateway
        .engine
        .reload(&cheap, &Externals::new())
        .expect("valid");
    assert_eq!(source(&[]).as_deref(), Some(&b"10.0.0.1:8000"[..]));
    assert_eq!(source(&[2]), None, "nobody else is allowed");
}

#[test]
fn only_an_endpoint_that_holds_something_is_good_enough_for_a_client_that_wants_a_warm_one() {
    let ids = count(0, 4 * SIZE + 1);
    let gateway = Gateway::new(&policy(&json!({}), &[]), 2);
    gateway.publisher(1, 0, Form::Vllm).send(vec![]);
    let mut second = gateway.publisher(2, 0, Form::Vllm);
    second.send(vec![]);
    let ask = Ask {
        headers: &[("prefer", "if-available")],
        ..Ask::of(&ids)
    };
    assert_eq!(
        gateway.try_ask(&ask).expect_err("nobody"),
        Refusal::NotCached
    );
    second.send(vec![stored(&ids[..2 * SIZE as usize], SIZE, on("CPU"))]);
    assert_eq!(gateway.ask(&ask), (2, 2 * SIZE), "1.6 blocks, and there");
}

#[test]
fn each_producer_has_its_figures_on_the_metrics_page() {
    let ids = count(0, 10 * SIZE);
    let gateway = beside(&[]);
    gateway.holds(1, &ids[..5 * SIZE as usize], SIZE, vec![]);
    gateway.publisher(2, 0, Form::Vllm).send(vec![]);
    assert_eq!(gateway.ask(&Ask::of(&ids)).0, 1);
    gateway.engine.maintain();
    let approximate = "approx-prefix-cache-producer";
    let of = |name: &str, producer: &str| gateway.metric(name, &[producer, producer]);
    assert_eq!(of("prefix_indexer_size", EXACT), Some(5));
    assert_eq!(
        of("prefix_indexer_size", approximate),
        Some(3),
        "160 tokens by 64"
    );
    for producer in [EXACT, approximate] {
        assert_eq!(
            of("prefix_indexer_hit_ratio", producer),
            Some(1),
            "{producer}"
        );
        assert_eq!(
            of("prefix_indexer_hit_bytes", producer),
            Some(1),
            "{producer}"
        );
    }
    for (name, value) in [
        ("kv_cache_index_lookup_requests_total", 1),
        ("kv_cache_index_lookup_hits_total", 1),
        ("kv_cache_index_max_pod_hit_count_total", 5),
        ("kv_cache_index_lookup_latency_seconds", 1),
        ("kv_cache_index_admissions_total", 5),
        ("kv_cache_index_evictions_total", 0),
        ("kv_cache_index_pairs", 5),
        ("kv_cache_events_active_subscribers", 2),
    ] {
        assert_eq!(gateway.metric(name, &[]), Some(value), "{name}");
    }
}
