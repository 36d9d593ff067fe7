//! The replica does what `warmroute.sim`'s engine did with the same requests (`tests/replay/make_replica_cases.py` wrote that down).

use serde::Deserialize;
use serde_json::Value;
use warmroute_replay::{Arrival, Hardware, Observed, Replica, ReplicaMetrics};

/// Largest relative difference: both add up the same durations, in different orders.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    hardware: Hardware,
    unit_tokens: u32,
    requests: Vec<Asked>,
    samples: Vec<f64>,
    first: Vec<f64>,
    finish: Vec<f64>,
    cached: Vec<u32>,
    /// One for each sample, and one when all is over.
    metrics: Vec<Page>,
}

/// Time, prompt, output, adapter, block ids as (first, number).
type Asked = (f64, u32, u32, u16, Vec<(u64, u64)>);

#[derive(Deserialize)]
struct Page(Value);

struct Outcome {
    first: Vec<f64>,
    finish: Vec<f64>,
    cached: Vec<u32>,
    metrics: Vec<ReplicaMetrics>,
}

impl Outcome {
    fn observe(&mut self, observed: &mut Vec<(f64, Observed)>) {
        for (at, what) in observed.drain(..) {
            match what {
                Observed::FirstToken { id, cached_tokens } => {
                    self.first[id as usize] = at;
                    self.cached[id as usize] = cached_tokens;
                }
                Observed::Finished { id } => self.finish[id as usize] = at,
            }
        }
    }
}

fn run(case: &Case) -> Outcome {
    let number = case.requests.len();
    let mut outcome = Outcome {
        first: vec![f64::NAN; number],
        finish: vec![f64::NAN; number],
        cached: vec![u32::MAX; number],
        metrics: Vec::new(),
    };
    let mut replica = Replica::new(case.hardware, case.unit_tokens).expect("the case's hardware");
    let mut observed = Vec::new();
    let mut samples = case.samples.iter().copied().peekable();
    for (id, (at, prompt_tokens, output_tokens, lora, spans)) in case.requests.iter().enumerate() {
        while let Some(sample) = samples.next_if(|sample| sample < at) {
            replica.advance(sample, &mut observed);
            outcome.metrics.push(replica.metrics());
        }
        replica.advance(*at, &mut observed);
        let blocks: Vec<u64> = spans
            .iter()
            .flat_map(|&(first, count)| first..first + count)
            .collect();
        let arrival = Arrival {
            id: id as u32,
            prompt_tokens: *prompt_tokens,
            output_tokens: *output_tokens,
            blocks: &blocks,
            lora: *lora,
        };
        replica.add(arrival, *at).expect("the case's request fits");
        outcome.observe(&mut observed);
    }
    for sample in samples {
        replica.advance(sample, &mut observed);
        outcome.metrics.push(replica.metrics());
    }
    while replica.next_event().is_finite() {
        replica.advance(replica.next_event(), &mut observed);
    }
    outcome.observe(&mut observed);
    outcome.metrics.push(replica.metrics());
    outcome
}

fn assert_near(ours: f64, theirs: f64, what: &str) {
    let difference = (ours - theirs).abs();
    assert!(
        difference <= TOLERANCE * theirs.abs().max(1e-3),
        "{what}: {ours} instead of {theirs}"
    );
}

fn assert_page(ours: &ReplicaMetrics, theirs: &Value, what: &str) {
    let counts = [
        ("waiting", u64::from(ours.waiting)),
        ("running", u64::from(ours.running)),
        ("first_tokens", ours.first_tokens),
        ("token_gaps", ours.token_gaps),
        ("output_tokens", ours.output_tokens),
        ("finished_requests", ours.finished_requests),
        ("queried_tokens", ours.queried_tokens),
        ("cached_tokens", ours.cached_tokens),
        ("preemptions", ours.preemptions),
    ];
    for (field, count) in counts {
        assert_eq!(Some(count), theirs[field].as_u64(), "{what}: {field}");
    }
    for (field, seconds) in [
        ("kv_usage", ours.kv_usage),
        ("first_token_seconds", ours.first_token_seconds),
        ("token_gap_seconds", ours.token_gap_seconds),
    ] {
        let expected = theirs[field].as_f64().expect("a number");
        assert_near(seconds, expected, &format!("{what}: {field}"));
    }
    for (field, loras) in [
        ("running_loras", &ours.running_loras),
        ("waiting_loras", &ours.waiting_loras),
    ] {
        assert_eq!(serde_json::json!(loras), theirs[field], "{what}: {field}");
    }
}

#[test]
fn replica_does_what_the_simulated_engine_does() {
    let cases: Cases =
        serde_json::from_str(include_str!("data/replica_cases.json")).expect("the cases");
    assert!(cases.cases.len() >= 12);
    for case in &cases.cases {
        let outcome = run(case);
        for id in 0..case.requests.len() {
            let what = format!("{}, request {id}", case.name);
            assert_near(
                outcome.first[id],
                case.first[id],
                &format!("{what}: first token"),
            );
            assert_near(outcome.finish[id], case.finish[id], &format!("{what}: end"));
            assert_eq!(outcome.cached[id], case.cached[id], "{what}: cached tokens");
        }
        assert_eq!(outcome.metrics.len(), case.metrics.len());
        for (index, (ours, Page(theirs))) in outcome.metrics.iter().zip(&case.metrics).enumerate() {
            assert_page(ours, theirs, &format!("{}, page {index}", case.name));
        }
    }
}
