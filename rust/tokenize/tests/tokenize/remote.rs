//! The model server as tokenizer.

use std::time::{Duration, Instant};

use serde_json::json;
use warmroute_core::body::Dialect;
use warmroute_core::tokens::{MediaSpan, TokenSequence, TokenizeError};
use warmroute_tokenize::remote::RemoteTokenizer;
use warmroute_tokenize::{OpenError, TokenizerSettings, open};

use crate::server::{Reply, Server};
use crate::support::{tokenize, tokens};

const SECONDS: Duration = Duration::from_secs(20);
const CHAT: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}], "stream": true}"#;
const IMAGE: &str = r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}"#;
const TEXT: &str = r#"{"model": "m", "prompt": "hello", "max_tokens": 3}"#;

fn remote(server: &Server, timeout: Duration) -> RemoteTokenizer {
    RemoteTokenizer::open(&format!("{}/", server.url), None, timeout, timeout * 2)
        .expect("the address is one")
}

fn ok(value: &serde_json::Value) -> Reply {
    Reply::Json(200, value.to_string())
}

#[test]
fn render_endpoints_tell_tokens_and_media() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v1/completions/render" => {
            ok(&json!([{"token_ids": [1, 2]}, {"token_ids": [3], "features": null}]))
        }
        "/v1/chat/completions/render" => ok(&json!({
            "request_id": "r",
            "token_ids": [5, 6, 6, 6, 7, 6],
            "features": {"mm_hashes": {"image": ["aa", "bb"]}, "mm_placeholders": {"image": [{"offset": 5, "length": 1}, {"offset": 1, "length": 3}]}, "kwargs_data": {}}
        })),
        _ => Reply::Json(404, r#"{"detail": "Not Found"}"#.to_owned()),
    });
    let named = RemoteTokenizer::open(&server.url, Some("named".to_owned()), SECONDS, SECONDS)
        .expect("the address is one");
    let body = r#"{"model": "m", "prompt": ["a", "b"], "temperature": 1e-7}"#;
    let sequences = tokenize(&named, Dialect::OpenAiCompletions, body).expect("rendered");
    assert_eq!(
        sequences
            .iter()
            .map(|sequence| sequence.tokens.clone())
            .collect::<Vec<_>>(),
        [vec![1, 2], vec![3]]
    );
    let span = |start, length, hash: &str| MediaSpan {
        start,
        length,
        hash: hash.into(),
    };
    let expected = TokenSequence {
        tokens: vec![5, 6, 6, 6, 7, 6],
        media: vec![span(1, 3, "bb"), span(5, 1, "aa")],
        truncated: false,
    };
    assert_eq!(
        tokenize(&remote(&server, SECONDS), Dialect::OpenAiChat, IMAGE),
        Ok(vec![expected.clone()])
    );
    let anthropic = r#"{"model": "m", "max_tokens": 3, "system": "s", "messages": [{"role": "user", "content": "hi"}]}"#;
    assert_eq!(
        tokenize(&named, Dialect::AnthropicMessages, anthropic),
        Ok(vec![expected])
    );
    let seen = server.seen();
    assert_eq!(
        seen[0].body,
        json!({"model": "named", "prompt": ["a", "b"], "temperature": 1e-7})
    );
    assert_eq!(seen[1].body["model"], "target");
    assert_eq!(
        seen[2].body,
        json!({"model": "named", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]})
    );
    assert_eq!(
        server.connections(),
        2,
        "each tokenizer keeps its connection"
    );
}

#[test]
fn a_server_without_render_endpoints_is_asked_for_tokens_once_and_for_all() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/tokenize" if seen.body.get("prompt").is_some() => {
            ok(&json!({"count": 1, "max_model_len": 9, "tokens": [4], "token_strs": null}))
        }
        "/tokenize" => ok(&json!({"tokens": [8, 9]})),
        _ => Reply::Json(404, r#"{"detail": "Not Found"}"#.to_owned()),
    });
    let tokenizer = remote(&server, SECONDS);
    for _ in 0..2 {
        assert_eq!(tokens(&tokenizer, Dialect::OpenAiChat, CHAT), [8, 9]);
        assert_eq!(tokens(&tokenizer, Dialect::OpenAiCompletions, TEXT), [4]);
    }
    assert_eq!(
        tokens(
            &tokenizer,
            Dialect::OpenAiEmbeddings,
            r#"{"model": "m", "input": "hello"}"#
        ),
        [4]
    );
    assert_eq!(
        server.paths(),
        [
            "/v1/chat/completions/render",
            "/tokenize",
            "/tokenize",
            "/tokenize",
            "/tokenize",
            "/tokenize"
        ]
    );
    assert_eq!(
        server.seen()[1].body,
        json!({"model": "target", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]})
    );
    assert_eq!(
        server.seen()[2].body,
        json!({"model": "target", "prompt": "hello", "add_special_tokens": true})
    );
    for (body, text) in [
        (IMAGE, "media"),
        (
            r#"{"model": "m", "messages": [], "truncate_prompt_tokens": 3}"#,
            "length",
        ),
    ] {
        let refused = tokenize(&tokenizer, Dialect::OpenAiChat, body).expect_err("not told");
        assert!(
            matches!(&refused, TokenizeError::Unsupported(reason) if reason.contains(text)),
            "{refused}"
        );
    }
}

