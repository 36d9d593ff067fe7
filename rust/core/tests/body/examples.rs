//! Bodies as clients send them.

use warmroute_core::body::{BodyScanner, Dialect, ScanError, ScanLimits, edit_model};

use crate::canonical::Canonical;
use crate::{LIMITS, pieces, scan, scan_parted};

fn conversation(leaves: &[&str]) -> Canonical {
    let mut canonical = Canonical::default();
    for leaf in leaves {
        canonical.leaf(leaf.as_bytes());
    }
    canonical
}

#[test]
fn a_chat_request_is_read_whole() {
    let body = r#"{"model":"llama","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Hi\n\u00e9\ud83d\ude00"}]}],"stream":true,"max_tokens":7,"cache_salt":"pepper"}"#;
    let scanned = scan(Dialect::OpenAiChat, body).expect("valid");
    assert_eq!(scanned.model.as_deref(), Some("llama"));
    assert_eq!(
        &body[scanned.model_span.clone().expect("span")],
        "\"llama\""
    );
    assert!(scanned.stream);
    assert_eq!(
        (scanned.max_tokens, scanned.cache_salt.as_deref()),
        (Some(7), Some("pepper"))
    );
    let canonical = conversation(&["system", "Be brief.", "user", "Hi\né😀"]);
    assert_eq!(scanned.sequences, [canonical.blocks()]);
    assert_eq!(scanned.prompt_tokens, canonical.token_count());
}

#[test]
fn key_order_white_space_and_escapes_do_not_change_what_is_found() {
    let plain = r#"{"model":"m","tools":[{"name":"f"}],"messages":[{"role":"user","content":"aé/b"}],"stream":true}"#;
    let other = "\n{ \"stream\" :\ttrue,\r\n\"mess\\u0061ges\":[ {\"role\":\"\\u0075ser\" ,\"content\":\"a\\u00E9\\/b\"} ] , \"tools\" : [{\"n\\u0061me\":\"f\"}],\"mo\\u0064el\": \"\\u006d\"}\n ";
    let (plain, other) = (
        scan(Dialect::OpenAiChat, plain).expect("valid"),
        scan(Dialect::OpenAiChat, other).expect("valid"),
    );
    assert_eq!(
        (plain.model, plain.stream, plain.sequences),
        (other.model, other.stream, other.sequences)
    );
}

#[test]
fn the_last_of_duplicate_keys_counts() {
    let body = r#"{"model":"a","stream":true,"max_tokens":1,"messages":[{"content":"old"}],"model":"b","stream":false,"max_tokens":null,"messages":[{"content":"new"}]}"#;
    let scanned = scan(Dialect::OpenAiChat, body).expect("valid");
    assert_eq!(
        (scanned.model.as_deref(), scanned.stream, scanned.max_tokens),
        (Some("b"), false, None)
    );
    assert_eq!(scanned.sequences, [conversation(&["new"]).blocks()]);
    assert_eq!(scanned.prompt_tokens, 1);
    assert_eq!(&body[scanned.model_span.expect("span")], "\"b\"");
    let without = scan(
        Dialect::OpenAiChat,
        r#"{"model":"a","model":5,"messages":[1]}"#,
    )
    .expect("valid");
    assert_eq!((without.model, without.model_span), (None, None));
}

#[test]
fn a_model_found_can_be_edited_in_place_across_pieces() {
    let body = r#"{"messages":["x"],"model" : "a\"b" ,"n":1}"#;
    for cut in 0..body.len() {
        let scanned = scan_parted(Dialect::OpenAiChat, body.as_bytes(), &[cut]).expect("valid");
        assert_eq!(scanned.model.as_deref(), Some("a\"b"));
        let mut chunks: Vec<_> = pieces(body.as_bytes(), &[cut])
            .into_iter()
            .map(bytes::Bytes::copy_from_slice)
            .collect();
        edit_model(&mut chunks, scanned.model_span, "t");
        assert_eq!(
            chunks.concat(),
            br#"{"messages":["x"],"model" : "t" ,"n":1}"#
        );
        assert_eq!(
            scan(Dialect::OpenAiChat, chunks.concat())
                .expect("valid")
                .model
                .as_deref(),
            Some("t")
        );
    }
}

