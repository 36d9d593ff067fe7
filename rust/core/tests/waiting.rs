//! Exchanges whose prompt becomes tokens before the decision: the same replies as without, one wait later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use warmroute_core::body::Dialect;
use warmroute_core::engine::{PolicySpec, Settings};
use warmroute_core::exchange::{
    BodyMode, Exchange, Header, HttpBody, HttpHeaders, Message, Phase, Progress, ProtocolConfig,
    Reply, ReplyPhase,
};
use warmroute_core::plugin::Externals;
use warmroute_core::pool::EndpointIdentity;
use warmroute_core::stats::{Sample, SampleValue};
use warmroute_core::tokens::{
    TokenAnswer, TokenJob, TokenRequest, TokenSequence, TokenizeError, Tokenizer,
};
use warmroute_core::{Engine, Nanos};

const BODY: &str = r#"{"model":"m","prompt":"once upon a time"}"#;
const RENAMED: &str = r#"{"model":"another","prompt":"once upon a time"}"#;
const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"once upon a time"}]}"#;

/// What a tokenizer was asked.
#[derive(Debug, PartialEq)]
struct Asked {
    dialect: Dialect,
    body: Bytes,
    target_model: Box<str>,
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Answers,
    Refuses,
    Panics,
}

#[derive(Debug)]
struct FakeTokenizer {
    manner: Manner,
    asked: Mutex<Vec<Asked>>,
}

impl FakeTokenizer {
    fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self {
            manner,
            asked: Mutex::default(),
        })
    }
}

impl Tokenizer for FakeTokenizer {
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
        self.asked.lock().push(Asked {
            dialect: request.dialect,
            body: request.body.concat().into(),
            target_model: request.target_model.into(),
        });
        match self.manner {
            Manner::Answers => Ok(vec![TokenSequence {
                tokens: vec![1, 2, 3],
                ..TokenSequence::default()
            }]),
            Manner::Refuses => Err(TokenizeError::BadRequest("no template".into())),
            Manner::Panics => panic!("as asked"),
        }
    }
}

fn engine_on(clock: fn() -> Nanos, endpoints: u8, tokenizer: Option<Arc<dyn Tokenizer>>) -> Engine {
    let policy = PolicySpec::default_policy();
    let engine = Engine::new(Settings::default(), &policy, &Externals::new(), clock);
    let mut engine = engine.expect("a valid policy");
    if let Some(tokenizer) = tokenizer {
        engine = engine.with_tokenizer(tokenizer);
    }
    for number in 1..=endpoints {
        let identity = EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{number}").into(),
            address: [10, 0, 0, number].into(),
            port: 8000,
            metrics_host: None,
            labels: std::collections::BTreeMap::new(),
        };
        engine.upsert_endpoint(identity).expect("room");
    }
    engine
}

fn engine(endpoints: u8, tokenizer: Option<Arc<dyn Tokenizer>>) -> Arc<Engine> {
    Arc::new(engine_on(|| Nanos(0), endpoints, tokenizer))
}

fn headers(pairs: &[(&'static str, &'static str)], end_of_stream: bool) -> Phase {
    let always = [("x-request-id", "id")];
    let headers = always.iter().chain(pairs).map(|&(key, value)| Header {
        key: Bytes::from(key),
        value: Bytes::from(value),
    });
    Phase::RequestHeaders(HttpHeaders {
        headers: headers.collect(),
        end_of_stream,
    })
}

fn body(text: &'static str, end_of_stream: bool) -> Phase {
    Phase::RequestBody(HttpBody {
        body: Bytes::from(text),
        end_of_stream,
    })
}

fn response(status: &'static str, end_of_stream: bool) -> Phase {
    Phase::ResponseHeaders(HttpHeaders {
        headers: vec![Header {
            key: Bytes::from(":status"),
            value: Bytes::from(status),
        }],
        end_of_stream,
    })
}

/// The body modes of a request.
#[derive(Clone, Copy, Debug)]
struct Mode(BodyMode, bool);

const BUFFERED: Mode = Mode(BodyMode::Buffered, false);
const PARTIAL: Mode = Mode(BodyMode::BufferedPartial, false);
const STREAMED: Mode = Mode(BodyMode::Streamed, false);
const STREAMED_WITHOUT_WAITING: Mode = Mode(BodyMode::Streamed, true);
const FULL_DUPLEX: Mode = Mode(BodyMode::FullDuplexStreamed, false);
const NONE: Mode = Mode(BodyMode::None, false);

struct Stream {
    exchange: Exchange,
    mode: Mode,
    replies: Vec<Reply>,
}

