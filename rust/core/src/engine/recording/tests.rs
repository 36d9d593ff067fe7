//! What is sampled, what is lost, and what a line holds.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::PolicySpec;
use crate::engine::{Decision, Rerun, Settings};
use crate::plugin::Externals;
use crate::pool::{EndpointIdentity, EngineMetrics};
use crate::schedule::RequestFacts;

fn engine(sample: f64, policy: &PolicySpec, endpoints: u16) -> Engine {
    let settings = Settings {
        record_sample: Some(sample),
        seed: Some(7),
        ..Settings::default()
    };
    let clock = || Nanos(5_000_000_000);
    let engine = Engine::new(settings, policy, &Externals::new(), clock).expect("a valid policy");
    for number in 0..endpoints {
        let identity = identity(&format!("endpoint-{number:03}"), number);
        engine.upsert_endpoint(identity).expect("room");
    }
    engine
}

fn identity(name: &str, number: u16) -> EndpointIdentity {
    let [high, low] = number.to_be_bytes();
    EndpointIdentity {
        namespace: "default".into(),
        name: name.into(),
        address: [10, 0, high, low].into(),
        port: 8000,
        metrics_host: None,
        labels: std::collections::BTreeMap::from([("gpu".into(), "h100".into())]),
    }
}

fn decide(engine: &Engine, blocks: &[u64], model: &str) -> Decision {
    let active = engine.active();
    let sequences = [blocks.to_vec()];
    let request_id = Bytes::from_static(b"a-request");
    let inquiry = Inquiry {
        active: &active,
        facts: RequestFacts {
            target_model: model.into(),
            prompt_tokens: blocks.len() as u32 * engine.block_tokens(),
            max_tokens: Some(9),
            request_id: request_id.clone(),
            fairness_id: "a-tenant".into(),
            ..RequestFacts::default()
        },
        sequences: &sequences,
        cache_salt: None,
        tokens: None,
        subset_hint: None,
        request_id: &request_id,
        explain: false,
        now: Nanos(6_250_000_000),
    };
    engine.decide(&inquiry).expect("an endpoint")
}

/// Ends the exchange of a decision; false: it was not recorded.
fn end(engine: &Engine, decision: Decision) -> bool {
    let served = Arc::clone(decision.reservation.endpoint());
    end_at(engine, decision, served)
}

fn end_at(engine: &Engine, decision: Decision, served: Arc<Endpoint>) -> bool {
    let Some(mut entry) = decision.recorded else {
        return false;
    };
    entry.status = Some(200);
    let ending = Ending {
        duration: Duration::from_micros(1_500),
        first_token: Some(Duration::from_millis(1)),
        output_tokens: Some(3),
        served,
    };
    engine.recorded(entry, ending);
    true
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    let lines = lines.map(|line| serde_json::from_str(line).expect("a line of JSON"));
    lines.collect()
}

#[test]
fn a_name_that_no_engine_knew_is_not_written() {
    let engine = engine(1.0, &PolicySpec::default_policy(), 1);
    let endpoint = &engine.pool().snapshot().endpoints[0];
    let metrics = EngineMetrics {
        running_adapters: vec!["an-adapter".into()],
        ..EngineMetrics::default()
    };
    endpoint.refresh(metrics, Nanos(1));
    let asked = [
        ("a-model", Some(200), "a-model"),
        ("a secret", Some(404), ""),
        ("a secret", None, ""),
        ("an-adapter", Some(500), "an-adapter"),
    ];
    for (model, status, _) in asked {
        let mut decision = decide(&engine, &[1], model);
        let mut entry = decision.recorded.take().expect("a sample of all");
        entry.status = status;
        let ending = Ending {
            duration: Duration::from_millis(1),
            first_token: None,
            output_tokens: None,
            served: Arc::clone(decision.reservation.endpoint()),
        };
        engine.recorded(entry, ending);
    }
    let text = engine.take_recorded(10);
    let told = lines(&text);
    let told = told.iter().filter(|line| line.get("candidates").is_some());
    let told: Vec<_> = told.map(|line| line["model"].clone()).collect();
    assert_eq!(told, asked.map(|(_, _, written)| json!(written)));
}

