use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::control::{Admitter, SaturationDetector, Screener};
use crate::engine::{Inquiry, PolicySpec, Settings};
use crate::exchange::Header;
use crate::plugin::Externals;
use crate::pool::{EndpointIdentity, Pool};
use crate::schedule::Named;
use crate::stats::{PluginTimers, SampleValue, Stats};
use crate::{Engine, Nanos};

/// Keeps these rows.
#[derive(Debug)]
struct Keeping(&'static [bool]);

impl Screener for Keeping {
    fn screen(
        &self,
        _context: &Context<'_>,
        keep: &mut [bool],
        response: &mut HeaderPairs,
    ) -> Result<(), Refusal> {
        assert!(!keep.contains(&false), "each screener sees every candidate");
        keep.copy_from_slice(self.0);
        response.push((Bytes::from("x-screened"), Bytes::from("yes")));
        Ok(())
    }
}

fn prefix(blocks: &[u32]) -> PrefixColumn {
    PrefixColumn {
        blocks: blocks.to_vec(),
        ..PrefixColumn::default()
    }
}

/// Says no where it is asked about this many candidates.
#[derive(Debug)]
struct Refusing(usize);

impl Admitter for Refusing {
    fn admit(&self, context: &Context<'_>) -> Result<(), Box<str>> {
        if context.candidates.len() == self.0 {
            return Err(format!("{:?}", context.prefix(None).blocks).into());
        }
        Ok(())
    }
}

/// Saturated, and remembers about how many candidates it was asked.
#[derive(Debug, Default)]
struct Saturated(AtomicUsize);

impl SaturationDetector for Saturated {
    fn saturation(&self, context: &Context<'_>) -> f64 {
        self.0.store(context.candidates.len(), Ordering::Relaxed);
        1.0
    }
}

fn named<T>(name: &str, part: T) -> Named<T> {
    Named {
        name: name.into(),
        type_name: "a-type".into(),
        part,
    }
}

fn policy() -> Policy {
    let spec = PolicySpec::of_scorers(&[("queue-scorer", 1.0)]);
    Policy::build(&spec, &Externals::new(), 1, None).expect("built-in")
}

fn snapshot(endpoints: u8) -> Arc<Snapshot> {
    let pool = Pool::new();
    for number in 1..=endpoints {
        pool.upsert(identity(number));
    }
    pool.snapshot()
}

fn identity(number: u8) -> EndpointIdentity {
    EndpointIdentity {
        namespace: "default".into(),
        name: format!("endpoint-{number}").into(),
        address: [10, 0, 0, number].into(),
        port: 8000,
        metrics_host: None,
        labels: std::collections::BTreeMap::new(),
    }
}

fn gates<'a>(
    policy: &'a Policy,
    facts: &'a RequestFacts,
    snapshot: &'a Arc<Snapshot>,
    timers: &'a PluginTimers,
) -> Gates<'a> {
    Gates {
        policy,
        facts,
        snapshot,
        now: Nanos(0),
        clock: || Nanos(0),
        timers,
    }
}

#[test]
fn each_gate_is_measured_under_its_extension_point() {
    let mut policy = policy();
    for _ in 0..2 {
        let part: Arc<dyn Screener> = Arc::new(Keeping(&[true, true]));
        policy.screeners.push(named("screening", part));
    }
    let part: Arc<dyn Admitter> = Arc::new(Refusing(2));
    policy.admitters.push(named("admitting", part));
    let stats = Stats::new();
    let timers = stats.plugin_timers(policy.gate_plugins());
    let facts = RequestFacts::default();
    let (snapshot, mut headers) = (snapshot(2), HeaderPairs::new());
    let gates = gates(&policy, &facts, &snapshot, &timers);
    assert_eq!(gates.screen(None, &mut headers, None), Ok(None));
    assert!(gates.admit(None, &[prefix(&[0, 0])]).is_err());
    let families = stats.export();
    let mut families = families.iter();
    let family = families.find(|family| family.name == "plugin_duration_seconds");
    let samples = family.expect("a family").samples.iter();
    let counts: Vec<_> = samples
        .map(|sample| match &sample.value {
            SampleValue::Histogram { cumulative, .. } => {
                (sample.labels.join(" "), cumulative.last().copied())
            }
            SampleValue::Number(_) => panic!("a histogram"),
        })
        .collect();
    assert_eq!(
        counts,
        [
            ("Screener a-type screening".to_owned(), Some(2)),
            ("Admission a-type admitting".to_owned(), Some(1)),
        ]
    );
}

