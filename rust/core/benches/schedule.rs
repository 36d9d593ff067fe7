//! One pick: match the prompt's blocks, score the endpoints, choose.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use warmroute_core::Nanos;
use warmroute_core::engine::{Policy, PolicySpec};
use warmroute_core::plugin::Externals;
use warmroute_core::pool::{EndpointIdentity, EngineMetrics, Pool};
use warmroute_core::prefix::{ApproximateIndex, chain, seed};
use warmroute_core::schedule::{Candidates, Context, PrefixColumn, Prompt, RequestFacts, Scratch};

/// 8 KiB of prompt in blocks of 64 tokens of 4 bytes.
const BLOCKS: u32 = 32;

/// A row of an endpoint that is somehow loaded.
fn load(candidates: &mut Candidates, position: u32, random: &mut fastrand::Rng) {
    candidates.position.push(position);
    candidates.waiting.push(f64::from(random.u8(0..10)));
    candidates.running.push(f64::from(random.u8(0..50)));
    candidates.kv_usage.push(random.f64());
    let requests = f64::from(random.u8(0..50));
    candidates.inflight_requests.push(requests);
    candidates.inflight_tokens.push(f64::from(random.u16(..)));
    let prefill = f64::from(random.u16(0..8000));
    candidates.prefill_tokens.push(prefill);
    candidates.pending_prefills.push(f64::from(random.u8(0..4)));
    candidates.prefill_gap.push(random.f64() * 0.1);
    candidates.prefill_factor.push(0.5 + random.f64());
    candidates.decode_factor.push(0.5 + random.f64());
    let slots = [256.0, f64::INFINITY][random.usize(0..2)];
    candidates.slots.push(slots);
    candidates.sent_since_page.push(f64::from(random.u16(..)));
    candidates.kv_tokens.push(432_000.0);
    candidates.page_at.push(Nanos(1));
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let ids: Vec<u64> = (0..u64::from(BLOCKS))
        .map(|id| id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    let prompt = chain(seed("model", None), &ids);
    for count in [8_u8, 100] {
        let pool = Pool::new();
        let index = ApproximateIndex::new(256 << 20);
        let mut random = fastrand::Rng::with_seed(1);
        let mut candidates = Candidates::default();
        for number in 0..count {
            let endpoint = pool.upsert(EndpointIdentity {
                namespace: "default".into(),
                name: format!("endpoint-{number:03}").into(),
                address: [10, 0, 0, number].into(),
                port: 8000,
                metrics_host: None,
                labels: [].into(),
            });
            endpoint.metrics.store(Arc::new(EngineMetrics {
                waiting: Some(1.0),
                running: Some(8.0),
                kv_usage: Some(0.5),
                ..EngineMetrics::default()
            }));
            index.add_endpoint(endpoint.slot, 27_000);
            for _ in 0..50 {
                let other: Vec<u64> = (0..100).map(|_| random.u64(..)).collect();
                index.record(endpoint.slot, &other);
            }
            index.record(endpoint.slot, &prompt[..random.usize(1..=prompt.len())]);
            load(&mut candidates, u32::from(number), &mut random);
        }
        candidates.prefixes.push(PrefixColumn {
            total_blocks: BLOCKS,
            block_tokens: 64,
            blocks: vec![0; usize::from(count)],
            ..PrefixColumn::default()
        });
        let snapshot = pool.snapshot();
        let request = RequestFacts {
            target_model: "model".into(),
            prompt_tokens: BLOCKS * 64,
            ..RequestFacts::default()
        };
        for (name, spec) in [
            ("default", PolicySpec::default_policy()),
            ("reference", PolicySpec::reference_policy()),
        ] {
            let Ok(policy) = Policy::build(&spec, &Externals::new(), 1, None) else {
                continue;
            };
            let profile = &policy.profiles()[0];
            let random = std::cell::RefCell::new(fastrand::Rng::with_seed(2));
            let (mut scratch, mut ranked, mut matched) =
                (Scratch::default(), Vec::new(), Vec::new());
            group.bench_function(format!("{name} policy, {count} endpoints"), |bencher| {
                bencher.iter(|| {
                    index.longest_match(black_box(&prompt), &mut matched);
                    candidates.prefixes[0].blocks.copy_from_slice(&matched);
                    let context = Context {
                        request: &request,
                        snapshot: &snapshot,
                        candidates: &candidates,
                        prompt: Prompt::default(),
                        now: Nanos(0),
                        random: &random,
                    };
                    profile
                        .run(&context, None, &mut scratch, &mut ranked, None)
                        .map(|choice| choice.row)
                });
            });
            group.bench_function(
                format!("{name} policy, {count} endpoints, score and choose only"),
                |bencher| {
                    let context = Context {
                        request: &request,
                        snapshot: &snapshot,
                        candidates: &candidates,
                        prompt: Prompt::default(),
                        now: Nanos(0),
                        random: &random,
                    };
                    bencher.iter(|| {
                        profile
                            .run(black_box(&context), None, &mut scratch, &mut ranked, None)
                            .map(|choice| choice.row)
                    });
                },
            );
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(40).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = picks
}
criterion_main!(benches);