#[test]
fn a_line_tells_the_decision_and_nothing_of_who_asked() {
    let engine = engine(1.0, &PolicySpec::default_policy(), 2);
    for (number, waiting) in [(0, 3.0), (1, 5.5)] {
        let endpoint = &engine.pool().snapshot().endpoints[number];
        let metrics = EngineMetrics {
            waiting: Some(waiting),
            kv_usage: Some(0.25),
            running_adapters: vec!["an-adapter".into()],
            max_adapters: Some(2),
            ..EngineMetrics::default()
        };
        endpoint.refresh(metrics, Nanos(1));
    }
    let blocks: Vec<u64> = (1..=4).collect();
    let first = decide(&engine, &blocks, "m");
    let destination = first.destination.clone();
    let other = engine.pool().snapshot();
    let mut others = other.endpoints.iter();
    let retried = others
        .find(|endpoint| destination != endpoint.authority.as_bytes())
        .expect("two endpoints");
    let second = decide(&engine, &blocks, "an-adapter");
    end_at(&engine, first, Arc::clone(retried));
    end(&engine, second);
    let header = engine
        .recording_header("kind: x\n", 1_000.0)
        .expect("it records");
    let taken = engine.take_recorded(10);
    let all = lines(&format!("{header}{taken}"));
    let [header, first, second] = all.as_slice() else {
        panic!("three lines: {all:?}");
    };
    assert_eq!(header["warmroute_recording"], 1);
    assert_eq!(header["policy"], "kind: x\n");
    assert_eq!(header["endpoints"][1]["address"], "10.0.0.1:8000");
    assert_eq!(header["endpoints"][1]["labels"]["gpu"], "h100");
    assert_eq!(first["timestamp"], json!(1250.0));
    assert_eq!(first["input_length"], json!(4 * 64));
    assert_eq!(
        (&first["ttft_ms"], &first["duration_ms"], &first["status"]),
        (&json!(1.0), &json!(1.5), &json!(200))
    );
    assert_eq!(
        first["served"],
        1 - first["chosen"].as_u64().expect("a number")
    );
    assert_eq!(second["served"], Value::Null, "not retried");
    assert_eq!(first["candidates"]["waiting"], json!([3, 5.5]));
    assert_eq!(first["candidates"]["kv"], json!([0.25, 0.25]));
    assert_eq!(
        first["prefixes"][0]["producer"],
        "approx-prefix-cache-producer"
    );
    assert_eq!(first["adapters"][1]["running"], json!(["an-adapter"]));
    assert_eq!(
        (&first["lora"], &second["lora"]),
        (&Value::Null, &json!("an-adapter"))
    );
    for secret in ["a-request", "a-tenant"] {
        assert!(!taken.contains(secret), "{taken}");
    }
}

#[test]
fn equal_prefixes_have_equal_numbers_which_are_others_in_each_recording() {
    for policy in [
        PolicySpec::default_policy(),
        PolicySpec::of_scorers(&[("queue-scorer", 1.0)]),
    ] {
        let [one, other] = [(); 2].map(|()| {
            let engine = engine(1.0, &policy, 1);
            let decisions = [&[1_u64, 2, 3][..], &[1, 2, 4]].map(|blocks| {
                let decision = decide(&engine, blocks, "m");
                // Beside what was hashed by the policy: neither may stand in the file.
                let chain = prefix::chain(prefix::seed("m", None), blocks);
                end(&engine, decision);
                chain
            });
            let text = engine.take_recorded(10);
            let mask = (1_u64 << 53) - 1;
            let unsalted = decisions.iter().flatten();
            for number in unsalted.flat_map(|hash| [*hash, hash & mask, hash >> 11]) {
                assert!(!text.contains(&number.to_string()), "{number}: {text}");
            }
            let all = lines(&text);
            let ids = all.iter().filter_map(|line| line.get("hash_ids"));
            let ids: Vec<Vec<u64>> = ids
                .map(|ids| serde_json::from_value(ids.clone()).expect("numbers"))
                .collect();
            ids
        });
        assert_eq!(one[0][..2], one[1][..2]);
        assert_ne!(one[0][2], one[1][2]);
        assert!(one.iter().flatten().all(|id| *id < 1 << 53));
        assert_ne!(one[0], other[0], "another salt");
    }
}

#[test]
fn about_the_share_that_was_asked_for_is_recorded() {
    let engine = engine(0.1, &PolicySpec::default_policy(), 2);
    let recorded = (0..5_000)
        .filter(|_| {
            let decision = decide(&engine, &[1], "m");
            end(&engine, decision)
        })
        .count();
    // Five standard deviations of a binomial: 21 each.
    assert!((395..=605).contains(&recorded), "{recorded} of 5,000");
    let state = engine.recording_state().expect("it records");
    assert_eq!((state.queued, state.lost), (recorded, 0));
}