#[test]
fn what_every_screener_keeps_is_left_and_each_is_explained() {
    let mut policy = policy();
    let timers = PluginTimers::default();
    for (name, keep) in [
        ("first", &[true, true, false, true][..]),
        ("second", &[false, true, true, true]),
    ] {
        let part: Arc<dyn Screener> = Arc::new(Keeping(keep));
        policy.screeners.push(named(name, part));
    }
    let facts = RequestFacts::default();
    let snapshot = snapshot(4);
    let gates = gates(&policy, &facts, &snapshot, &timers);
    let mut headers = HeaderPairs::new();
    let mut explanation = Explanation::default();
    let left = gates.screen(None, &mut headers, Some(&mut explanation));
    assert_eq!(left, Ok(Some(vec![1, 3])));
    assert_eq!(headers.len(), 2);
    let told = serde_json::to_value(&explanation.screeners).expect("plain data");
    assert_eq!(
        told,
        json!([{"name": "first", "type": "a-type", "kept": 3}, {"name": "second", "type": "a-type", "kept": 2}])
    );
}

#[test]
fn rows_of_a_subset_are_its_positions() {
    let mut policy = policy();
    let timers = PluginTimers::default();
    let part: Arc<dyn Screener> = Arc::new(Keeping(&[false, true]));
    policy.screeners.push(named("only", part));
    let facts = RequestFacts::default();
    let snapshot = snapshot(4);
    let gates = gates(&policy, &facts, &snapshot, &timers);
    let left = gates.screen(Some(vec![0, 2]), &mut HeaderPairs::new(), None);
    assert_eq!(left, Ok(Some(vec![2])));
}

#[test]
fn screeners_that_leave_nothing_refuse_in_the_references_words() {
    let mut policy = policy();
    let timers = PluginTimers::default();
    for keep in [&[true, false][..], &[false, true]] {
        let part: Arc<dyn Screener> = Arc::new(Keeping(keep));
        policy.screeners.push(named("one", part));
    }
    let facts = RequestFacts::default();
    let snapshot = snapshot(2);
    let gates = gates(&policy, &facts, &snapshot, &timers);
    let refusal = gates
        .screen(None, &mut HeaderPairs::new(), None)
        .expect_err("nothing is left");
    let reply = refusal.reply();
    assert_eq!(
        (reply.status, &*reply.body),
        (
            503,
            &b"inference error: ServiceUnavailable - screeners eliminated all endpoint candidates"
                [..]
        )
    );
    assert_eq!(refusal.dropped_reason(), Some("rejected-no-endpoints"));
}

#[test]
fn only_what_can_be_dropped_is_shed_and_by_the_part_of_the_pool_that_is_allowed() {
    let detector = Arc::new(Saturated::default());
    let mut policy = policy();
    let timers = PluginTimers::default();
    policy.saturation = Some(Arc::clone(&detector) as Arc<dyn SaturationDetector>);
    let snapshot = snapshot(3);
    for (priority, subset, shed, asked) in [
        (0, None, false, 0),
        (-1, None, true, 3),
        (-1, Some(&[1][..]), true, 1),
        (-1, Some(&[]), true, 0),
    ] {
        let facts = RequestFacts {
            priority,
            ..RequestFacts::default()
        };
        let gates = gates(&policy, &facts, &snapshot, &timers);
        detector.0.store(0, Ordering::Relaxed);
        let outcome = gates.shed(subset);
        assert_eq!(outcome == Err(Refusal::Shed), shed);
        assert_eq!(detector.0.load(Ordering::Relaxed), asked);
    }
}

