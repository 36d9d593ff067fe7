//! The scanner against a full parser, on arbitrary documents in arbitrary pieces.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use warmroute_core::body::{
    BodyScanner, Dialect, ResponseKind, ScanError, UsageScanner, go_error, refusal,
};

use crate::canonical::Canonical;
use crate::grpc::{delimited, frame, number, varint};
use crate::{LIMITS, pieces, scan, scan_parted};

const KEYS: &[&str] = &[
    "role",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "detail",
    "name",
    "model",
    "messages",
    "tools",
    "prompt",
    "stream",
    "max_tokens",
    "usage",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,40}",
        "\\PC{0,12}",
        any::<String>(),
        "[a-z]{200,3000}",
        "(\"|\\\\|\n|\u{1f600}|é){0,20}"
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => proptest::sample::select(KEYS).prop_map(str::to_owned), 1 => text()]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key(), inner), 0..6)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

prop_compose! {
    fn request()(model in proptest::option::of(text()), messages in proptest::collection::vec(value(), 1..5), tools in proptest::option::of(value()),
                 stream in proptest::option::of(any::<bool>()), max_tokens in proptest::option::of(any::<u32>()), other in proptest::option::of(value())) -> Value {
        let mut body = json!({"messages": messages});
        let fields = [("model", model.map(Value::from)), ("tools", tools), ("stream", stream.map(Value::from)), ("max_tokens", max_tokens.map(Value::from)), ("other", other)];
        for (key, value) in fields {
            if let Some(value) = value {
                body[key] = value;
            }
        }
        body
    }
}

/// JSON with every character beyond ASCII escaped.
fn ascii(text: &str) -> String {
    let mut escaped = String::new();
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => escaped.push(byte.into()),
            _ => write!(escaped, "\\u{unit:04X}").expect("memory"),
        }
    }
    escaped
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        proptest::collection::vec(any::<usize>(), 0..8),
        Just((0..4_000).collect())
    ]
}

/// A document with a few bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<usize>(),
        0..4u8,
        proptest::sample::select(&b"{}[],:\"\\0123456789.eE+-truefalsn \n\x01\x7f\xc3\xffu"[..]),
    );
    (request(), proptest::collection::vec(edit, 1..4)).prop_map(|(body, edits)| {
        let mut body = body.to_string().into_bytes();
        for (at, kind, byte) in edits {
            let at = at % (body.len() + 1);
            match kind {
                0 => body.insert(at, byte),
                1 if at < body.len() => body[at] = byte,
                2 if at < body.len() => drop(body.remove(at)),
                _ => body.truncate(at),
            }
        }
        body
    })
}

/// Token soup: short documents of which many are nearly right.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"messages\"",
        "\"model\":\"m\"",
        "0",
        "12",
        "-",
        ".",
        "e",
        "+",
        "true",
        "nul",
        "null",
        " ",
        "\n",
        "1e400",
        "\\u00e9",
        "{\"prompt\":",
    ];
    proptest::collection::vec(
        proptest::sample::select(PARTS).prop_map(str::to_owned),
        0..14,
    )
    .prop_map(|parts| parts.concat().into_bytes())
}

/// A gRPC message of one of the dialects, with a few bytes changed.
fn mutated_message() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<usize>(), 0..4u8, any::<u8>());
    let message = prop_oneof![
        proptest::collection::vec(any::<u32>(), 0..200).prop_map(|ids| {
            let packed: Vec<u8> = ids.iter().flat_map(|id| varint(u64::from(*id))).collect();
            [delimited(2, &delimited(2, &packed)), number(5, 1)].concat()
        }),
        text()
            .prop_map(|text| [delimited(3, text.as_bytes()), delimited(4, &number(8, 9))].concat()),
        request().prop_map(|body| delimited(2, &delimited(2, body.to_string().as_bytes()))),
        (any::<u32>(), any::<u32>()).prop_map(|(input, output)| {
            let counts = [number(3, u64::from(input)), number(4, u64::from(output))].concat();
            delimited(2, &counts)
        }),
    ];
    (
        proptest::collection::vec(message, 1..3),
        proptest::collection::vec(edit, 0..4),
    )
        .prop_map(|(messages, edits)| {
            let mut body: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
            for (at, kind, byte) in edits {
                // Tags and lengths stand at the beginning.
                let at = if byte % 2 == 0 { at % 16 } else { at } % (body.len() + 1);
                match kind {
                    0 => body.insert(at, byte),
                    1 if at < body.len() => body[at] = byte,
                    2 if at < body.len() => drop(body.remove(at)),
                    _ => body.truncate(at),
                }
            }
            body
        })
}

