//! The approximate index: matching and recording, warm and with a large index behind.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use warmroute_core::prefix::ApproximateIndex;

const BUDGET: usize = 4 << 30;

/// `count` endpoints, each holding 10,000 blocks of its own and the first `shared` blocks of a prompt that all know.
fn filled(count: u32, shared: &[u64]) -> ApproximateIndex {
    let index = ApproximateIndex::new(BUDGET);
    let mut random = fastrand::Rng::with_seed(1);
    for slot in 0..count {
        index.add_endpoint(slot, 27_000);
    }
    for _ in 0..100 {
        for slot in 0..count {
            index.record(slot, &fresh(&mut random, 100));
        }
    }
    for slot in 0..count {
        // Endpoints know the prompt to different depths.
        let depth = shared.len() - slot as usize % (shared.len() / 2).max(1);
        index.record(slot, &shared[..depth]);
    }
    index
}

fn fresh(random: &mut fastrand::Rng, length: usize) -> Vec<u64> {
    (0..length).map(|_| random.u64(..)).collect()
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    let mut random = fastrand::Rng::with_seed(2);
    let prompt = fresh(&mut random, 32);
    let unknown = fresh(&mut random, 32);
    let mut matched = Vec::new();
    for count in [8, 100, 1000, 4096] {
        let index = filled(count.min(100), &prompt);
        for slot in 100..count {
            index.add_endpoint(slot, 27_000);
            index.record(slot, &prompt[..32 - slot as usize % 16]);
        }
        group.bench_function(format!("32 blocks held by {count} endpoints"), |bencher| {
            bencher.iter(|| index.longest_match(black_box(&prompt), &mut matched));
        });
        group.bench_function(format!("32 unknown blocks, {count} endpoints"), |bencher| {
            bencher.iter(|| index.longest_match(black_box(&unknown), &mut matched));
        });
    }
    let index = filled(100, &prompt);
    let chains: Vec<Vec<u64>> = (0..20_000).map(|_| fresh(&mut random, 32)).collect();
    for (slot, chain) in (0..100).cycle().zip(&chains) {
        index.record(slot, chain);
    }
    let mut next = chains.iter().cycle();
    group.bench_function(
        "32 blocks held by one of 100 endpoints, not in the processor's cache",
        |bencher| {
            bencher
                .iter(|| index.longest_match(next.next().map_or(&[], |chain| chain), &mut matched));
        },
    );
}

fn recording(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let mut random = fastrand::Rng::with_seed(3);
    for length in [32, 256] {
        let prompt = fresh(&mut random, length);
        let index = filled(100, &prompt);
        let mut slots = (0..100_u32).cycle();
        group.bench_function(format!("{length} known blocks, 100 endpoints"), |bencher| {
            bencher.iter(|| index.record(slots.next().unwrap_or(0), black_box(&prompt)));
        });
        group.bench_function(format!("{length} new blocks, 100 endpoints"), |bencher| {
            bencher.iter_batched(
                || fresh(&mut random, length),
                |chain| index.record(slots.next().unwrap_or(0), &chain),
                BatchSize::LargeInput,
            );
        });
        // Every endpoint is full by now or soon: each new block evicts.
        let full = ApproximateIndex::new(BUDGET);
        for slot in 0..100 {
            full.add_endpoint(slot, 2048);
            for _ in 0..2048 / length {
                full.record(slot, &fresh(&mut random, length));
            }
        }
        group.bench_function(
            format!("{length} new blocks that evict as many, 100 endpoints"),
            |bencher| {
                bencher.iter_batched(
                    || fresh(&mut random, length),
                    |chain| full.record(slots.next().unwrap_or(0), &chain),
                    BatchSize::LargeInput,
                );
            },
        );
    }
}

fn clearing(criterion: &mut Criterion) {
    let mut random = fastrand::Rng::with_seed(4);
    let index = filled(100, &fresh(&mut random, 32));
    criterion.bench_function("remove an endpoint with 24,000 blocks", |bencher| {
        bencher.iter_batched(
            || {
                index.add_endpoint(0, 27_000);
                for _ in 0..240 {
                    index.record(0, &fresh(&mut random, 100));
                }
            },
            |()| index.remove_endpoint(0),
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(40).warm_up_time(std::time::Duration::from_millis(500)).measurement_time(std::time::Duration::from_secs(1));
    targets = matching, recording, clearing
}
criterion_main!(benches);
