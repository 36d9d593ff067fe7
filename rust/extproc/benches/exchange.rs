//! Whole exchanges in process: what a request costs beyond the echo of the same frames, without a network.
//!
//! Frames as Envoy sends them in full duplex: headers, body messages of 16,000 bytes, an empty message with the end of the stream. Bodies as the load
//! generator makes them: 64 groups share 80 % of their prompt, the rest is new in each request. The index is full before the time begins, so that each
//! new block evicts one.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use warmroute_core::Engine;
use warmroute_core::engine::{PolicySpec, Settings};
use warmroute_core::plugin::{Externals, PluginSpec};
use warmroute_core::pool::EndpointIdentity;
use warmroute_extproc::{EchoFactory, ExchangeFactory, SessionFactory, now};

const GROUPS: usize = 64;
const SHARED_PERCENT: usize = 80;
const CHUNK_BYTES: usize = 16_000;

/// 27,000 blocks of 16 tokens in an engine, 64 tokens in a block of the index.
const BLOCKS_PER_ENDPOINT: usize = 27_000 * 16 / 64;

/// Random text from which new tails are cut.
const TEXT_BYTES: usize = 1 << 20;

/// The frames of one group's requests, and the parts of them that are new in each.
struct Template {
    frames: Vec<(Vec<u8>, Range<usize>)>,
}

/// Makes requests.
struct Source {
    templates: Vec<Template>,
    text: Vec<u8>,
    random: fastrand::Rng,
}

impl Source {
    fn new(body_bytes: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let templates = (0..GROUPS)
            .map(|_| Template::new(body_bytes, &mut random))
            .collect();
        let text = text(TEXT_BYTES + body_bytes, &mut random);
        Self {
            templates,
            text,
            random,
        }
    }

    /// The messages of one request, without gRPC's prefix.
    fn request(&mut self) -> Vec<Bytes> {
        let template = &self.templates[self.random.usize(..GROUPS)];
        let mut offset = self.random.usize(..TEXT_BYTES);
        template
            .frames
            .iter()
            .map(|(frame, tail)| {
                let mut frame = frame.clone();
                frame[tail.clone()].copy_from_slice(&self.text[offset..offset + tail.len()]);
                offset += tail.len();
                Bytes::from(frame)
            })
            .collect()
    }
}

impl Template {
    fn new(body_bytes: usize, random: &mut fastrand::Rng) -> Self {
        let opening = br#"{"model":"bench-model","max_tokens":16,"stream":false,"messages":[{"role":"user","content":""#;
        let closing = br#""}]}"#;
        let prompt = body_bytes - opening.len() - closing.len();
        let body = [opening, &text(prompt, random)[..], closing].concat();
        let tail = opening.len() + prompt * SHARED_PERCENT / 100..opening.len() + prompt;
        let mut frames = vec![(headers(body.len()), 0..0)];
        for (number, chunk) in body.chunks(CHUNK_BYTES).enumerate() {
            let start = number * CHUNK_BYTES;
            let frame = delimited(4, &delimited(1, chunk));
            let shift = frame.len() - chunk.len();
            let inside = |at: usize| at.clamp(start, start + chunk.len()) - start + shift;
            let new = inside(tail.start)..inside(tail.end);
            frames.push((frame, new));
        }
        // HttpBody { end_of_stream: true }
        frames.push((delimited(4, &[0x10, 1]), 0..0));
        Self { frames }
    }
}

fn headers(content_length: usize) -> Vec<u8> {
    let length = content_length.to_string();
    let map: Vec<u8> = [
        (":authority", "gateway.example.com"),
        (":path", "/v1/chat/completions"),
        (":method", "POST"),
        (":scheme", "http"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        (
            "authorization",
            "Bearer sk-0123456789abcdef0123456789abcdef",
        ),
        ("content-type", "application/json"),
        ("content-length", &length),
        ("user-agent", "OpenAI/Python 1.99.0"),
        ("x-forwarded-for", "10.0.0.7"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "00000000-0000-4000-8000-000000000000"),
    ]
    .iter()
    .flat_map(|(key, value)| {
        let header = [delimited(1, key.as_bytes()), delimited(3, value.as_bytes())].concat();
        delimited(1, &header)
    })
    .collect();
    let mut message = delimited(2, &delimited(1, &map));
    // ProtocolConfiguration: full duplex for the request, no response body.
    message.extend(delimited(11, &[0x08, 4]));
    message
}

/// A length-delimited field of the protobuf wire format.
fn delimited(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
    out
}

/// Letters with a space now and then.
fn text(length: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    (0..length)
        .map(|_| match random.u8(..6) {
            0 => b' ',
            _ => random.lowercase() as u8,
        })
        .collect()
}

#[inline(never)]
fn exchange(factory: &dyn SessionFactory, messages: Vec<Bytes>, out: &mut Vec<Bytes>) {
    let mut session = factory.open();
    for message in messages {
        // Fails for what is no message; the frames here are.
        let progress = session.receive(message, now(), out);
        debug_assert!(progress.is_ok());
    }
    drop(session);
    out.drain(..).for_each(|reply| drop(black_box(reply)));
}

fn engine(endpoints: u8) -> Option<Arc<Engine>> {
    let mut policy = PolicySpec::default_policy();
    policy.plugins.push(
        PluginSpec::of_type("approx-prefix-cache-producer")
            .with("lruCapacityPerServer", BLOCKS_PER_ENDPOINT),
    );
    let engine = Engine::new(Settings::default(), &policy, &Externals::new(), now).ok()?;
    for number in 0..endpoints {
        let identity = EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{number}").into(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
            port: 8000,
            metrics_host: None,
            labels: BTreeMap::new(),
        };
        engine.upsert_endpoint(identity).ok()?;
    }
    engine.maintain();
    Some(Arc::new(engine))
}

fn exchanges(criterion: &mut Criterion) {
    for body_bytes in [8 << 10, 64 << 10, 400_000] {
        let mut group = criterion.benchmark_group(format!("{} KB", body_bytes >> 10));
        group.throughput(Throughput::Bytes(body_bytes as u64));
        let mut source = Source::new(body_bytes);
        let mut out = Vec::new();
        group.bench_function("echo", |bencher| {
            bencher.iter_batched(
                || source.request(),
                |messages| exchange(&EchoFactory::default(), messages, &mut out),
                BatchSize::NumIterations(16),
            );
        });
        for endpoints in [8, 100] {
            let Some(engine) = engine(endpoints) else {
                continue;
            };
            let factory = ExchangeFactory::new(Arc::clone(&engine));
            let full = u64::from(endpoints) * BLOCKS_PER_ENDPOINT as u64;
            group.bench_function(format!("exchange, {endpoints} endpoints"), |bencher| {
                while engine.index_usage().evictions < full / 8 {
                    for _ in 0..100 {
                        exchange(&factory, source.request(), &mut out);
                    }
                }
                bencher.iter_batched(
                    || source.request(),
                    |messages| exchange(&factory, messages, &mut out),
                    BatchSize::NumIterations(16),
                );
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = exchanges
}
criterion_main!(benches);
