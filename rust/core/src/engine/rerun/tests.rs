//! The same policy chooses the same, another one where it must.

use serde_json::{Value, json};

use super::*;

fn header(endpoints: usize) -> Value {
    let endpoints = (0..endpoints).map(|index| {
        let gpu = ["h100", "a100"][index % 2];
        json!({
            "index": index, "namespace": "default", "name": format!("e{index}"),
            "address": format!("10.0.0.{index}:8000"), "labels": {"gpu": gpu},
        })
    });
    json!({"warmroute_recording": 1, "endpoints": endpoints.collect::<Vec<_>>()})
}

/// A decision among two endpoints: the first has a long queue, the second nothing of the prompt.
fn decision() -> Value {
    json!({
        "timestamp": 12.5, "input_length": 640, "model": "m", "priority": 0, "max_tokens": null, "chosen": 1,
        "candidates": {
            "endpoint": [0, 1], "inflight": [7, 2], "inflight_tokens": [900, 0], "prefill_tokens": [900, 0],
            "waiting": [5, 0], "running": [2, 2], "kv": [0.5, 0.1], "matched_tokens": [640, 0],
        },
        "prefixes": [{"producer": "approx-prefix-cache-producer", "block_tokens": 64, "total_blocks": 10, "blocks": [10, 0]}],
    })
}

fn rerun(policy: &PolicySpec, lines: &[Value]) -> Result<Vec<Again>, RerunError> {
    let mut rerun = Rerun::new(policy, 1).expect("a valid policy");
    let mut all = Vec::new();
    for line in lines {
        all.extend(rerun.line(line.to_string().as_bytes())?);
    }
    Ok(all)
}

#[test]
fn each_policy_is_asked_from_the_recorded_state() {
    let lora = || {
        let mut line = decision();
        line["adapters"] = json!([{"row": 0, "running": ["m"], "waiting": [], "max": 2}]);
        line
    };
    for (scorer, line, expected) in [
        ("queue-scorer", decision(), 1),
        ("prefix-cache-scorer", decision(), 0),
        ("kv-cache-utilization-scorer", decision(), 1),
        ("token-load-scorer", decision(), 1),
        ("lora-affinity-scorer", lora(), 0),
    ] {
        let policy = PolicySpec::of_scorers(&[(scorer, 1.0)]);
        let again = rerun(&policy, &[header(2), line]).expect("a recording");
        let chosen = again[0].chosen.expect("an endpoint");
        assert_eq!(chosen.endpoint, expected, "{scorer}");
        assert_eq!(again[0].tied, expected == 1, "{scorer}");
        assert_eq!(
            (again[0].timestamp, again[0].recorded),
            (
                12.5,
                Took {
                    endpoint: 1,
                    uncached_tokens: 640.0,
                    queued_tokens: 0.0,
                    inflight: 2.0
                }
            )
        );
        if expected == 0 {
            assert_eq!(
                (
                    chosen.uncached_tokens,
                    chosen.queued_tokens,
                    chosen.inflight
                ),
                (1.0, 900.0, 7.0)
            );
        }
    }
}

#[test]
fn filters_see_labels_and_may_leave_nothing() {
    let with = |label: &str| -> PolicySpec {
        serde_json::from_value(json!({
            "plugins": [
                {"type": "label-selector-filter", "name": "gpus", "parameters": {"matchLabels": {"gpu": label}}},
                {"type": "queue-scorer"},
            ],
            "profiles": [{"name": "default", "plugins": [{"plugin": "gpus"}, {"plugin": "queue-scorer"}]}],
        }))
        .expect("a policy")
    };
    let again = rerun(&with("h100"), &[header(2), decision()]).expect("a recording");
    assert_eq!(again[0].chosen.expect("an endpoint").endpoint, 0);
    assert!(!again[0].tied, "what was chosen is filtered out");
    let again = rerun(&with("b200"), &[header(2), decision()]).expect("a recording");
    assert_eq!((again[0].chosen, again[0].tied), (None, false));
}

#[test]
fn equal_endpoints_are_tied() {
    let mut line = decision();
    for column in ["waiting", "running", "kv"] {
        line["candidates"][column] = json!([1, 1]);
    }
    let policy = PolicySpec::of_scorers(&[("queue-scorer", 1.0)]);
    let lines: Vec<Value> = std::iter::once(header(2))
        .chain(std::iter::repeat_n(line, 50))
        .collect();
    let again = rerun(&policy, &lines).expect("a recording");
    assert!(again.iter().all(|again| again.tied));
}

#[test]
fn what_is_no_recording_is_told_with_its_line() {
    let policy = PolicySpec::default_policy();
    let changed = |path: &str, value: Value| {
        let mut line = decision();
        *line.pointer_mut(path).expect("a field") = value;
        line
    };
    let address = {
        let mut header = header(1);
        header["endpoints"][0]["address"] = json!("nowhere");
        header
    };
    for (lines, expected) in [
        (
            vec![decision()],
            "line 1: no line before tells of endpoint 0",
        ),
        (
            vec![header(2), changed("/candidates/kv", json!([0]))],
            "line 2: candidates.kv has 1 values for 2 endpoints",
        ),
        (
            vec![header(2), changed("/chosen", json!(5))],
            "line 2: the chosen endpoint is not among its candidates",
        ),
        (
            vec![header(2), changed("/input_length", json!("many"))],
            "line 2: invalid type",
        ),
        (
            vec![address],
            "line 1: endpoint \"e0\": the address \"nowhere\" is not ip:port",
        ),
        (
            vec![
                json!({"endpoints": [{"index": 4, "namespace": "n", "name": "e", "address": "10.0.0.1:1"}]}),
            ],
            "line 1: endpoint 4 comes before endpoint 0; lines are missing",
        ),
    ] {
        let error = rerun(&policy, &lines).expect_err("a bad line").to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut rerun = Rerun::new(&policy, 1).expect("a valid policy");
    assert!(rerun.line(b"{\"a").is_err());
}
