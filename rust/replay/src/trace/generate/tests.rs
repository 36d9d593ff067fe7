use super::*;
use crate::trace::mooncake;

fn trace(settings: &str) -> Trace {
    generate(settings, 1).expect(settings)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn prompts(trace: &Trace) -> f64 {
    mean(
        trace
            .requests
            .iter()
            .map(|request| f64::from(request.prompt_tokens)),
    )
}

fn outputs(trace: &Trace) -> f64 {
    mean(
        trace
            .requests
            .iter()
            .map(|request| f64::from(request.output_tokens)),
    )
}

/// Leading blocks that two prompts have in common.
fn common(trace: &Trace, left: usize, right: usize) -> usize {
    let blocks = |index: usize| trace.blocks_of(&trace.requests[index]).iter();
    blocks(left)
        .zip(blocks(right))
        .take_while(|(left, right)| left == right)
        .count()
}

#[test]
fn every_workload_is_well_formed_repeatable_and_another_for_another_seed() {
    for name in WORKLOADS {
        let settings = format!(r#"{{"workload": "{name}", "requests": 500, "rate": 5}}"#);
        let trace = trace(&settings);
        assert_eq!(trace.requests.len(), 500, "{name}");
        assert_eq!(generate(&settings, 1).expect(name), trace, "{name}");
        assert_ne!(generate(&settings, 2).expect(name), trace, "{name}");
        for (index, request) in trace.requests.iter().enumerate() {
            assert!(request.prompt_tokens > 0 && request.output_tokens > 0 && request.at >= 0.0);
            assert_eq!(
                request.block_count,
                request.prompt_tokens.div_ceil(trace.unit_tokens)
            );
            assert!(trace.blocks_of(request).len() == request.block_count as usize);
            assert!(request.after == AFTER_NOTHING || (request.after as usize) < index);
            assert!(usize::from(request.lora) <= trace.loras.len());
        }
        let written = mooncake::read(&mooncake::write(&trace), &trace.name)
            .expect(name)
            .trace;
        assert_eq!(written.requests.len(), 500);
        assert_eq!(
            written.blocks_of(&written.requests[499]),
            trace.blocks_of(&trace.requests[499])
        );
    }
}

#[test]
fn lengths_are_those_of_the_study() {
    for (name, prompt, output) in [
        ("shared-prefix", 7_200.0, 1_000.0),
        ("zipf", 6_400.0, 250.0),
        ("few-groups", 7_200.0, 300.0),
        ("no-reuse", 220.0, 180.0),
        ("sharegpt", 220.0, 180.0),
        ("skewed", 6_450.0, 200.0),
    ] {
        let trace = trace(&format!(
            r#"{{"workload": "{name}", "requests": 20000, "unit_tokens": 256}}"#
        ));
        assert!(
            (prompts(&trace) / prompt - 1.0).abs() < 0.05,
            "{name}: {}",
            prompts(&trace)
        );
        assert!(
            (outputs(&trace) / output - 1.0).abs() < 0.03,
            "{name}: {}",
            outputs(&trace)
        );
        let rate = 20_000.0 / trace.seconds();
        assert!((rate / 10.0 - 1.0).abs() < 0.03, "{name}: {rate}");
    }
    let sharegpt = trace(r#"{"workload": "sharegpt", "requests": 20001}"#);
    let mut lengths: Vec<u32> = sharegpt
        .requests
        .iter()
        .map(|request| request.prompt_tokens)
        .collect();
    lengths.sort_unstable();
    assert!(
        (74..87).contains(&lengths[10_000]),
        "median {}",
        lengths[10_000]
    );
}

#[test]
fn groups_share_their_prefix_and_nothing_more() {
    let shared = trace(r#"{"workload": "shared-prefix", "requests": 1500}"#);
    assert_eq!(
        common(&shared, 3, 753),
        450,
        "the cycle repeats its prompts"
    );
    let first = shared.requests[0].first_block;
    assert_eq!(shared.requests[750].first_block, first, "stored once");
    let lengths: hashbrown::HashSet<usize> =
        (1..750).map(|other| common(&shared, 0, other)).collect();
    assert!(lengths.contains(&375) && lengths.len() == 2, "{lengths:?}");

    let zipf = trace(r#"{"workload": "zipf", "requests": 4000}"#);
    let mut sizes = hashbrown::HashMap::<u64, u32>::new();
    for request in &zipf.requests {
        *sizes.entry(zipf.blocks_of(request)[0]).or_default() += 1;
    }
    let mut sizes: Vec<u32> = sizes.into_values().collect();
    sizes.sort_unstable_by(|left, right| right.cmp(left));
    // 4,000 requests over the harmonic number of 150, 5.59.
    assert!((620..820).contains(&sizes[0]), "{sizes:?}");
    assert!((290..430).contains(&sizes[1]), "{sizes:?}");
    let few = trace(r#"{"workload": "few-groups", "requests": 100}"#);
    let groups: hashbrown::HashSet<u64> = few
        .requests
        .iter()
        .map(|request| few.blocks_of(request)[0])
        .collect();
    assert_eq!(groups.len(), 4);
}

#[test]
fn turns_extend_the_prompt_of_the_turn_before() {
    for (name, turns, start) in [("chat", 6.0, 1_144.0), ("agent", 20.0, 14_000.0)] {
        let trace = trace(&format!(
            r#"{{"workload": "{name}", "requests": 10000, "rate": 20}}"#
        ));
        let first = trace
            .requests
            .iter()
            .filter(|request| request.after == AFTER_NOTHING);
        let first: Vec<&Request> = first.collect();
        let sessions = first.len() as f64;
        assert!(
            (10_000.0 / sessions / turns - 1.0).abs() < 0.15,
            "{name}: {sessions} sessions"
        );
        let begun = mean(first.iter().map(|request| f64::from(request.prompt_tokens)));
        assert!((begun / start - 1.0).abs() < 0.05, "{name}: {begun}");
        let mut followers = 0;
        for (index, request) in trace.requests.iter().enumerate() {
            let Some(before) = trace.requests.get(request.after as usize) else {
                continue;
            };
            followers += 1;
            assert!(request.prompt_tokens > before.prompt_tokens + before.output_tokens);
            assert_eq!(
                common(&trace, index, request.after as usize),
                before.block_count as usize
            );
            assert!(request.prompt_tokens <= 110_000);
        }
        assert!(followers > 7_000);
    }
}

#[test]
fn a_mix_gives_each_session_one_adapter() {
    let trace = trace(
        r#"{"workload": "lora-mix", "adapters": 3, "base_share": 0.25, "requests": 4000, "base": {"workload": "chat", "turns": 3}}"#,
    );
    assert_eq!(
        (trace.name.as_str(), trace.loras.len()),
        ("lora-mix of chat", 3)
    );
    let mut counts = [0; 4];
    for request in &trace.requests {
        match trace.requests.get(request.after as usize) {
            Some(before) => assert_eq!(request.lora, before.lora),
            None => counts[usize::from(request.lora)] += 1,
        }
    }
    let sessions: i32 = counts.iter().sum();
    let share = |count: i32| f64::from(count) / f64::from(sessions);
    // Weights 1, 1/2, 1/3 of the remaining three quarters.
    for (count, expected) in counts.into_iter().zip([0.25, 0.409, 0.205, 0.136]) {
        assert!((share(count) - expected).abs() < 0.05, "{counts:?}");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (settings, expected) in [
        ("[]", "workload: invalid type"),
        ("{}", "`workload` is missing; expected one of shared-prefix"),
        (
            r#"{"workload": "shared"}"#,
            "`workload` is \"shared\"; expected one of",
        ),
        (
            r#"{"workload": "zipf", "group": 3}"#,
            "workload: unknown field `group`, expected one of `groups`",
        ),
        (
            r#"{"workload": "zipf", "groups": 0}"#,
            "workload: groups must be from 1",
        ),
        (
            r#"{"workload": "zipf", "requests": 0}"#,
            "workload: requests must be from 1",
        ),
        (
            r#"{"workload": "zipf", "rate": 0}"#,
            "workload: rate must be positive",
        ),
        (
            r#"{"workload": "zipf", "rate": 1, "seconds": 2}"#,
            "workload: rate must be absent",
        ),
        (
            r#"{"workload": "zipf", "unit_tokens": 0}"#,
            "workload: unit_tokens must be",
        ),
        (
            r#"{"workload": "agent", "output_tokens": 2000}"#,
            "workload: output_tokens must be below turn_tokens",
        ),
        (
            r#"{"workload": "lora-mix", "base": {"workload": "lora-mix"}}"#,
            "workload: base must be another workload",
        ),
    ] {
        let error = generate(settings, 1).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