#[test]
fn a_full_queue_loses_entries_and_a_stopped_recorder_takes_none() {
    let engine = engine(1.0, &PolicySpec::default_policy(), 2);
    for _ in 0..QUEUED + 3 {
        let decision = decide(&engine, &[1], "m");
        assert!(end(&engine, decision));
    }
    let state = || engine.recording_state().expect("it records");
    assert_eq!((state().queued, state().lost), (QUEUED, 3));
    let pending = decide(&engine, &[1], "m");
    assert_eq!(lines(&engine.take_recorded(5)).len(), 5 + 1);
    assert_eq!((state().taken, state().queued), (5, QUEUED - 5));
    engine.stop_recording();
    assert_eq!((state().lost, state().queued), (3 + QUEUED as u64 - 5, 0));
    end(&engine, pending);
    assert_eq!((state().lost, state().queued), (4 + QUEUED as u64 - 5, 0));
    assert!(decide(&engine, &[1], "m").recorded.is_none());
    assert_eq!(engine.take_recorded(10), "");
}

#[test]
fn long_prompts_fill_the_queue_by_their_bytes() {
    let engine = engine(1.0, &PolicySpec::default_policy(), 1);
    let blocks: Vec<u64> = (0..QUEUED_BYTES as u64 / 8 / 10).collect();
    for _ in 0..12 {
        let decision = decide(&engine, &blocks, "m");
        end(&engine, decision);
    }
    let state = engine.recording_state().expect("it records");
    assert_eq!((state.queued, state.lost), (9, 3));
    assert!(!engine.take_recorded(1).is_empty());
    end(&engine, decide(&engine, &blocks, "m"));
    let state = engine.recording_state().expect("it records");
    assert_eq!((state.queued, state.lost), (9, 3), "taking makes room");
}

#[test]
fn of_many_candidates_the_chosen_one_and_an_even_share_are_listed() {
    let engine = engine(1.0, &PolicySpec::default_policy(), 1_000);
    let mut listed = std::collections::HashSet::new();
    for _ in 0..200 {
        let decision = decide(&engine, &[1], "m");
        end(&engine, decision);
    }
    for line in lines(&engine.take_recorded(1_000)) {
        let Some(candidates) = line.get("candidates") else {
            continue;
        };
        let endpoints: Vec<u64> =
            serde_json::from_value(candidates["endpoint"].clone()).expect("numbers");
        assert!((63..=64).contains(&endpoints.len()));
        assert_eq!(line["chosen"], json!(endpoints[0]));
        assert_eq!(line["candidates_total"], json!(1_000));
        let distinct: std::collections::HashSet<&u64> = endpoints.iter().collect();
        assert_eq!(distinct.len(), endpoints.len());
        listed.extend(endpoints);
    }
    assert!(listed.len() > 900, "{} of 1,000 ever listed", listed.len());
}

#[test]
fn endpoints_that_come_later_are_introduced_before_they_are_named() {
    let engine = engine(1.0, &PolicySpec::default_policy(), 1);
    let mut text = engine.recording_header("", 0.0).expect("it records");
    end(&engine, decide(&engine, &[1], "m"));
    text += &engine.take_recorded(10);
    engine
        .upsert_endpoint(identity("another", 77))
        .expect("room");
    let waiting = decide(&engine, &[2], "m");
    // The same name elsewhere is another endpoint, and one that has gone is still the one that it was.
    engine
        .upsert_endpoint(identity("another", 78))
        .expect("room");
    engine.remove_endpoint("default", "endpoint-000");
    end(&engine, waiting);
    end(&engine, decide(&engine, &[3], "m"));
    text += &engine.take_recorded(10);
    let mut known = Vec::new();
    for line in lines(&text) {
        for endpoint in line["endpoints"].as_array().into_iter().flatten() {
            known.push(endpoint["index"].as_u64().expect("a number"));
        }
        for endpoint in line["candidates"]["endpoint"]
            .as_array()
            .into_iter()
            .flatten()
        {
            assert!(known.contains(&endpoint.as_u64().expect("a number")));
        }
    }
    assert_eq!(known, [0, 1, 2]);
    let mut rerun = Rerun::new(&PolicySpec::default_policy(), 1).expect("a valid policy");
    let again = text.lines().filter_map(|line| {
        let line = rerun.line(line.as_bytes());
        line.expect("a line of a recording")
    });
    assert_eq!(again.count(), 3);
}