/// Whether the full parser takes a body, where its rules are those of Go: none, when it has no opinion.
fn full_parser_takes(body: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(body).ok()?;
    // Lone surrogates: Go replaces, serde_json refuses.
    if text.contains("\\u") {
        return None;
    }
    Some(matches!(
        serde_json::from_str::<Value>(text),
        Ok(Value::Object(_) | Value::Null)
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_full_parser_finds(body in request(), pretty in any::<bool>(), escaped in any::<bool>(), cuts in cuts()) {
        let mut written = if pretty { serde_json::to_string_pretty(&body).expect("value") } else { body.to_string() };
        if escaped {
            written = ascii(&written);
        }
        let scanned = scan_parted(Dialect::OpenAiChat, written.as_bytes(), &cuts).expect("valid");
        prop_assert_eq!(scanned.model.as_deref(), body["model"].as_str());
        if let Some(span) = scanned.model_span {
            prop_assert_eq!(serde_json::from_str::<String>(&written[span]).expect("a string"), body["model"].as_str().expect("a string"));
        }
        prop_assert_eq!(scanned.stream, body["stream"] == true);
        prop_assert_eq!(scanned.max_tokens, body["max_tokens"].as_u64().map(|value| value as u32));
        let mut messages = Canonical::default();
        messages.conversation(&body["messages"]);
        let mut tools = Canonical::default();
        tools.definitions(&body["tools"]);
        let mut blocks = tools.blocks();
        blocks.extend(messages.blocks());
        prop_assert_eq!(scanned.sequences, [blocks]);
        prop_assert_eq!(scanned.prompt_tokens, tools.token_count() + messages.token_count());
    }

    #[test]
    fn token_ids_are_exact(ids in proptest::collection::vec(any::<u32>(), 0..200), pretty in any::<bool>(), cuts in cuts()) {
        let body = json!({"prompt": ids});
        let written = if pretty { serde_json::to_string_pretty(&body).expect("value") } else { body.to_string() };
        let scanned = scan_parted(Dialect::OpenAiCompletions, written.as_bytes(), &cuts).expect("valid");
        let mut canonical = Canonical::default();
        canonical.tokens(&ids);
        prop_assert_eq!(scanned.prompt_tokens as usize, ids.len());
        prop_assert_eq!(scanned.sequences.concat(), canonical.blocks());
    }

    #[test]
    fn takes_and_refuses_what_the_full_parser_does(body in prop_oneof![mutated(), soup(), proptest::collection::vec(any::<u8>(), 0..40)], cuts in cuts()) {
        let taken = scan_parted(Dialect::AnthropicCountTokens, &body, &cuts).is_ok();
        if let Some(expected) = full_parser_takes(&body) {
            prop_assert_eq!(taken, expected);
        }
        prop_assert_eq!(taken, go_error(pieces(&body, &cuts).into_iter()).is_empty());
    }

    #[test]
    fn pieces_change_nothing(body in prop_oneof![mutated(), mutated_message(), soup(), proptest::collection::vec(any::<u8>(), 0..40)], cuts in cuts(), dialect in proptest::sample::select(&Dialect::ALL[..])) {
        let found = scan(dialect, &body);
        prop_assert_eq!(scan_parted(dialect, &body, &cuts), found.clone());
        if let Err(error) = found {
            prop_assert!(!refusal(dialect, error, std::iter::once(&body[..])).ends_with(": "));
        }
        let mut whole = BodyScanner::new(dialect, LIMITS);
        let _ = whole.feed(&body);
        let mut parted = BodyScanner::new(dialect, LIMITS);
        for piece in pieces(&body, &cuts) {
            let _ = parted.feed(piece);
        }
        prop_assert_eq!(whole.finish_prefix(), parted.finish_prefix());
        for kind in ResponseKind::ALL {
            let mut whole = UsageScanner::new(kind);
            whole.feed(&body);
            let mut parted = UsageScanner::new(kind);
            for piece in pieces(&body, &cuts) {
                parted.feed(piece);
            }
            prop_assert_eq!((whole.events(), whole.content_seen(), whole.done_seen()), (parted.events(), parted.content_seen(), parted.done_seen()));
            prop_assert_eq!(whole.finish(), parted.finish());
        }
    }

    #[test]
    fn an_early_refusal_is_worded_as_that_of_the_whole_body(body in prop_oneof![mutated(), soup()], cuts in cuts()) {
        let mut scanner = BodyScanner::new(Dialect::OpenAiChat, LIMITS);
        let mut seen = Vec::new();
        for piece in pieces(&body, &cuts) {
            seen.push(piece);
            if scanner.feed(piece) == Err(ScanError::Invalid) {
                prop_assert_eq!(go_error(seen.into_iter()), go_error(std::iter::once(&body[..])));
                break;
            }
        }
    }
}
