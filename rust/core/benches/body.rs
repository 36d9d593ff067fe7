//! Cost of one scan, hashing included: bodies as clients send them, in one piece and in chunks as Envoy sends them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warmroute_core::body::{BodyScanner, Dialect, ResponseKind, ScanLimits, UsageScanner};

const WORDS: &str = "The quick brown fox jumps over the lazy dog while the gateway routes another prompt to a warm cache. ";

/// Text of so many bytes, with `between` every 100.
fn prose(bytes: usize, between: &str) -> String {
    let line = format!("{WORDS}{between}");
    line.repeat(bytes / line.len() + 1)
}

fn chat(content: &str) -> Vec<u8> {
    format!(
        r#"{{"model":"llama-3-8b","messages":[{{"role":"system","content":"You are helpful."}},{{"role":"user","content":"{content}"}}],"max_tokens":128,"stream":true}}"#
    )
    .into_bytes()
}

/// A frame with a `GenerateRequest` of vLLM.
fn generate_request(ids: impl Iterator<Item = u32>) -> Vec<u8> {
    let varint = |mut value: usize| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let packed: Vec<u8> = ids.flat_map(|id| varint(id as usize)).collect();
    let mut message = packed;
    // `input_ids` is field 2 of `TokenizedInput`, which is field 2 of the request.
    for _ in 0..2 {
        message = [vec![0x12], varint(message.len()), message].concat();
    }
    [
        vec![0],
        (message.len() as u32).to_be_bytes().to_vec(),
        message,
    ]
    .concat()
}

fn scan(dialect: Dialect, body: &[u8], piece: usize) -> u32 {
    let mut scanner = BodyScanner::new(dialect, ScanLimits::default());
    for piece in body.chunks(piece) {
        scanner.feed(piece).expect("valid");
    }
    scanner.finish().expect("valid").prompt_tokens
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    let ids: Vec<String> = (0..20_000u32)
        .map(|id| (id * 7 % 128_000).to_string())
        .collect();
    let turns = format!(r#"{{"role":"user","content":"{WORDS}"}},"#).repeat(80);
    for (name, dialect, body) in [
        ("chat-1k", Dialect::OpenAiChat, chat(&prose(1 << 10, ""))),
        ("chat-8k", Dialect::OpenAiChat, chat(&prose(8 << 10, ""))),
        ("chat-64k", Dialect::OpenAiChat, chat(&prose(64 << 10, ""))),
        (
            "chat-400k",
            Dialect::OpenAiChat,
            chat(&prose(400 << 10, "")),
        ),
        (
            "chat-8k-newlines",
            Dialect::OpenAiChat,
            chat(&prose(8 << 10, "\\n")),
        ),
        (
            "chat-8k-escaped-unicode",
            Dialect::OpenAiChat,
            chat(&"\\u4f60\\u597d".repeat(700)),
        ),
        (
            "chat-10k-80-turns",
            Dialect::OpenAiChat,
            format!(r#"{{"messages":[{turns}0]}}"#).into_bytes(),
        ),
        (
            "token-ids-20k",
            Dialect::VllmGenerate,
            format!(r#"{{"token_ids":[{}]}}"#, ids.join(", ")).into_bytes(),
        ),
        (
            "grpc-token-ids-20k",
            Dialect::VllmGrpcGenerate,
            generate_request(ids.iter().filter_map(|id| id.parse().ok())),
        ),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| scan(dialect, black_box(&body), usize::MAX));
        });
    }
    let body = chat(&prose(400 << 10, ""));
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("chat-400k-in-chunks-of-16k", |bencher| {
        bencher.iter(|| scan(Dialect::OpenAiChat, black_box(&body), 16 << 10));
    });
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let event = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795164700,"model":"tiny","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null}]}"#;
    let mut group = criterion.benchmark_group("usage");
    group.throughput(Throughput::Bytes(event.len() as u64));
    group.bench_function("event", |bencher| {
        let mut scanner = UsageScanner::new(ResponseKind::EventStream);
        bencher.iter(|| {
            scanner.feed(black_box(event.as_bytes()));
            scanner.feed(b"\n\n");
        });
    });
    group.finish();
}

criterion_group!(benches, requests, responses);
criterion_main!(benches);