#[test]
fn prompts_of_a_list_are_sequences_of_their_own() {
    let one = |text: &str| conversation(&[text]).blocks();
    let tokens = |ids: &[u32]| {
        let mut canonical = Canonical::default();
        canonical.tokens(ids);
        canonical.blocks()
    };
    for (prompt, sequences, prompt_tokens) in [
        (r#""hello world""#, vec![one("hello world")], 3),
        (
            r#"["hello","wide","worlds"]"#,
            vec![one("hello"), one("wide"), one("worlds")],
            5,
        ),
        ("[1,2,70000, 0]", vec![tokens(&[1, 2, 70000, 0])], 4),
        ("[[1,2,3],[4]]", vec![tokens(&[1, 2, 3]), tokens(&[4])], 4),
        (
            r#"[1,2,"a",3]"#,
            vec![tokens(&[1, 2]), one("a"), tokens(&[3])],
            4,
        ),
        (r#"["",[]]"#, vec![vec![], vec![]], 0),
        ("[]", vec![], 0),
        (r#""""#, vec![vec![]], 0),
    ] {
        let body = format!(r#"{{"prompt":{prompt},"model":"m"}}"#);
        for cut in 0..body.len() {
            let scanned =
                scan_parted(Dialect::OpenAiCompletions, body.as_bytes(), &[cut]).expect("valid");
            assert_eq!(scanned.sequences, sequences, "{prompt}");
            assert_eq!(scanned.prompt_tokens, prompt_tokens, "{prompt}");
        }
    }
}

#[test]
fn segments_come_in_the_order_of_the_template() {
    let body = r#"{"messages":[{"role":"user","content":"hi"}],"system":[{"type":"text","text":"sys","cache_control":{"type":"ephemeral","ttl":"5m"}}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"max_tokens":5,"model":"m"}"#;
    let scanned = scan(Dialect::AnthropicMessages, body).expect("valid");
    let parts = [
        conversation(&["name", "f", "input_schema", "type", "object"]),
        conversation(&["sys"]),
        conversation(&["user", "hi"]),
    ];
    assert_eq!(
        scanned.sequences,
        [parts
            .iter()
            .flat_map(Canonical::blocks)
            .collect::<Vec<u64>>()]
    );
    assert_eq!(
        scanned.prompt_tokens,
        parts.iter().map(Canonical::token_count).sum::<u32>()
    );
}

#[test]
fn each_medium_is_told_once() {
    let body = r#"{"messages":[{"content":[{"image_url":{"url":"a"}},{"video_url":{"url":"b"}},{"image_url":{"url":"a"}},{"text":"a"}]}]}"#;
    let media = scan(Dialect::OpenAiChat, body).expect("valid").media;
    let told: Vec<_> = media
        .iter()
        .map(|medium| (medium.kind.name(), medium.tokens))
        .collect();
    assert_eq!(told, [("image", 225), ("video", 4500)]);
    assert_ne!(media[0].hash, media[1].hash);
}

#[test]
fn media_count_by_kind_and_are_named_by_content() {
    let tokens = |part: &str| {
        let body = format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#);
        scan(Dialect::OpenAiChat, body).expect("valid")
    };
    let image = |url: &str| {
        tokens(&format!(
            r#"{{"type":"image_url","image_url":{{"url":"{url}","detail":"low"}}}}"#
        ))
    };
    assert_eq!(image("data:image/png;base64,AAAA").prompt_tokens, 225 + 1);
    assert_eq!(
        image("http://a/1.png").sequences,
        image("http://a/1.png").sequences
    );
    assert_ne!(
        image("http://a/1.png").sequences,
        image("http://a/2.png").sequences
    );
    assert_eq!(
        tokens(r#"{"type":"input_image","image_url":"http://a/1.png"}"#).prompt_tokens,
        225
    );
    assert_eq!(tokens(r#"{"video_url":{"url":"x"}}"#).prompt_tokens, 4500);
    assert_eq!(
        tokens(r#"{"input_audio":{"data":"12345678"}}"#).prompt_tokens,
        2
    );
    assert_eq!(
        tokens(r#"{"url":"12345678","data":"1234"}"#).prompt_tokens,
        4,
        "not media: 13 bytes of text"
    );
    let block = r#"{"messages":[{"content":[{"type":"image","source":{"type":"base64","media_type":"a/b","data":"AAAA"}}]}]}"#;
    assert_eq!(
        scan(Dialect::AnthropicMessages, block)
            .expect("valid")
            .prompt_tokens,
        225 + 1
    );
}

#[test]
fn many_small_media_cost_little() {
    let part = r#"{"video_url":"x"},"#.repeat(20_000);
    let scanned = scan(Dialect::OpenAiChat, format!(r#"{{"messages":[{part}0]}}"#)).expect("valid");
    assert!(scanned.prompt_tokens < 300_000, "{}", scanned.prompt_tokens);
}

#[test]
fn what_a_dialect_requires_is_told_in_the_words_of_the_reference() {
    for (dialect, body, text) in [
        (
            Dialect::OpenAiCompletions,
            r#"{"model":"m"}"#,
            "invalid completions request: must have prompt field",
        ),
        (
            Dialect::OpenAiCompletions,
            r#"{"prompt":null}"#,
            "invalid completions request: must have prompt field",
        ),
        (
            Dialect::OpenAiChat,
            "{}",
            "invalid chat completions request: must have valid messages field",
        ),
        (
            Dialect::OpenAiChat,
            r#"{"messages":[]}"#,
            "invalid chat completions request: must have valid messages field",
        ),
        (
            Dialect::OpenAiChat,
            r#"{"messages":"hi"}"#,
            "invalid chat completions request: must have valid messages field",
        ),
        (
            Dialect::OpenAiEmbeddings,
            "null",
            "invalid embeddings request: must have input field",
        ),
        (
            Dialect::OpenAiResponses,
            "{}",
            "invalid responses request: must have input field",
        ),
        (
            Dialect::OpenAiConversations,
            "{}",
            "invalid conversations request: must have items field",
        ),
        (
            Dialect::OpenAiImages,
            "{}",
            "invalid images generations request: must have prompt field",
        ),
        (
            Dialect::AnthropicMessages,
            "{}",
            "invalid messages request: must have valid messages field",
        ),
        (
            Dialect::VllmGenerate,
            r#"{"token_ids":"x"}"#,
            "invalid generate request: must have token_ids field",
        ),
    ] {
        assert_eq!(
            scan(dialect, body),
            Err(ScanError::MissingField(text)),
            "{body}"
        );
    }
    assert!(
        scan(Dialect::OpenAiCompletions, r#"{"prompt":"hello world"}"#)
            .expect("valid")
            .model
            .is_none()
    );
}

#[test]
fn limits_on_output_come_from_the_key_of_the_dialect() {
    let limit = |dialect, body: &str| scan(dialect, body).expect("valid").max_tokens;
    assert_eq!(
        limit(
            Dialect::OpenAiChat,
            r#"{"messages":[1],"max_completion_tokens":5,"max_tokens":9}"#
        ),
        Some(5)
    );
    assert_eq!(
        limit(Dialect::OpenAiChat, r#"{"messages":[1],"max_tokens":1e2}"#),
        Some(100)
    );
    assert_eq!(
        limit(Dialect::OpenAiChat, r#"{"messages":[1],"max_tokens":-1}"#),
        None
    );
    assert_eq!(
        limit(Dialect::OpenAiChat, r#"{"messages":[1],"max_tokens":"5"}"#),
        None
    );
    assert_eq!(
        limit(
            Dialect::OpenAiResponses,
            r#"{"input":"x","max_output_tokens":8}"#
        ),
        Some(8)
    );
    let generate = r#"{"token_ids":[1],"sampling_params":{"n":1,"max_tokens":3,"x":{"max_tokens":4}},"model":"m"}"#;
    assert_eq!(limit(Dialect::VllmGenerate, generate), Some(3));
}

#[test]
fn nested_keys_are_not_those_of_the_request() {
    let body = r#"{"messages":[{"model":"x","stream":true}],"metadata":{"model":"y","messages":[]},"x":[{"model":"z"}]}"#;
    let scanned = scan(Dialect::OpenAiChat, body).expect("valid");
    assert_eq!((scanned.model, scanned.stream), (None, false));
}

#[test]
fn passthrough_bodies_are_not_read() {
    let scanned = scan(Dialect::Passthrough, "passthrough-parser").expect("anything");
    assert_eq!((scanned.model, scanned.sequences.len()), (None, 0));
}

#[test]
fn broken_json_is_told_at_once_and_what_is_no_object_at_the_end() {
    let mut scanner = BodyScanner::new(Dialect::OpenAiChat, LIMITS);
    assert_eq!(scanner.feed(b"{\"a\":tru"), Ok(()));
    assert_eq!(scanner.feed(b"x"), Err(ScanError::Invalid));
    assert_eq!(scanner.feed(b"e}"), Err(ScanError::Invalid));
    assert_eq!(scanner.finish(), Err(ScanError::Invalid));
    let mut scanner = BodyScanner::new(Dialect::OpenAiChat, LIMITS);
    assert_eq!(scanner.feed(b"[1]"), Ok(()));
    assert_eq!(scanner.finish(), Err(ScanError::Invalid));
}

#[test]
fn a_prefix_tells_what_it_has() {
    let mut scanner = BodyScanner::new(Dialect::OpenAiChat, LIMITS);
    scanner
        .feed(br#"{"model":"m","messages":[{"role":"user","content":"hel"#)
        .expect("a beginning");
    let found = scanner.finish_prefix();
    assert_eq!(found.model.as_deref(), Some("m"));
    assert_eq!(found.sequences, [conversation(&["user", "hel"]).blocks()]);
}

#[test]
fn the_limits_on_blocks_sequences_and_names_hold() {
    let limits = ScanLimits {
        max_blocks: 3,
        ..LIMITS
    };
    let mut scanner = BodyScanner::new(Dialect::OpenAiChat, limits);
    scanner.feed(br#"{"tools":[{"name":"abcdefgh"}],"messages":["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]}"#).expect("valid");
    let found = scanner.finish().expect("valid");
    assert_eq!((found.sequences[0].len(), found.prompt_tokens), (3, 4 + 12));

    let prompts = format!(r#"{{"prompt":[{}"x"]}}"#, r#""x","#.repeat(5000));
    let found = scan(Dialect::OpenAiCompletions, prompts).expect("valid");
    assert_eq!(
        (found.sequences.len(), found.prompt_tokens),
        (warmroute_core::body::MAX_SEQUENCES, 5001)
    );

    let long = format!(r#"{{"messages":[1],"model":"{}"}}"#, "x".repeat(5000));
    assert!(
        matches!(scan(Dialect::OpenAiChat, long), Err(ScanError::MissingField(text)) if text.contains("4096"))
    );
}

#[test]
fn text_that_is_not_unicode_is_taken_as_go_takes_it() {
    let scanned = scan(
        Dialect::OpenAiChat,
        b"{\"messages\":[1],\"model\":\"a\xff\xe2\x82b\\ud800c\\ud83d\\ud83d\\ude00\"}",
    )
    .expect("valid");
    assert_eq!(
        scanned.model.as_deref(),
        Some("a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}\u{1f600}")
    );
}
