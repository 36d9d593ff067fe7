//! Tokens a second, and the next turn of a conversation of 100,000 tokens, cold against cached.
//!
//! `WARMROUTE_TOKENIZER` names a `tokenizer.json` to measure instead of the small one of the tests, whose tokens are shorter than those of
//! real vocabularies.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use warmroute_core::body::Dialect;
use warmroute_core::tokens::{TokenRequest, Tokenizer};
use warmroute_tokenize::local::LocalTokenizer;

const TOKENS: usize = 100_000;
const TURN: &str = "The quick brown fox looked at what was written in the file, 12 lines of it, and didn't find the error: `index` was 3, not 4.\\n";

fn open(cache_bytes: usize) -> LocalTokenizer {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let path = std::env::var_os("WARMROUTE_TOKENIZER")
        .map_or_else(|| data.join("tokenizers/qwen.json"), PathBuf::from);
    let template = data.join("templates/chatml-tools.jinja");
    LocalTokenizer::open(&path, Some(&template), false, cache_bytes)
        .expect("the tokenizer is there")
}

/// A conversation of as many messages, each of its own text.
fn conversation(messages: usize) -> Bytes {
    let messages: Vec<String> = (0..messages)
        .map(|number| {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            let text = TURN.repeat(16);
            format!(r#"{{"role": "{role}", "content": "{number}: {text}"}}"#)
        })
        .collect();
    format!(r#"{{"model": "m", "messages": [{}]}}"#, messages.join(", ")).into()
}

fn count(tokenizer: &LocalTokenizer, body: &Bytes) -> usize {
    tokenizer
        .tokenize(&TokenRequest {
            dialect: Dialect::OpenAiChat,
            body: std::slice::from_ref(body),
            target_model: "m",
        })
        .expect("the conversation has tokens")[0]
        .tokens
        .len()
}

fn turns(criterion: &mut Criterion) {
    let cold = open(0);
    let each = count(&cold, &conversation(3)) - count(&cold, &conversation(2));
    let messages = TOKENS / each;
    let (body, next) = (conversation(messages), conversation(messages + 2));
    let tokens = count(&cold, &next);
    println!("{messages} messages, {} bytes, {tokens} tokens", next.len());
    let mut group = criterion.benchmark_group("next turn of 100k tokens");
    group.sample_size(10);
    group.throughput(Throughput::Elements(tokens as u64));
    group.bench_function("cold", |bencher| bencher.iter(|| count(&cold, &next)));
    group.bench_function("cached", |bencher| {
        bencher.iter_batched(
            || {
                let warm = open(64 << 20);
                count(&warm, &body);
                warm
            },
            |warm| {
                black_box(count(&warm, &next));
                warm
            },
            BatchSize::PerIteration,
        );
    });
    let warm = open(64 << 20);
    count(&warm, &next);
    group.bench_function("repeated", |bencher| bencher.iter(|| count(&warm, &next)));
    group.bench_function("render only", |bencher| {
        bencher.iter(|| {
            let request = TokenRequest {
                dialect: Dialect::OpenAiChat,
                body: std::slice::from_ref(&next),
                target_model: "m",
            };
            black_box(warm.render(&request).expect("the template renders").len())
        });
    });
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
