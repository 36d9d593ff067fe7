use super::*;
use crate::report::Summary;
use crate::trace::{generate, mooncake};
use crate::{CostModel, Hardware};

/// One H100 with an 8B model (`policy.md`, section 2).
const H100: Hardware = Hardware {
    cost: CostModel {
        step: 7e-3,
        prefill_token: 31.5e-6,
        decode_sequence: 20e-6,
        decode_kv_token: 48e-9,
        prefill_context: 1e-9,
    },
    num_gpu_blocks: 27_000,
    block_size: 16,
    max_num_seqs: 256,
    max_num_batched_tokens: 8_192,
    max_loras: 1,
};

fn settings(replicas: usize) -> Settings {
    let mut settings =
        Settings::from_json(r#"{"replicas": [], "warm_up": 0.0}"#.replace("[]", HARDWARE).as_str())
            .expect("usable settings");
    settings.replicas = vec![H100; replicas];
    settings
}

const HARDWARE: &str = r#"[{"cost": {"step": 7e-3, "prefill_token": 31.5e-6, "decode_sequence": 20e-6, "decode_kv_token": 48e-9,
    "prefill_context": 1e-9}, "num_gpu_blocks": 27000, "block_size": 16, "max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_loras": 1}]"#;

fn generated(settings: &str) -> Trace {
    generate::generate(settings, 1).expect(settings)
}

fn played(trace: &Trace, settings: &Settings, policy: &PolicySpec) -> Report {
    simulate(trace, settings, policy, &Progress::default()).expect("a simulation")
}

fn ours() -> PolicySpec {
    PolicySpec::default_policy()
}

