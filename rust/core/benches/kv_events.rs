//! A batch of 1,000 blocks from its bytes into the index, and a prompt's tokens to keys.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use warmroute_core::kv_events::{Engine, KvEvents, PublisherId};
use warmroute_core::prefix::exact::ExactIndex;
use warmroute_core::tokens::TokenSequence;

const BLOCKS: u64 = 1000;
const BLOCK_TOKENS: u32 = 16;

fn integer(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=127 => out.push(value as u8),
        128..=0xffff => {
            out.push(0xcd);
            out.extend((value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend(value.to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0xd9);
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

fn list(out: &mut Vec<u8>, length: u64) {
    out.push(0xdd);
    out.extend((length as u32).to_be_bytes());
}

/// One request's blocks in `events` events that continue each other, as vLLM 0.32 writes them; ids of a vocabulary of 128 thousand.
fn payload(seed: u64, events: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let own: Vec<u64> = (0..BLOCKS).map(|_| random.u64(..)).collect();
    let mut out = vec![0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0];
    list(&mut out, events);
    let each = (BLOCKS / events) as usize;
    for (number, own_here) in own.chunks(each).enumerate() {
        out.push(0x86);
        text(&mut out, "type");
        text(&mut out, "BlockStored");
        text(&mut out, "block_hashes");
        list(&mut out, own_here.len() as u64);
        for hash in own_here {
            integer(&mut out, *hash);
        }
        text(&mut out, "parent_block_hash");
        match (number * each).checked_sub(1) {
            Some(parent) => integer(&mut out, own[parent]),
            None => out.push(0xc0),
        }
        text(&mut out, "token_ids");
        let tokens = own_here.len() as u64 * u64::from(BLOCK_TOKENS);
        list(&mut out, tokens);
        for _ in 0..tokens {
            integer(&mut out, random.u64(..128_000));
        }
        text(&mut out, "block_size");
        integer(&mut out, u64::from(BLOCK_TOKENS));
        text(&mut out, "medium");
        text(&mut out, "GPU");
    }
    out.push(0);
    out
}

fn fresh() -> (KvEvents, PublisherId) {
    let events = KvEvents::new(Arc::new(ExactIndex::new(1 << 30)));
    let publisher = events.open(0, "pod", 0, Engine::Vllm);
    (events, publisher)
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kv_events");
    group.throughput(Throughput::Elements(BLOCKS));
    for (name, events) in [("store/1 event", 1), ("store/1000 events", 1000)] {
        let batches: Vec<Vec<u8>> = (0..64).map(|seed| payload(seed, events)).collect();
        group.bench_function(name, |bencher| {
            // An engine's worth of batches each time: an index that stays empty would flatter.
            bencher.iter_custom(|times| {
                let mut took = std::time::Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    let (events, publisher) = fresh();
                    let begin = std::time::Instant::now();
                    for (number, batch) in (0_u64..).zip(batches.iter().take(left as usize)) {
                        black_box(events.receive(publisher, b"", &number.to_be_bytes(), batch));
                    }
                    took += begin.elapsed();
                    left -= left.min(batches.len() as u64);
                }
                took
            });
        });
    }
    let (events, publisher) = fresh();
    events.receive(publisher, b"", &[0; 8], &payload(0, 1));
    let prompt = TokenSequence {
        tokens: (0..240_000).collect(),
        ..TokenSequence::default()
    };
    group.throughput(Throughput::Elements(240_000 / u64::from(BLOCK_TOKENS)));
    group.bench_function("keys/240000 tokens", |bencher| {
        bencher.iter_batched(
            || (),
            |()| events.keys("tiny", None, std::slice::from_ref(&prompt)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