impl Stream {
    fn open(engine: &Arc<Engine>, mode: Mode) -> Self {
        Self {
            exchange: Exchange::new(Arc::clone(engine)),
            mode,
            replies: Vec::new(),
        }
    }

    fn receive_at(&mut self, phase: Phase, now: Nanos) -> Progress {
        let Mode(request_body_mode, without_waiting) = self.mode;
        let message = Message {
            protocol_config: Some(ProtocolConfig {
                request_body_mode,
                response_body_mode: BodyMode::None,
                send_body_without_waiting_for_header_response: without_waiting,
            }),
            ..Message::new(phase)
        };
        self.exchange.receive(message, now, &mut self.replies)
    }

    fn receive(&mut self, phase: Phase) -> Progress {
        self.receive_at(phase, Nanos(0))
    }

    fn resume_at(&mut self, answer: TokenAnswer, now: Nanos) -> Progress {
        self.exchange.resume(answer, now, &mut self.replies)
    }

    fn resume(&mut self, answer: TokenAnswer) -> Progress {
        self.resume_at(answer, Nanos(0))
    }

    /// Sends `phases` with every wait answered; how often it waited, and where.
    fn run(&mut self, phases: &[Phase]) -> (Vec<usize>, Progress) {
        let (mut waits, mut last) = (Vec::new(), Progress::Continue);
        for (index, phase) in phases.iter().enumerate() {
            last = self.receive(phase.clone());
            if last == Progress::Wait {
                waits.push(index);
                let told = self.replies.len();
                let job = self.exchange.take_job().expect("a job");
                assert!(self.exchange.take_job().is_none(), "one job a wait");
                last = self.resume(job.run());
                assert!(self.replies.len() > told);
            }
        }
        (waits, last)
    }
}

/// Value of the only sample that the labels fit.
fn metric(engine: &Engine, name: &str, labels: &[&str]) -> Option<SampleValue> {
    let families = engine.stats().export();
    let family = families.into_iter().find(|family| family.name == name);
    let fits = |sample: &Sample| {
        labels
            .iter()
            .all(|label| sample.labels.contains(&(*label).into()))
    };
    let mut samples = family.expect("a family").samples.into_iter();
    samples.find(fits).map(|sample| sample.value)
}

fn number(engine: &Engine, name: &str) -> u64 {
    match metric(engine, name, &[]) {
        Some(SampleValue::Number(number)) => number as u64,
        other => panic!("{name}: {other:?}"),
    }
}

/// How often the tokenizer ended so, and how long it took together.
fn tokenized(engine: &Engine, outcome: &str) -> Option<(u64, Duration)> {
    match metric(engine, "tokenize_duration_seconds", &[outcome])? {
        SampleValue::Histogram { cumulative, sum } => {
            Some((*cumulative.last()?, Duration::from_secs_f64(sum)))
        }
        SampleValue::Number(_) => None,
    }
}