#[test]
fn every_request_is_accounted_for_and_nothing_stays_reserved() {
    for workload in generate::WORKLOADS {
        let trace = generated(&format!(
            r#"{{"workload": "{workload}", "requests": 300, "rate": 30}}"#
        ));
        for signals in [Signals::FirstToken, Signals::Counters, Signals::Ends] {
            let settings = Settings {
                signals,
                repeat: 2,
                ..settings(3)
            };
            let policy = ours();
            let mut run = Run::new(&trace, &settings, &policy).expect("a simulation");
            run.play(&Progress::default()).expect("an end");
            assert_eq!(run.router.reserved(), (0, 0), "{workload} {signals:?}");
            let report = run.report();
            assert_eq!(report.answered, 600, "{workload} {signals:?}");
            let sessions = trace
                .requests
                .iter()
                .any(|request| request.after != u32::MAX);
            // Of conversations, those after the last one began are left out.
            assert!(report.measured == 600 || sessions && report.measured > 100);
            assert_eq!(report.requests, 600);
            assert_eq!(report.picks.iter().sum::<u64>(), report.measured);
            assert!(report.ttft.mean > 0.007 && report.e2e.mean > report.ttft.mean);
            assert!(report.e2e.p50 <= report.e2e.p90 && report.e2e.p90 <= report.e2e.p99);
            assert!(report.imbalance.requests >= 1.0 && report.imbalance.inflight >= 1.0);
            assert!(report.imbalance.inflight <= 3.0);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    let chat = generated(r#"{"workload": "chat", "requests": 1500, "rate": 60}"#);
    let random = PolicySpec {
        plugins: vec![warmroute_core::plugin::PluginSpec::of_type("random-picker")],
        profiles: vec![warmroute_core::engine::ProfileSpec {
            name: "default".to_owned(),
            plugins: vec![warmroute_core::engine::ProfilePlugin {
                plugin: "random-picker".to_owned(),
                weight: None,
            }],
        }],
        ..ours()
    };
    for policy in [ours(), PolicySpec::reference_policy(), random] {
        let settings = Settings {
            details: true,
            rate: Some(80.0),
            ..settings(5)
        };
        let bits = |report: &Report| format!("{report:?}");
        let first = bits(&played(&chat, &settings, &policy));
        // What the thread did before does not count.
        fastrand::seed(99);
        assert_eq!(first, bits(&played(&chat, &settings, &policy)));
        let other = Settings {
            seed: 1,
            ..settings
        };
        assert_ne!(first, bits(&played(&chat, &other, &policy)));
    }
}

#[test]
fn one_request_takes_what_the_cost_model_says() {
    let text = r#"{"timestamp": 0, "input_length": 1000, "output_length": 3, "hash_ids": [1, 2]}"#;
    let trace = mooncake::read(text, "one").expect("a trace").trace;
    let settings = Settings {
        details: true,
        ..settings(1)
    };
    let report = played(&trace, &settings, &ours());
    let details = report.details.expect("details were asked for");
    let first = 7e-3 + 1000.0 * 31.5e-6 + 1000.0 * 500.0 * 1e-9;
    let second = 7e-3 + 20e-6 + 1000.0 * 48e-9;
    let third = second + 48e-9;
    assert!(
        (details.ttft[0] - first).abs() < 1e-9,
        "{}",
        details.ttft[0]
    );
    assert!(
        (details.finish[0] - first - second - third).abs() < 1e-9,
        "{}",
        details.finish[0]
    );
    assert_eq!(
        (
            details.replica[0],
            details.cached[0],
            details.arrival[0].to_bits()
        ),
        (0, 0, 0)
    );
    assert!((report.tpot.mean - f64::midpoint(second, third)).abs() < 1e-9);
    assert!((report.normalized.mean - report.e2e.mean / 3.0).abs() < 1e-12);
}

#[test]
fn caches_are_found_again_and_the_index_expects_what_is_there() {
    let trace = generated(
        r#"{"workload": "shared-prefix", "requests": 1500, "groups": 10, "output_tokens": 20, "rate": 20}"#,
    );
    let report = played(
        &trace,
        &Settings {
            warm_up: 0.3,
            ..settings(2)
        },
        &ours(),
    );
    assert_eq!(report.measured, 1_050);
    assert!(report.hit_ratio > 0.95, "{}", report.hit_ratio);
    assert!(
        (report.hit_ratio - report.predicted_hit_ratio).abs() < 0.02,
        "{}",
        report.predicted_hit_ratio
    );
    let adapters = generated(
        r#"{"workload": "lora-mix", "requests": 300, "rate": 20, "base": {"workload": "shared-prefix", "groups": 1, "prompts_per_group": 1, "output_tokens": 2}}"#,
    );
    let report = played(
        &adapters,
        &Settings {
            details: true,
            ..settings(1)
        },
        &ours(),
    );
    let cached = report.details.expect("details were asked for").cached;
    let cold = cached.iter().filter(|cached| **cached == 0).count();
    assert!(cold >= 8, "each adapter computes the prompt once: {cold}");
}

#[test]
fn arrivals_come_at_the_wanted_rate() {
    let trace =
        generated(r#"{"workload": "no-reuse", "requests": 2000, "rate": 3, "output_tokens": 5}"#);
    let as_recorded = played(&trace, &settings(2), &ours());
    assert!(
        (as_recorded.throughput / 3.0 - 1.0).abs() < 0.1,
        "{}",
        as_recorded.throughput
    );
    for rate in [20.0, 50.0] {
        let report = played(
            &trace,
            &Settings {
                rate: Some(rate),
                repeat: 2,
                ..settings(2)
            },
            &ours(),
        );
        assert!(
            (report.throughput / rate - 1.0).abs() < 0.02,
            "{}",
            report.throughput
        );
    }
    let chat = generated(r#"{"workload": "chat", "requests": 6000, "rate": 3}"#);
    let report = played(
        &chat,
        &Settings {
            rate: Some(40.0),
            warm_up: 0.3,
            ..settings(4)
        },
        &ours(),
    );
    // The first conversations begin in an empty pool.
    assert!(
        (report.throughput / 40.0 - 1.0).abs() < 0.25,
        "{}",
        report.throughput
    );
}

#[test]
fn a_turn_follows_the_answer_before_it_by_its_pause() {
    let trace = generated(r#"{"workload": "agent", "requests": 400, "rate": 10, "turns": 5}"#);
    let report = played(
        &trace,
        &Settings {
            details: true,
            ..settings(4)
        },
        &ours(),
    );
    let details = report.details.expect("details were asked for");
    let mut turns = 0;
    for (index, request) in trace.requests.iter().enumerate() {
        let Some(before) = details.finish.get(request.after as usize) else {
            continue;
        };
        assert!((details.arrival[index] - before - request.at).abs() < 1e-9);
        turns += 1;
    }
    assert!(turns > 200);
}

#[test]
fn what_is_not_answered_is_counted_by_its_reason() {
    let trace = generated(
        r#"{"workload": "skewed", "requests": 200, "rate": 50, "long_tokens": 9000, "prompt_spread": 0}"#,
    );
    let long = trace
        .requests
        .iter()
        .filter(|request| request.prompt_tokens > 1_000)
        .count() as u64;
    let small = Hardware {
        num_gpu_blocks: 513,
        ..H100
    };
    let mut few = settings(2);
    few.replicas[1] = small;
    let report = played(&trace, &few, &ours());
    assert_eq!((report.too_long, report.answered), (long, 200 - long));

    let stopped = played(
        &trace,
        &Settings {
            stop_after_seconds: Some(1.0),
            ..settings(2)
        },
        &ours(),
    );
    assert!(stopped.unfinished > 0 && stopped.never_sent > 100 && stopped.seconds <= 1.0);
    assert_eq!(
        stopped.answered + stopped.unfinished + stopped.never_sent,
        200
    );

    let nobody: PolicySpec = serde_json::from_value(serde_json::json!({
        "plugins": [{"type": "prefill-filter"}],
        "profiles": [{"name": "default", "plugins": [{"plugin": "prefill-filter"}]}],
    }))
    .expect("a policy's form");
    let chat = generated(r#"{"workload": "chat", "requests": 100}"#);
    let report = played(&chat, &settings(2), &nobody);
    assert_eq!(
        (report.answered, report.refused + report.never_sent),
        (0, 100)
    );
    assert!(report.never_sent > 50 && report.ttft.mean.is_nan());
}

#[test]
fn a_full_cache_preempts_and_all_are_answered() {
    let trace = generated(
        r#"{"workload": "no-reuse", "requests": 300, "rate": 100, "output_tokens": 600}"#,
    );
    let mut tight = settings(2);
    for hardware in &mut tight.replicas {
        hardware.num_gpu_blocks = 800;
    }
    let report = played(&trace, &tight, &ours());
    assert!(report.preemptions > 0 && report.answered == 300);
}

#[test]
fn progress_is_told_and_cancelling_ends_it() {
    let trace = generated(r#"{"workload": "no-reuse", "requests": 3000, "rate": 100}"#);
    let progress = Progress::default();
    simulate(&trace, &settings(2), &ours(), &progress).expect("a simulation");
    assert_eq!(progress.done(), 3_000);
    progress.cancel();
    let error = simulate(&trace, &settings(2), &ours(), &progress).expect_err("it was cancelled");
    assert_eq!(error.to_string(), "simulation: cancelled");
}

#[test]
fn wrong_settings_are_named() {
    for (text, expected) in [
        ("{}".to_owned(), "simulation: missing field `replicas`"),
        (
            r#"{"replicas": []}"#.to_owned(),
            "simulation: replicas must be from 1",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "rates": 1}}"#),
            "simulation: unknown field `rates`",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "rate": 0}}"#),
            "simulation: rate must be positive",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "limit": 0}}"#),
            "simulation: limit must be at least 1",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "repeat": 0}}"#),
            "simulation: repeat must be at least 1",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "warm_up": 1}}"#),
            "simulation: warm_up must be from 0 to 0.9",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "scrape_seconds": -1}}"#),
            "simulation: scrape_seconds must be",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "signals": "all"}}"#),
            "simulation: unknown variant `all`",
        ),
        (
            format!(r#"{{"replicas": {HARDWARE}, "stop_after_seconds": 0}}"#),
            "simulation: stop_after_seconds must be",
        ),
    ] {
        let error = Settings::from_json(&text).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let trace = generated(r#"{"workload": "no-reuse", "requests": 2, "unit_tokens": 24}"#);
    let error = simulate(&trace, &settings(2), &ours(), &Progress::default())
        .expect_err("units of 24 tokens");
    assert!(
        error
            .to_string()
            .starts_with("simulation: replicas[0]: the trace's block ids"),
        "{error}"
    );
}

#[test]
fn percentiles_are_exact() {
    let summary = Summary::of((0..=100).rev().map(f64::from).collect());
    assert_eq!(
        (summary.mean, summary.p50, summary.p90, summary.p99),
        (50.0, 50.0, 90.0, 99.0)
    );
    assert!((Summary::of(vec![1.0, 2.0]).p90 - 1.9).abs() < 1e-12);
    assert!(Summary::of(Vec::new()).p50.is_nan());
}
