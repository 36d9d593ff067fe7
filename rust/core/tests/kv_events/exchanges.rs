//! Requests as a gateway sends them, up to the endpoint that is chosen by what engines tell.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use warmroute_core::Nanos;
use warmroute_core::body::Dialect;
use warmroute_core::exchange::{
    BodyMode, Exchange, Header, HttpBody, HttpHeaders, Message, Phase, Progress, ProtocolConfig,
    ReplyPhase,
};
use warmroute_core::kv_events::Engine as Form;
use warmroute_core::plugin::{Externals, TokenizerSettings};
use warmroute_core::tokens::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};

use crate::gateway::{Gateway, SIZE, policy};
use crate::wire::{count, text};

/// Takes token ids as they are, and each byte of a text as a token if it may.
#[derive(Debug)]
struct Bytewise {
    only_ids: bool,
}

impl Tokenizer for Bytewise {
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
        assert_eq!(request.dialect, Dialect::OpenAiCompletions);
        let body: Json = serde_json::from_slice(&request.body.concat()).expect("JSON");
        let tokens = match &body["prompt"] {
            Json::String(text) => text.bytes().map(u32::from).collect(),
            ids => serde_json::from_value(ids.clone()).expect("token ids"),
        };
        Ok(vec![TokenSequence {
            tokens,
            ..TokenSequence::default()
        }])
    }

    fn only_reads_ids(&self) -> bool {
        self.only_ids
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the engine calls it")]
fn open(settings: &TokenizerSettings) -> Result<Arc<dyn Tokenizer>, Box<str>> {
    Ok(Arc::new(Bytewise {
        only_ids: *settings == TokenizerSettings::TokenIds,
    }))
}

fn gateway(tokenizer: bool, endpoints: u8) -> Gateway {
    let local = json!({"type": "token-producer", "parameters": {"local": {"path": "/nowhere"}}});
    let more = if tokenizer { vec![local] } else { vec![] };
    let externals = Externals {
        open_tokenizer: Some(open),
        ..Externals::default()
    };
    Gateway::at(
        || Nanos(0),
        &policy(&json!({}), &more),
        endpoints,
        &externals,
    )
}

/// Whether the request waits for its tokens, and where it goes; none: it is refused.
fn send(gateway: &Gateway, body: &Json, rename: Option<&'static str>) -> (bool, Option<Bytes>) {
    let mut exchange = Exchange::new(Arc::clone(&gateway.engine));
    let mut replies = Vec::new();
    let rename = rename.map(|model| ("x-llm-d-model-name-rewrite", model));
    let headers = [(":path", "/v1/completions")].into_iter().chain(rename);
    let headers = headers.map(|(key, value)| Header {
        key: Bytes::from(key),
        value: Bytes::from(value),
    });
    let phases = [
        Phase::RequestHeaders(HttpHeaders {
            headers: headers.collect(),
            end_of_stream: false,
        }),
        Phase::RequestBody(HttpBody {
            body: body.to_string().into(),
            end_of_stream: true,
        }),
    ];
    let mut last = Progress::Continue;
    for phase in phases {
        let message = Message {
            protocol_config: Some(ProtocolConfig {
                request_body_mode: BodyMode::Buffered,
                response_body_mode: BodyMode::None,
                send_body_without_waiting_for_header_response: false,
            }),
            ..Message::new(phase)
        };
        last = exchange.receive(message, Nanos(0), &mut replies);
    }
    let waits = last == Progress::Wait;
    if waits {
        let job = exchange.take_job().expect("a job");
        exchange.resume(job.run(), Nanos(0), &mut replies);
    }
    let reply = replies.pop().expect("a reply");
    let refused = matches!(reply.phase, ReplyPhase::Immediate(_));
    let destination = reply.metadata.map(|metadata| metadata.strings[0].1.clone());
    assert_ne!(refused, destination.is_some());
    (waits, destination)
}

#[test]
fn a_prompt_goes_where_its_tokens_are_held_and_reserves_the_rest() {
    let prompt = "once upon a time there was a picker that knew what its engines held, ".repeat(2);
    let ids: Vec<u32> = prompt.bytes().map(u32::from).collect();
    let gateway = gateway(true, 3);
    gateway.holds(1, &ids[..2 * SIZE as usize], SIZE, vec![]);
    gateway.holds(2, &ids[..4 * SIZE as usize], SIZE, vec![]);
    gateway.holds(3, &ids, SIZE, vec![("lora_name", text("a1"))]);
    let prompts = [json!(prompt), json!(ids)];
    for (prompt, rename, destination) in [
        (&prompts[0], None, "10.0.0.2:8000"),
        (&prompts[1], None, "10.0.0.2:8000"),
        (&prompts[0], Some("a1"), "10.0.0.3:8000"),
    ] {
        let body = json!({"model": "tiny", "prompt": prompt});
        let sent = send(&gateway, &body, rename);
        assert_eq!(sent, (true, Some(destination.into())), "{rename:?}");
    }
}

#[test]
fn without_a_tokenizer_only_prompts_that_are_token_ids_are_matched() {
    let ids = count(0, 8 * SIZE + 1);
    let gateway = gateway(false, 2);
    gateway.publisher(1, 0, Form::Vllm).send(vec![]);
    gateway.holds(2, &ids, SIZE, vec![]);
    let fallbacks = || gateway.metric("prefix_fallbacks_total", &["no_tokens"]);
    let of = |prompt: Json| json!({"model": "tiny", "prompt": prompt});
    for _ in 0..3 {
        let sent = send(&gateway, &of(json!(ids)), None);
        assert_eq!(sent, (true, Some("10.0.0.2:8000".into())));
    }
    assert_eq!(fallbacks(), None);
    for (prompt, fallen) in [
        (json!("a text"), 1),
        (json!(["a text", "another"]), 2),
        (json!([[1, 2], "a text"]), 3),
    ] {
        let (waits, destination) = send(&gateway, &of(prompt), None);
        assert!(!waits && destination.is_some());
        assert_eq!(fallbacks(), Some(fallen));
    }
}

#[test]
fn tokens_that_are_of_no_use_are_not_waited_for() {
    let gateway = gateway(true, 1);
    let body = json!({"model": "tiny", "prompt": "a text"});
    assert!(!send(&gateway, &body, None).0, "no engine tells");
    assert_eq!(
        gateway.metric("prefix_fallbacks_total", &["no_events"]),
        Some(1)
    );
    gateway.publisher(1, 0, Form::Vllm).send(vec![]);
    assert!(send(&gateway, &body, None).0);
    // What is refused anyway.
    gateway.engine.remove_endpoint("default", "endpoint-1");
    assert_eq!(send(&gateway, &body, None), (false, None));
}