#[test]
fn the_first_admitter_that_refuses_is_told_and_sees_matches() {
    let mut policy = policy();
    let timers = PluginTimers::default();
    for count in [5, 2, 2] {
        let part: Arc<dyn Admitter> = Arc::new(Refusing(count));
        policy.admitters.push(named("one", part));
    }
    let facts = RequestFacts::default();
    let snapshot = snapshot(3);
    let gates = gates(&policy, &facts, &snapshot, &timers);
    assert_eq!(gates.admit(None, &[]), Ok(()));
    let refusal = gates
        .admit(Some(&[0, 2]), &[prefix(&[7, 8, 9])])
        .expect_err("two candidates");
    assert_eq!(
        &*refusal.reply().body,
        b"inference error: Internal - request cannot be admitted: [7, 9]"
    );
}

/// A prompt of four blocks.
fn decide(engine: &Engine, headers: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
    let headers = headers.iter().map(|&(key, value)| Header {
        key: Bytes::from(key),
        value: Bytes::from(value),
    });
    let active = engine.active();
    let decision = engine.decide(&Inquiry {
        active: &active,
        facts: RequestFacts {
            target_model: "m".into(),
            prompt_tokens: 256,
            headers: headers.collect(),
            ..RequestFacts::default()
        },
        sequences: &[vec![1, 2, 3, 4]],
        cache_salt: None,
        tokens: None,
        subset_hint: None,
        request_id: &Bytes::from("id"),
        explain: false,
        now: Nanos(0),
    });
    decision.map(|_| ())
}

fn engine(scorer: &str) -> Engine {
    let engine = Engine::new(
        Settings::default(),
        &PolicySpec::of_scorers(&[(scorer, 1.0)]),
        &Externals::new(),
        || Nanos(0),
    )
    .expect("built-in");
    engine.upsert_endpoint(identity(1)).expect("room");
    engine
}

#[test]
fn a_request_that_prefers_a_warm_cache_is_refused_until_there_is_one() {
    for asking in ["if-available", "respond-async, If-Available;wait=1"] {
        let engine = engine("prefix-cache-scorer");
        let refusal = decide(&engine, &[("prefer", asking)]).expect_err("nothing is cached");
        assert_eq!(refusal, Refusal::NotCached);
        // What was refused was not sent, so it is not held either.
        assert_eq!(
            decide(&engine, &[("prefer", asking)]),
            Err(Refusal::NotCached)
        );
        assert_eq!(decide(&engine, &[("prefer", "if-available-not")]), Ok(()));
        assert_eq!(decide(&engine, &[("prefer", asking)]), Ok(()));
        let attempts = |status: &str| -> f64 {
            let families = engine.stats().export();
            let mut families = families.iter();
            let family = families.find(|family| family.name == "scheduler_attempts_total");
            let samples = family.expect("a family").samples.iter();
            samples
                .filter(|sample| &*sample.labels[0] == status)
                .map(|sample| match sample.value {
                    SampleValue::Number(number) => number,
                    SampleValue::Histogram { .. } => panic!("no histogram"),
                })
                .sum()
        };
        assert!((attempts("success") - 4.0).abs() < f64::EPSILON);
        assert!(attempts("failure") < f64::EPSILON);
        let load = &engine.pool().snapshot().endpoints[0].clone();
        assert_eq!(load.inflight_requests(), 0, "refusals reserve nothing");
    }
}

#[test]
fn without_prefix_matches_nothing_counts_as_cached() {
    let engine = engine("queue-scorer");
    assert_eq!(decide(&engine, &[]), Ok(()));
    assert_eq!(
        decide(&engine, &[("prefer", "if-available")]),
        Err(Refusal::NotCached)
    );
}
