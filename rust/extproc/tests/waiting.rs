//! The native host with exchanges that wait for the tokens of their prompts.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use support::client::{Stream, connect, port, start};
use support::{
    HttpHeaders, ProcessingResponse, Request, Response, request, request_body, request_headers,
};
use tokio::task::{JoinSet, spawn_blocking};
use tonic::Code;
use warmroute_core::Engine;
use warmroute_core::Nanos;
use warmroute_core::engine::{PolicySpec, Settings};
use warmroute_core::plugin::Externals;
use warmroute_core::pool::EndpointIdentity;
use warmroute_core::stats::SampleValue;
use warmroute_core::tokens::{
    TokenAnswer, TokenJob, TokenRequest, TokenSequence, TokenizeError, Tokenizer,
};
use warmroute_extproc::codec::DecodeError;
use warmroute_extproc::session::{Progress, Session, SessionFactory};
use warmroute_extproc::{ExchangeFactory, now};

const FULL_DUPLEX: i32 = 4;
const BUFFERED: i32 = 2;
const BODY: &[u8] = br#"{"model":"m","prompt":"once upon a time"}"#;
const PANIC: &[u8] = br#"{"model":"panic","prompt":"once upon a time"}"#;
/// Jobs that may wait in the host.
const QUEUE: usize = 1024;

/// Answers when it is told to.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    entered: AtomicUsize,
}

impl Gate {
    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    fn entered(&self) -> usize {
        self.entered.load(Ordering::SeqCst)
    }
}

impl Tokenizer for Gate {
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
        assert_ne!(request.target_model, "panic", "as asked");
        self.entered.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock();
        self.opened.wait_while(&mut open, |open| !*open);
        Ok(Vec::new())
    }
}

/// Threads of the host that tokenise.
fn threads() -> usize {
    std::thread::available_parallelism().unwrap().get().max(2)
}

/// An engine with one endpoint, and the gate that its requests wait at.
fn gated() -> (Arc<Engine>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let policy = PolicySpec::default_policy();
    let engine = Engine::new(Settings::default(), &policy, &Externals::new(), now)
        .unwrap()
        .with_tokenizer(Arc::clone(&gate) as _);
    let endpoint = EndpointIdentity {
        namespace: "default".into(),
        name: "endpoint".into(),
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        port: 8000,
        metrics_host: None,
        labels: BTreeMap::new(),
    };
    engine.upsert_endpoint(endpoint).unwrap();
    (Arc::new(engine), gate)
}

fn factory(engine: &Arc<Engine>) -> ExchangeFactory {
    ExchangeFactory::new(Arc::clone(engine))
}

/// How often the tokenizer ended so.
fn tokenized(engine: &Engine, outcome: &str) -> u64 {
    let families = engine.stats().export();
    let mut samples = families
        .iter()
        .find(|family| family.name == "tokenize_duration_seconds")
        .unwrap()
        .samples
        .iter();
    let sample = samples.find(|sample| *sample.labels[0] == *outcome);
    match sample.map(|sample| &sample.value) {
        Some(SampleValue::Histogram { cumulative, .. }) => *cumulative.last().unwrap(),
        _ => 0,
    }
}

fn running(engine: &Engine) -> f64 {
    let families = engine.stats().export();
    let family = families
        .iter()
        .find(|family| family.name == "request_running");
    let running = |value: &SampleValue| match value {
        SampleValue::Number(number) => *number,
        SampleValue::Histogram { .. } => f64::NAN,
    };
    let samples = family.unwrap().samples.iter();
    samples.map(|sample| running(&sample.value)).sum()
}

async fn until(reached: impl Fn() -> bool) {
    while !reached() {
        tokio::task::yield_now().await;
    }
}

fn names_the_endpoint(reply: &ProcessingResponse) -> bool {
    let metadata = reply.dynamic_metadata.as_ref();
    metadata.is_some_and(|metadata| format!("{metadata:?}").contains("10.0.0.1:8000"))
}