/// What is sent, and what the tokenizer is asked (nothing: the exchange must not wait), and at which message.
type Case = (
    &'static str,
    Mode,
    Vec<Phase>,
    Option<(usize, Dialect, &'static str)>,
);

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    use Dialect::{OpenAiChat, OpenAiCompletions};
    let plain = || headers(&[], false);
    let at = |path| headers(&[(":path", path)], false);
    let rename = || headers(&[("x-llm-d-model-name-rewrite", "another")], false);
    let (head, tail) = BODY.split_at(20);
    let pieces = |first: Phase| vec![first, body(head, false), body(tail, false), body("", true)];
    let with_trailers = || {
        vec![
            plain(),
            body(head, false),
            body(tail, false),
            Phase::RequestTrailers,
        ]
    };
    let asked = |index, body| Some((index, OpenAiCompletions, body));
    vec![
        (
            "buffered",
            BUFFERED,
            vec![plain(), body(BODY, true)],
            asked(1, BODY),
        ),
        (
            "buffered, renamed",
            BUFFERED,
            vec![rename(), body(BODY, true)],
            asked(1, RENAMED),
        ),
        (
            "buffered, trailers follow",
            BUFFERED,
            vec![plain(), body(BODY, false), Phase::RequestTrailers],
            asked(1, BODY),
        ),
        (
            "partial and whole",
            PARTIAL,
            vec![plain(), body(BODY, true)],
            asked(1, BODY),
        ),
        (
            "partial and cut",
            PARTIAL,
            vec![plain(), body(head, false)],
            None,
        ),
        ("streamed", STREAMED, pieces(plain()), None),
        ("streamed, renamed", STREAMED, pieces(rename()), None),
        (
            "streamed without waiting",
            STREAMED_WITHOUT_WAITING,
            pieces(plain()),
            asked(3, BODY),
        ),
        (
            "streamed without waiting, renamed",
            STREAMED_WITHOUT_WAITING,
            pieces(rename()),
            asked(3, RENAMED),
        ),
        (
            "streamed without waiting, trailers",
            STREAMED_WITHOUT_WAITING,
            with_trailers(),
            asked(3, BODY),
        ),
        ("full duplex", FULL_DUPLEX, pieces(plain()), asked(3, BODY)),
        (
            "full duplex, renamed",
            FULL_DUPLEX,
            pieces(rename()),
            asked(3, RENAMED),
        ),
        (
            "full duplex, trailers",
            FULL_DUPLEX,
            with_trailers(),
            asked(3, BODY),
        ),
        (
            "full duplex, chat",
            FULL_DUPLEX,
            vec![at("/v1/chat/completions"), body(CHAT, true)],
            Some((1, OpenAiChat, CHAT)),
        ),
        ("no body shown", NONE, vec![plain()], None),
        ("no body", FULL_DUPLEX, vec![headers(&[], true)], None),
        (
            "no prompt",
            BUFFERED,
            vec![plain(), body(r#"{"model":"m","prompt":""}"#, true)],
            None,
        ),
        (
            "no model",
            BUFFERED,
            vec![plain(), body(r#"{"prompt":"p"}"#, true)],
            None,
        ),
        ("broken", BUFFERED, vec![plain(), body("{", true)], None),
        (
            "tokens are counted only",
            FULL_DUPLEX,
            vec![at("/v1/messages/count_tokens"), body(CHAT, true)],
            None,
        ),
    ]
}

#[test]
fn replies_are_those_of_an_exchange_that_does_not_wait_in_every_mode_and_whatever_the_tokenizer_does()
 {
    for manner in [Manner::Answers, Manner::Refuses, Manner::Panics] {
        for (name, mode, phases, expected) in cases() {
            let mut direct = Stream::open(&engine(1, None), mode);
            let (never, ended) = direct.run(&phases);
            assert!(never.is_empty(), "{name}");
            assert!(!direct.replies.is_empty(), "{name}");

            let tokenizer = FakeTokenizer::new(manner);
            let engine = engine(1, Some(Arc::clone(&tokenizer) as _));
            let mut waiting = Stream::open(&engine, mode);
            let (waits, progress) = waiting.run(&phases);
            assert_eq!(waiting.replies, direct.replies, "{name}, {manner:?}");
            assert_eq!(progress, ended, "{name}");
            let expected: Vec<_> = expected.into_iter().collect();
            let indexes: Vec<usize> = expected.iter().map(|(index, ..)| *index).collect();
            assert_eq!(waits, indexes, "{name}");
            let asked: Vec<Asked> = expected
                .iter()
                .map(|&(_, dialect, body)| Asked {
                    dialect,
                    body: Bytes::from(body),
                    target_model: if body == RENAMED { "another" } else { "m" }.into(),
                })
                .collect();
            assert_eq!(*tokenizer.asked.lock(), asked, "{name}");
            let outcome = match manner {
                Manner::Answers => "ok",
                Manner::Refuses => "bad_request",
                Manner::Panics => "panicked",
            };
            let counted = tokenized(&engine, outcome).map_or(0, |(count, _)| count);
            assert_eq!(counted, asked.len() as u64, "{name}");
        }
    }
}

/// A stream that waits for its tokens.
fn waiting(engine: &Arc<Engine>) -> (Stream, TokenJob) {
    let mut stream = Stream::open(engine, FULL_DUPLEX);
    stream.receive(headers(&[], false));
    assert_eq!(stream.receive(body(BODY, true)), Progress::Wait);
    assert!(stream.replies.is_empty());
    let job = stream.exchange.take_job().expect("a job");
    (stream, job)
}

#[test]
fn a_request_counts_from_its_own_time_and_the_tokenizer_by_what_it_took() {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    #[derive(Debug)]
    struct Slow;
    impl Tokenizer for Slow {
        fn tokenize(&self, _: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
            CLOCK.fetch_add(2_000_000_000, Ordering::Relaxed);
            Ok(Vec::new())
        }
    }
    let clock = || Nanos(CLOCK.load(Ordering::Relaxed));
    let engine = Arc::new(engine_on(clock, 1, Some(Arc::new(Slow))));
    let (mut stream, job) = waiting(&engine);
    assert_eq!(number(&engine, "request_running"), 1);
    assert_eq!(number(&engine, "tokenize_queued"), 1);
    let answer = job.run();
    assert_eq!(answer.took(), Duration::from_secs(2));
    assert_eq!(number(&engine, "tokenize_queued"), 0);
    assert_eq!(
        stream.resume_at(answer, Nanos(3_000_000_000)),
        Progress::Continue
    );
    stream.receive_at(response("200", true), Nanos(5_000_000_000));
    assert_eq!(tokenized(&engine, "ok"), Some((1, Duration::from_secs(2))));
    let Some(SampleValue::Histogram { sum, .. }) = metric(&engine, "request_duration_seconds", &[])
    else {
        panic!("no duration");
    };
    assert_eq!(Duration::from_secs_f64(sum), Duration::from_secs(5));
    assert_eq!(number(&engine, "request_total"), 1);
}

#[test]
fn a_stream_that_ends_while_it_waits_leaves_nothing_behind() {
    let engine = engine(1, Some(FakeTokenizer::new(Manner::Answers) as _));
    let (stream, job) = waiting(&engine);
    let (untaken, _) = waiting(&engine);
    drop((stream, untaken));
    assert_eq!(number(&engine, "request_running"), 0);
    assert_eq!(
        number(&engine, "tokenize_queued"),
        1,
        "the host still has it"
    );
    drop(job);
    assert_eq!(number(&engine, "tokenize_queued"), 0);
    assert_eq!(number(&engine, "request_total"), 2);
    assert_eq!(engine.pool().snapshot().endpoints[0].inflight_requests(), 0);
    assert_eq!(
        tokenized(&engine, "abandoned").map(|(count, _)| count),
        Some(2),
        "a tokenizer that is slower than the gateway is patient shows"
    );
}

#[test]
fn a_request_that_is_refused_after_its_wait_is_answered_and_counted_once() {
    let engine = engine(1, Some(FakeTokenizer::new(Manner::Answers) as _));
    let (mut stream, job) = waiting(&engine);
    // What could be refused at once would not have waited.
    assert!(engine.remove_endpoint("default", "endpoint-1"));
    assert_eq!(stream.resume(job.run()), Progress::Close);
    assert!(
        matches!(&stream.replies[..], [Reply { phase: ReplyPhase::Immediate(reply), .. }] if reply.status == 503)
    );
    assert_eq!(number(&engine, "request_error_total"), 1);
    assert_eq!(number(&engine, "request_running"), 0);
    assert_eq!(engine.take_refusals().0.len(), 1);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let engine = engine(1, Some(FakeTokenizer::new(Manner::Answers) as _));
    let mut stream = Stream::open(&engine, FULL_DUPLEX);
    stream.receive(headers(&[], false));
    assert_eq!(stream.resume(TokenAnswer::busy()), Progress::Continue);
    assert_eq!(stream.receive(body(BODY, true)), Progress::Wait);
    let job = stream.exchange.take_job().expect("a job");
    assert_eq!(stream.resume(job.run()), Progress::Continue);
    let replies = stream.replies.clone();
    assert_eq!(stream.resume(TokenAnswer::busy()), Progress::Continue);
    assert_eq!(stream.replies, replies);
    assert_eq!(tokenized(&engine, "busy"), None);
}

#[test]
fn a_message_that_comes_while_the_exchange_waits_ends_the_wait() {
    let engine = engine(1, Some(FakeTokenizer::new(Manner::Answers) as _));
    let (mut stream, _job) = waiting(&engine);
    assert_eq!(stream.receive(response("200", false)), Progress::Continue);
    assert!(matches!(
        stream.replies[0].phase,
        ReplyPhase::RequestHeaders(_)
    ));
    assert!(matches!(
        stream.replies.last().expect("replies").phase,
        ReplyPhase::ResponseHeaders(_)
    ));
    assert_eq!(tokenized(&engine, "unavailable"), Some((1, Duration::ZERO)));
}

#[test]
fn a_request_is_decided_by_the_policy_that_it_waited_under() {
    let engine = engine(1, Some(FakeTokenizer::new(Manner::Answers) as _));
    let (mut stream, job) = waiting(&engine);
    let redirecting: PolicySpec = serde_json::from_value(json!({
        "plugins": [
            {"type": "queue-scorer"},
            {"type": "data-parallel-profile-handler", "parameters": {"primaryPort": 9000}},
        ],
        "profiles": [{"name": "redirecting", "plugins": [{"plugin": "queue-scorer"}]}],
    }))
    .expect("a policy");
    engine
        .reload(&redirecting, &Externals::new())
        .expect("valid");
    stream.resume(job.run());
    let destination = |stream: &Stream| {
        let metadata = stream.replies[0].metadata.clone().expect("metadata");
        metadata.strings[0].1.clone()
    };
    assert_eq!(destination(&stream), "10.0.0.1:8000");
    let mut next = Stream::open(&engine, FULL_DUPLEX);
    next.run(&[headers(&[], false), body(BODY, true)]);
    assert_eq!(destination(&next), "10.0.0.1:9000");
}
