//! `SGLang`'s generate.

use warmroute_core::body::{Dialect, ResponseKind, ScanError, Usage, UsageScanner, refusal};

use crate::canonical::Canonical;
use crate::{pieces, scan, scan_parted};

#[test]
fn token_ids_limits_and_the_extra_key_are_read_and_no_model() {
    let body = r#"{"model":"m","input_ids":[1,2,70000],"sampling_params":{"max_new_tokens":9,"max_tokens":3},"extra_key":"tenant","cache_salt":"other","stream":true}"#;
    let mut canonical = Canonical::default();
    canonical.tokens(&[1, 2, 70000]);
    for cut in 0..body.len() {
        let scanned = scan_parted(Dialect::SglangGenerate, body.as_bytes(), &[cut]).expect("valid");
        assert_eq!(scanned.sequences, [canonical.blocks()]);
        assert_eq!((scanned.prompt_tokens, scanned.max_tokens), (3, Some(9)));
        assert_eq!(scanned.cache_salt.as_deref(), Some("tenant"));
        assert_eq!((scanned.model, scanned.stream), (None, true));
    }
    let without = r#"{"input_ids":[1],"extra_key":null}"#;
    let scanned = scan(Dialect::SglangGenerate, without).expect("valid");
    assert_eq!(scanned.cache_salt, None);
}

#[test]
fn what_is_required_is_told_in_the_words_of_the_reference() {
    let missing = "invalid generate request: input_ids must be provided";
    let wrong = "invalid generate request: input_ids must be an array of uint32 integers";
    let salt = "unsupported generate request: extra_key must be a string";
    for (body, text) in [
        ("{}", missing),
        (r#"{"text":"hi"}"#, missing),
        (r#"{"input_ids":null}"#, missing),
        (r#"{"input_ids":[1],"input_ids":null}"#, missing),
        (r#"{"input_ids":"1"}"#, wrong),
        (r#"{"input_ids":5}"#, wrong),
        (
            r#"{"input_ids":[]}"#,
            "invalid generate request: input_ids cannot be empty",
        ),
        (r#"{"input_ids":[1],"extra_key":5}"#, salt),
        (r#"{"input_ids":[1],"extra_key":["a"]}"#, salt),
        (r#"{"input_ids":[1],"extra_key":true}"#, salt),
    ] {
        let error = scan(Dialect::SglangGenerate, body).expect_err("refused");
        assert_eq!(error, ScanError::MissingField(text), "{body}");
    }
    let broken = "{\"input_ids\":x}";
    let error = scan(Dialect::SglangGenerate, broken).expect_err("refused");
    assert_eq!(
        refusal(
            Dialect::SglangGenerate,
            error,
            std::iter::once(broken.as_bytes())
        ),
        "invalid generate request: invalid character 'x' looking for beginning of value"
    );
}

#[test]
fn usage_is_in_the_meta_info_of_the_last_event() {
    let usage = Some(Usage {
        input_tokens: 7,
        output_tokens: 10,
        cached_tokens: Some(4),
    });
    let body = r#"{"text":"hi","meta_info":{"id":"x","finish_reason":{"type":"stop"},"prompt_tokens":7,"completion_tokens":10,"cached_tokens":4}}"#;
    let stream = concat!(
        "data: {\"text\":\"h\",\"meta_info\":{\"finish_reason\":null,\"prompt_tokens\":7,\"completion_tokens\":1,\"cached_tokens\":4}}\n\n",
        "data: {\"text\":\"hi\",\"meta_info\":{\"finish_reason\":{\"type\":\"length\",\"length\":10},\"prompt_tokens\":7,\"completion_tokens\":10,\"cached_tokens\":4}}\n\n",
        "data: [DONE]\n\n",
    );
    for (event_stream, response) in [(false, body), (true, stream)] {
        let kind = Dialect::SglangGenerate.response_kind(event_stream);
        for cut in 0..response.len() {
            let mut scanner = UsageScanner::new(kind);
            for piece in pieces(response.as_bytes(), &[cut]) {
                scanner.feed(piece);
            }
            assert!(scanner.content_seen());
            assert_eq!(scanner.done_seen(), kind == ResponseKind::EventStream);
            assert_eq!(scanner.finish(), usage, "cut at {cut}");
        }
    }
}