/// A stream whose request is complete but for its answer.
async fn asked(channel: &tonic::transport::Channel, mode: i32) -> Stream {
    let mut stream = Stream::open(channel).await.unwrap();
    stream.send(&request_headers(Some(mode), false)).await;
    if mode == BUFFERED {
        // This reply must not be held back by the wait that follows.
        let reply = stream.expect_reply().await;
        assert!(matches!(reply.response, Some(Response::RequestHeaders(_))));
    }
    stream.send(&request_body(BODY, true)).await;
    stream
}

/// The rest of an exchange.
async fn finish(mut stream: Stream) {
    assert!(names_the_endpoint(&stream.expect_reply().await));
    stream.half_close();
    while stream.reply().await.unwrap().is_some() {}
}

#[tokio::test]
async fn many_streams_wait_at_once_and_hold_up_nobody_else() {
    let (engine, gate) = gated();
    let mut server = start(factory(&engine));
    let channel = connect(&server).await;
    let mut streams = Vec::new();
    for index in 0..300 {
        let mode = [FULL_DUPLEX, BUFFERED][index % 2];
        streams.push(asked(&channel, mode).await);
    }
    let stats = engine.stats().tokenize();
    until(|| gate.entered() == threads()).await;
    until(|| stats.queued() + threads() as u64 == 300).await;
    assert_eq!(running(&engine) as u64, 300);
    // One that is decided from its headers does not wait.
    let other = Stream::open(&channel).await.unwrap();
    other.send(&request_headers(Some(FULL_DUPLEX), true)).await;
    finish(other).await;
    gate.open();
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(finish(stream));
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    assert_eq!(tokenized(&engine, "ok"), 300);
    assert_eq!(stats.queued(), 0);
    assert!(
        spawn_blocking(move || server.stop(Duration::from_secs(60)))
            .await
            .unwrap()
    );
    assert_eq!(running(&engine) as u64, 0);
}

#[tokio::test]
async fn nothing_is_read_from_a_stream_while_it_waits() {
    let (engine, gate) = gated();
    let server = start(factory(&engine));
    let mut stream = asked(&connect(&server).await, FULL_DUPLEX).await;
    stream
        .send(&request(Request::ResponseHeaders(HttpHeaders::default())))
        .await;
    stream.half_close();
    until(|| gate.entered() == 1).await;
    gate.open();
    let mut replies = Vec::new();
    while let Some(reply) = stream.reply().await.unwrap() {
        replies.push(reply.response.unwrap());
    }
    assert!(matches!(
        replies[..],
        [
            Response::RequestHeaders(_),
            Response::RequestBody(_),
            Response::ResponseHeaders(_)
        ]
    ));
    // A message that had been read would have ended the wait without tokens.
    assert_eq!(tokenized(&engine, "ok"), 1);
}

#[tokio::test]
async fn streams_that_are_reset_while_they_wait_leave_nothing_behind() {
    let (engine, gate) = gated();
    let server = start(factory(&engine));
    let channel = connect(&server).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(asked(&channel, FULL_DUPLEX).await);
    }
    let stats = engine.stats().tokenize();
    until(|| gate.entered() == threads()).await;
    until(|| stats.queued() + threads() as u64 == 100).await;
    let kept = streams.pop().unwrap();
    drop(streams);
    until(|| server.streams() == 1).await;
    assert!(stats.queued() <= 1, "jobs went with their streams");
    gate.open();
    finish(kept).await;
    until(|| server.streams() == 0).await;
    assert_eq!(
        gate.entered(),
        threads() + 1,
        "nothing was tokenised for nobody"
    );
    assert_eq!(running(&engine) as u64, 0);
    assert_eq!(engine.pool().snapshot().endpoints[0].inflight_requests(), 0);
    // Of what ran for streams that were gone nothing was told.
    assert_eq!(tokenized(&engine, "ok"), 1);
}

