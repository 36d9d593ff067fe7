//! What an exchange tells of the endpoint that serves it, in each mode of the response's body.

use std::sync::Arc;

use bytes::Bytes;
use warmroute_core::engine::{PolicySpec, Settings};
use warmroute_core::exchange::{
    BodyMode, CommonReply, Exchange, Header, HttpBody, HttpHeaders, Message, Phase, ProtocolConfig,
    Reply, ReplyPhase,
};
use warmroute_core::learn::{Curve, Rates, Signal};
use warmroute_core::plugin::Externals;
use warmroute_core::pool::EndpointIdentity;
use warmroute_core::{Engine, Nanos};

const STREAM: &[u8] = br#"{"model":"m","prompt":"once upon a time","stream":true}"#;
const PLAIN: &[u8] = br#"{"model":"m","prompt":"once upon a time"}"#;
const NO_PROMPT: &[u8] = br#"{"model":"m","prompt":""}"#;
const EVENT: &[u8] = b"data: {\"choices\":[{\"text\":\"there\"}]}\n\n";
const USAGE: &[u8] = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":21}}\n\ndata: [DONE]\n\n";

fn seconds(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

fn engine(settings: Settings) -> Arc<Engine> {
    let policy = PolicySpec::default_policy();
    let engine =
        Engine::new(settings, &policy, &Externals::new(), || seconds(100)).expect("a valid policy");
    for number in 1..=2 {
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
    Arc::new(engine)
}

fn sampling(share: f64) -> Settings {
    Settings {
        response_sample: share,
        seed: Some(1),
        ..Settings::default()
    }
}

/// One exchange through a gateway whose bodies pass in these modes.
struct Stream<'a> {
    engine: &'a Arc<Engine>,
    exchange: Exchange,
    protocol: ProtocolConfig,
    replies: Vec<Reply>,
}

impl<'a> Stream<'a> {
    /// An exchange that was decided at second 1.
    fn decided(engine: &'a Arc<Engine>, modes: (BodyMode, BodyMode), body: &'static [u8]) -> Self {
        Self::renamed(engine, modes, body, "m")
    }

    /// The same for a request that asks the model server for another model than its body names.
    fn renamed(
        engine: &'a Arc<Engine>,
        modes: (BodyMode, BodyMode),
        body: &'static [u8],
        target: &'static str,
    ) -> Self {
        let mut stream = Self {
            engine,
            exchange: Exchange::new(Arc::clone(engine)),
            protocol: ProtocolConfig {
                request_body_mode: modes.0,
                response_body_mode: modes.1,
                send_body_without_waiting_for_header_response: false,
            },
            replies: Vec::new(),
        };
        let pairs = [
            (":path", "/v1/completions"),
            ("x-llm-d-model-name-rewrite", target),
        ];
        stream.receive(1, Phase::RequestHeaders(headers(&pairs)));
        stream.receive(1, Phase::RequestBody(piece(body, true)));
        stream
    }

    fn receive(&mut self, at: u64, phase: Phase) {
        self.send(at, Message::new(phase));
    }

    fn send(&mut self, at: u64, message: Message) {
        let message = Message {
            protocol_config: Some(self.protocol),
            ..message
        };
        self.exchange
            .receive(message, seconds(at), &mut self.replies);
    }

    fn answer(&mut self, at: u64, status: &'static str, content_type: &'static str) {
        let answer = headers(&[(":status", status), ("content-type", content_type)]);
        self.receive(at, Phase::ResponseHeaders(answer));
    }

    fn body(&mut self, at: u64, bytes: &'static [u8], end_of_stream: bool) {
        self.receive(at, Phase::ResponseBody(piece(bytes, end_of_stream)));
    }

    /// The endpoint that was chosen.
    fn chosen(&self) -> Box<str> {
        let metadata = self
            .replies
            .iter()
            .find_map(|reply| reply.metadata.as_ref());
        let destination = &metadata.expect("a decision").strings[0].1;
        std::str::from_utf8(destination).expect("text").into()
    }

    /// What the last reply asks of the gateway.
    fn asked(&self) -> Option<(BodyMode, BodyMode)> {
        self.replies.last().expect("a reply").mode_override
    }

    /// Uncached tokens reserved and not yet prefilled, and requests in flight, over all endpoints.
    fn load(&self) -> (u64, u64) {
        load(self.engine)
    }
}

fn load(engine: &Engine) -> (u64, u64) {
    let snapshot = engine.pool().snapshot();
    let endpoints = snapshot.endpoints.iter();
    endpoints.fold((0, 0), |sum, endpoint| {
        (
            sum.0 + endpoint.prefill_tokens(),
            sum.1 + endpoint.inflight_requests(),
        )
    })
}

/// What is learnt from one exchange, and what each endpoint runs on after it.
#[derive(Debug, PartialEq)]
struct Taught {
    prefill: bool,
    decode: bool,
    output: bool,
    signals: [Signal; 2],
}

const NOTHING: Taught = Taught {
    prefill: false,
    decode: false,
    output: false,
    signals: [Signal::None, Signal::None],
};

/// `first`: the endpoint that was chosen stands first.
fn taught(engine: &Engine, first: &str) -> Taught {
    let (learnt, fresh) = (engine.pool().rates().curve(), Rates::new().curve());
    let prefill = |curve: Curve| [curve.prefill_base, curve.prefill_token].map(f64::to_bits);
    let decode = |curve: Curve| [curve.decode_base, curve.decode_request].map(f64::to_bits);
    let snapshot = engine.pool().snapshot();
    let mut endpoints: Vec<_> = snapshot.endpoints.iter().collect();
    endpoints.sort_by_key(|endpoint| &*endpoint.authority != first);
    Taught {
        prefill: prefill(learnt) != prefill(fresh),
        decode: decode(learnt) != decode(fresh),
        output: learnt.output_tokens.to_bits() != fresh.output_tokens.to_bits(),
        signals: [0, 1].map(|place| endpoints[place].signal(seconds(10))),
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HttpHeaders {
    let headers = pairs.iter().map(|&(key, value)| Header {
        key: Bytes::from(key),
        value: Bytes::from(value),
    });
    HttpHeaders {
        headers: headers.collect(),
        end_of_stream: false,
    }
}

fn piece(bytes: &'static [u8], end_of_stream: bool) -> HttpBody {
    HttpBody {
        body: Bytes::from_static(bytes),
        end_of_stream,
    }
}

const OURS: (BodyMode, BodyMode) = (BodyMode::Buffered, BodyMode::None);
const DUPLEX: (BodyMode, BodyMode) = (BodyMode::FullDuplexStreamed, BodyMode::FullDuplexStreamed);
const EVENTS: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

#[test]
fn a_streams_first_byte_releases_its_prefill_and_its_end_the_rest() {
    for modes in [
        DUPLEX,
        (BodyMode::Buffered, BodyMode::Streamed),
        (BodyMode::Streamed, BodyMode::Streamed),
    ] {
        let engine = engine(Settings {
            response_usage: true,
            ..sampling(1.0)
        });
        let mut stream = Stream::decided(&engine, modes, STREAM);
        let reserved = stream.load();
        assert!(reserved.0 > 0 && reserved.1 == 1, "{modes:?}");
        stream.answer(2, "200", EVENTS);
        assert_eq!(stream.asked(), None, "it comes anyway: {modes:?}");
        assert_eq!(
            stream.load(),
            reserved,
            "headers come before the first token"
        );
        stream.body(3, EVENT, false);
        assert_eq!(stream.load(), (0, 1), "{modes:?}");
        stream.body(4, USAGE, true);
        assert_eq!(stream.load(), (0, 0), "{modes:?}");
    }
}

#[test]
fn a_plain_answers_headers_are_its_end() {
    for modes in [OURS, DUPLEX, (BodyMode::Buffered, BodyMode::Buffered)] {
        let engine = engine(sampling(1.0));
        let mut stream = Stream::decided(&engine, modes, PLAIN);
        stream.answer(2, "200", JSON);
        assert_eq!(stream.asked(), None, "no share of it is watched: {modes:?}");
        assert_eq!(stream.load(), (0, 1), "{modes:?}");
        stream.receive(3, Phase::ResponseTrailers);
        assert_eq!(stream.load(), (0, 0), "{modes:?}");
    }
}

#[test]
fn a_share_of_the_streams_is_watched_where_the_gateway_can_be_asked() {
    let watched = |share, modes, body, status, content_type| {
        let engine = engine(sampling(share));
        let asked = (0..1000).map(|_| {
            let mut stream = Stream::decided(&engine, modes, body);
            stream.answer(2, status, content_type);
            stream.asked()
        });
        asked
            .filter(|asked| *asked == Some((modes.0, BodyMode::Streamed)))
            .count()
    };
    let declined = (BodyMode::Buffered, BodyMode::Streamed);
    for modes in [OURS, declined] {
        let some = watched(0.1, modes, STREAM, "200", EVENTS);
        assert!((70..=130).contains(&some), "{modes:?}: {some}");
        assert_eq!(watched(1.0, modes, STREAM, "200", EVENTS), 1000);
        assert_eq!(watched(0.0, modes, STREAM, "200", EVENTS), 0);
        assert_eq!(watched(1.0, modes, PLAIN, "200", JSON), 0);
        assert_eq!(watched(1.0, modes, STREAM, "500", EVENTS), 0);
        assert_eq!(watched(1.0, modes, STREAM, "101", EVENTS), 0);
    }
    for modes in [DUPLEX, (BodyMode::FullDuplexStreamed, BodyMode::None)] {
        assert_eq!(watched(1.0, modes, STREAM, "200", EVENTS), 0, "{modes:?}");
    }
}

#[test]
fn the_same_answers_are_watched_for_the_same_seed() {
    let watched = || -> Vec<bool> {
        let engine = engine(sampling(0.5));
        let asked = (0..64).map(|_| {
            let mut stream = Stream::decided(&engine, OURS, STREAM);
            stream.answer(2, "200", EVENTS);
            stream.asked().is_some()
        });
        asked.collect()
    };
    assert_eq!(watched(), watched());
}

#[test]
fn a_watched_answer_leaves_as_it_came() {
    let engine = engine(sampling(1.0));
    // Also where the answer names another model than the request: nobody changes that in answers that are not watched.
    let mut stream = Stream::renamed(&engine, OURS, STREAM, "m-2");
    stream.answer(2, "200", EVENTS);
    for (bytes, end_of_stream) in [
        (&b"data: {\"model\":\"m-2\"}\n\n"[..], false),
        (EVENT, true),
    ] {
        stream.body(3, bytes, end_of_stream);
        let reply = stream.replies.last().expect("a reply");
        let unchanged = ReplyPhase::ResponseBody(CommonReply::default());
        assert_eq!(reply.phase, unchanged);
    }
}

/// What comes of the answer after its headers.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// An event, and half a second later the usage and the end.
    Whole,
    /// An event, and the end without a usage.
    WithoutUsage,
    /// Nothing of the body is seen, but its end.
    Unseen,
    /// An event, then a reset.
    Reset,
    /// A reset before the first event.
    ResetAtOnce,
}

/// One exchange whose answer comes two seconds after the request; `served`: by the other endpoint, after a retry.
fn exchange(
    engine: &Arc<Engine>,
    modes: (BodyMode, BodyMode),
    answer: (&'static [u8], &'static str, &'static str),
    rest: Rest,
    retried: bool,
) -> Box<str> {
    let (body, status, content_type) = answer;
    let mut stream = Stream::decided(engine, modes, body);
    let chosen = stream.chosen();
    let other = ["10.0.0.1:8000", "10.0.0.2:8000"];
    let other = other.into_iter().find(|one| *one != &*chosen);
    let answer = headers(&[(":status", status), ("content-type", content_type)]);
    stream.send(
        2,
        Message {
            served_endpoint: other.filter(|_| retried).map(Into::into),
            ..Message::new(Phase::ResponseHeaders(answer))
        },
    );
    if !matches!(rest, Rest::Unseen | Rest::ResetAtOnce) {
        stream.body(3, EVENT, false);
    }
    match rest {
        Rest::Whole => stream.body(5, USAGE, true),
        Rest::WithoutUsage => stream.body(5, b"data: [DONE]\n\n", true),
        Rest::Unseen => stream.receive(5, Phase::ResponseTrailers),
        Rest::Reset | Rest::ResetAtOnce => drop(stream),
    }
    assert_eq!(load(engine), (0, 0));
    chosen
}

#[test]
fn what_is_seen_of_an_answer_teaches_and_nothing_else() {
    let seen = Taught {
        prefill: true,
        decode: true,
        output: true,
        signals: [Signal::FirstToken, Signal::None],
    };
    let first_token = || Taught {
        decode: false,
        output: false,
        ..seen
    };
    let ends = || Taught {
        signals: [Signal::Ends, Signal::None],
        ..NOTHING
    };
    let (stream, plain) = ((STREAM, "200", EVENTS), (PLAIN, "200", JSON));
    let buffered = (BodyMode::Buffered, BodyMode::Buffered);
    let without_waiting = (BodyMode::FullDuplexStreamed, BodyMode::Buffered);
    let cases = [
        (DUPLEX, stream, Rest::Whole, 0.0, &seen),
        (DUPLEX, stream, Rest::WithoutUsage, 0.0, &first_token()),
        (DUPLEX, stream, Rest::Reset, 0.0, &first_token()),
        (DUPLEX, stream, Rest::ResetAtOnce, 0.0, &NOTHING),
        (DUPLEX, (STREAM, "500", EVENTS), Rest::Whole, 0.0, &NOTHING),
        (OURS, stream, Rest::Unseen, 0.0, &ends()),
        // Where the body is not shown, its end is the end of the stream.
        (OURS, stream, Rest::ResetAtOnce, 0.0, &ends()),
        (OURS, stream, Rest::ResetAtOnce, 1.0, &NOTHING),
        (
            OURS,
            (STREAM, "500", EVENTS),
            Rest::ResetAtOnce,
            0.0,
            &NOTHING,
        ),
        (OURS, stream, Rest::Whole, 1.0, &seen),
        (OURS, plain, Rest::Unseen, 1.0, &ends()),
        (
            DUPLEX,
            (NO_PROMPT, "200", JSON),
            Rest::WithoutUsage,
            0.0,
            &NOTHING,
        ),
        (OURS, (PLAIN, "503", JSON), Rest::Unseen, 1.0, &NOTHING),
        // Its events come all at once where the gateway cannot be asked for them one by one.
        (without_waiting, stream, Rest::WithoutUsage, 1.0, &ends()),
        (buffered, stream, Rest::WithoutUsage, 1.0, &first_token()),
    ];
    for (modes, answer, rest, share, expected) in cases {
        let engine = engine(sampling(share));
        let chosen = exchange(&engine, modes, answer, rest, false);
        let case = (modes, answer.1, answer.2, rest, share);
        assert_eq!(&taught(&engine, &chosen), expected, "{case:?}");
    }
}

#[test]
fn an_answer_that_came_after_a_retry_times_nobody() {
    let engine = engine(sampling(0.0));
    let answer = (STREAM, "200", EVENTS);
    let chosen = exchange(&engine, DUPLEX, answer, Rest::Whole, true);
    let Taught {
        prefill, decode, ..
    } = taught(&engine, &chosen);
    assert!(!prefill && !decode);
    assert_eq!(taught(&engine, &chosen).signals[0], Signal::None);
}

#[test]
fn an_endpoint_of_which_a_share_is_watched_runs_on_samples() {
    let engine = engine(sampling(0.5));
    for _ in 0..32 {
        let mut stream = Stream::decided(&engine, OURS, STREAM);
        stream.answer(2, "200", EVENTS);
        if stream.asked().is_some() {
            stream.body(3, EVENT, false);
            stream.body(4, USAGE, true);
        } else {
            stream.receive(4, Phase::ResponseTrailers);
        }
    }
    let snapshot = engine.pool().snapshot();
    let endpoints = snapshot.endpoints.iter();
    let signals: Vec<Signal> = endpoints
        .map(|endpoint| endpoint.signal(seconds(10)))
        .collect();
    assert!(signals.contains(&Signal::Sampled), "{signals:?}");
    assert!(!signals.contains(&Signal::FirstToken), "{signals:?}");
}