#[test]
fn token_ids_are_nobody_elses_affair() {
    let server = Server::start(|_| Reply::Garbage);
    let tokenizer = remote(&server, SECONDS);
    assert_eq!(
        tokens(
            &tokenizer,
            Dialect::OpenAiCompletions,
            r#"{"prompt": [1, 2, 3]}"#
        ),
        [1, 2, 3]
    );
    assert_eq!(
        tokens(&tokenizer, Dialect::VllmGenerate, r#"{"token_ids": [7]}"#),
        [7]
    );
    assert!(server.seen().is_empty());
}

#[test]
fn a_server_that_refuses_or_answers_nonsense_is_an_error_that_says_what_and_where() {
    for (reply, reason, text) in [
        (
            || Reply::Json(400, r#"{"error": {"message": "too long"}}"#.to_owned()),
            "bad_request",
            "too long",
        ),
        (
            || {
                Reply::Json(
                    404,
                    r#"{"error": {"message": "no model m", "type": "NotFoundError"}}"#.to_owned(),
                )
            },
            "bad_request",
            "no model m",
        ),
        (
            || Reply::Json(404, "{}".to_owned()),
            "unavailable",
            "neither render endpoints",
        ),
        (
            || Reply::Json(500, "oops".to_owned()),
            "unavailable",
            "status 500: oops",
        ),
        (
            || Reply::Json(429, "later".to_owned()),
            "unavailable",
            "status 429: later",
        ),
        (
            || Reply::Json(302, String::new()),
            "unavailable",
            "status 302",
        ),
        (
            || Reply::Json(200, "oops".to_owned()),
            "unavailable",
            "cannot be read",
        ),
        (
            || Reply::Json(200, "{}".to_owned()),
            "unavailable",
            "token_ids",
        ),
        (
            || Reply::Json(200, r#"{"token_ids": []}"#.to_owned()),
            "unavailable",
            "no tokens",
        ),
        (
            || {
                Reply::Json(200, r#"{"token_ids": [1], "features": {"mm_hashes": {"image": ["a"]}, "mm_placeholders": {"image": [{"offset": 1, "length": 1}]}}}"#.to_owned())
            },
            "unavailable",
            "ends at token 2 of 1",
        ),
        (
            || {
                Reply::Json(200, r#"{"token_ids": [1], "features": {"mm_hashes": {}, "mm_placeholders": {"image": [{"offset": 0, "length": 1}]}}}"#.to_owned())
            },
            "unavailable",
            "1 places but 0 hashes",
        ),
        (|| Reply::Garbage, "unavailable", "POST http://127.0.0.1:"),
    ] as [(fn() -> Reply, &str, &str); 12]
    {
        let server = Server::start(move |_| reply());
        let error =
            tokenize(&remote(&server, SECONDS), Dialect::OpenAiChat, CHAT).expect_err("refused");
        assert_eq!(error.reason(), reason, "{error}");
        assert!(
            error.to_string().contains(text),
            "{text:?} is not in {error}"
        );
    }
}

#[test]
fn a_silent_server_is_given_up_on_and_then_left_alone() {
    for stalls in [false, true] {
        let server = Server::start(move |_| if stalls { Reply::Stall } else { Reply::Silence });
        let tokenizer = remote(&server, Duration::from_millis(100));
        for _ in 0..5 {
            let start = Instant::now();
            let error = tokenize(&tokenizer, Dialect::OpenAiChat, CHAT).expect_err("silent");
            assert!(
                error.to_string().contains("no answer within 0.1 s"),
                "{error}"
            );
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        let error = tokenize(&tokenizer, Dialect::OpenAiChat, CHAT).expect_err("left alone");
        assert_eq!(error.reason(), "unavailable");
        assert!(error.to_string().contains("left alone"), "{error}");
        assert_eq!(server.seen().len(), 5);
    }
}

#[test]
fn media_are_waited_for_longer() {
    let server = Server::start(|_| Reply::Silence);
    let error = tokenize(
        &remote(&server, Duration::from_millis(100)),
        Dialect::OpenAiChat,
        IMAGE,
    )
    .expect_err("silent");
    assert!(
        error.to_string().contains("no answer within 0.2 s"),
        "{error}"
    );
}

#[test]
fn an_address_is_checked_when_the_tokenizer_is_opened_and_not_connected_to() {
    let remote = |url: &str| {
        open(&TokenizerSettings::Remote {
            url: url.to_owned(),
            model_name: None,
            timeout: SECONDS,
            media_timeout: SECONDS,
        })
    };
    for url in ["", "localhost:8000", "ftp://host", "http://", "http://a b"] {
        let error = remote(url).expect_err("no address");
        assert!(matches!(&error, OpenError::Address { .. }), "{error}");
        assert!(
            error.to_string().contains("http://localhost:8000"),
            "{error}"
        );
    }
    for url in ["http://192.0.2.1:1", "https://192.0.2.1/prefix/"] {
        remote(url).expect("nothing is asked yet");
    }
}