#[tokio::test]
async fn what_the_queue_has_no_room_for_is_decided_at_once() {
    let (engine, gate) = gated();
    let server = start(factory(&engine));
    let channel = connect(&server).await;
    let stats = engine.stats().tokenize();
    let mut streams = Vec::new();
    while stats.queued() < QUEUE as u64 {
        streams.push(asked(&channel, FULL_DUPLEX).await);
        let sent = streams.len() as u64;
        until(|| stats.queued() + gate.entered() as u64 == sent).await;
    }
    finish(asked(&channel, FULL_DUPLEX).await).await;
    assert_eq!(tokenized(&engine, "busy"), 1);
    drop(streams.split_off(streams.len() - 10));
    until(|| stats.queued() == QUEUE as u64 - 10).await;
    streams.push(asked(&channel, FULL_DUPLEX).await);
    until(|| stats.queued() == QUEUE as u64 - 9).await;
    gate.open();
    for stream in streams {
        finish(stream).await;
    }
    assert_eq!(tokenized(&engine, "busy"), 1);
}

#[tokio::test]
async fn draining_lets_what_waits_come_to_its_end() {
    let (engine, gate) = gated();
    let mut server = start(factory(&engine));
    let address = format!("127.0.0.1:{}", port(&server));
    let stream = asked(&connect(&server).await, BUFFERED).await;
    until(|| gate.entered() == 1).await;
    let stopped = spawn_blocking(move || server.stop(Duration::from_secs(60)));
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopped.is_finished());
    gate.open();
    finish(stream).await;
    assert!(stopped.await.unwrap());
}

#[tokio::test]
async fn what_outlasts_the_drain_is_aborted_while_it_waits() {
    let (engine, gate) = gated();
    let mut server = start(factory(&engine));
    let mut stream = asked(&connect(&server).await, FULL_DUPLEX).await;
    until(|| gate.entered() == 1).await;
    let server = spawn_blocking(move || {
        assert!(!server.stop(Duration::from_millis(50)));
        server
    });
    assert_eq!(server.await.unwrap().streams(), 0);
    assert!(stream.reply().await.is_err());
    assert_eq!(running(&engine) as u64, 0);
    gate.open();
}

#[tokio::test]
async fn a_tokenizer_that_panics_costs_the_request_its_tokens_only() {
    let (engine, _gate) = gated();
    let server = start(factory(&engine));
    let channel = connect(&server).await;
    for panics in 1..=4 {
        let stream = Stream::open(&channel).await.unwrap();
        stream
            .send(&request_headers(Some(FULL_DUPLEX), false))
            .await;
        stream.send(&request_body(PANIC, true)).await;
        finish(stream).await;
        assert_eq!(server.statistics().panics, panics);
        assert_eq!(tokenized(&engine, "panicked"), panics);
    }
}

/// Says that it waits, without a job or with one whose answer it does not survive.
struct Broken(Option<TokenJob>);

impl Session for Broken {
    fn receive(
        &mut self,
        _frame: bytes::Bytes,
        _now: Nanos,
        _out: &mut Vec<bytes::Bytes>,
    ) -> Result<Progress, DecodeError> {
        Ok(Progress::Wait)
    }

    fn take_work(&mut self) -> Option<TokenJob> {
        self.0.take()
    }

    fn resume(&mut self, _: TokenAnswer, _: Nanos, _: &mut Vec<bytes::Bytes>) -> Progress {
        panic!("as asked")
    }
}

struct BrokenFactory(Arc<Engine>, bool);

impl SessionFactory for BrokenFactory {
    fn open(&self) -> Box<dyn Session> {
        let job = TokenJob::new(
            Arc::new(Gate::default()),
            warmroute_core::body::Dialect::OpenAiCompletions,
            Vec::new(),
            "panic",
            now,
            self.0.stats().tokenize(),
        );
        Box::new(Broken(Some(job).filter(|_| self.1)))
    }
}

#[tokio::test]
async fn a_session_that_fails_after_its_wait_or_waits_for_nothing_ends_its_stream_with_internal() {
    for (has_job, panics) in [(false, 0), (true, 2)] {
        let (engine, _gate) = gated();
        let server = start(BrokenFactory(engine, has_job));
        let mut stream = Stream::open(&connect(&server).await).await.unwrap();
        stream.send(&request_body(BODY, true)).await;
        assert_eq!(stream.reply().await.unwrap_err().code(), Code::Internal);
        assert_eq!(server.statistics().panics, panics);
        until(|| server.streams() == 0).await;
    }
}
