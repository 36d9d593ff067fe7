//! What of each API becomes tokens, and what is refused.

use serde_json::json;
use warmroute_core::body::Dialect;
use warmroute_core::tokens::TokenSequence;
use warmroute_tokenize::local::LocalTokenizer;

use crate::support::{data, tokenize, tokens};

fn open(tokenizer: &str, template: &str) -> LocalTokenizer {
    let template = data(&format!("templates/{template}.jinja"));
    LocalTokenizer::open(
        &data(&format!("tokenizers/{tokenizer}.json")),
        Some(&template),
        false,
        1 << 20,
    )
    .expect("the files are there")
}

fn lists(sequences: Vec<TokenSequence>) -> Vec<Vec<u32>> {
    sequences
        .into_iter()
        .map(|sequence| sequence.tokens)
        .collect()
}

#[test]
fn prompts_come_as_texts_token_ids_and_lists_of_both() {
    let tokenizer = open("mistral", "turns");
    let text = |prompt: &str| {
        tokens(
            &tokenizer,
            Dialect::OpenAiCompletions,
            &json!({"prompt": prompt}).to_string(),
        )
    };
    let (one, two) = (text("the fox"), text("the dog"));
    assert_ne!(one, two);
    for (prompt, expected) in [
        (json!("the fox"), vec![one.clone()]),
        (
            json!(["the fox", "the dog"]),
            vec![one.clone(), two.clone()],
        ),
        (json!([1, 2, 3]), vec![vec![1, 2, 3]]),
        (json!([[1, 2], [3]]), vec![vec![1, 2], vec![3]]),
        (json!([[1, 2], "the dog"]), vec![vec![1, 2], two.clone()]),
    ] {
        for (dialect, key) in [
            (Dialect::OpenAiCompletions, "prompt"),
            (Dialect::OpenAiEmbeddings, "input"),
        ] {
            let sequences = tokenize(&tokenizer, dialect, &json!({ key: prompt }).to_string())
                .expect("they are prompts");
            assert_eq!(lists(sequences), expected, "{prompt}");
        }
    }
}

#[test]
fn special_tokens_and_truncation_are_those_that_the_request_asks_for() {
    let tokenizer = open("mistral", "turns");
    let ask = |mut fields: serde_json::Value| {
        fields["prompt"] = json!("the quick fox");
        tokens(&tokenizer, Dialect::OpenAiCompletions, &fields.to_string())
    };
    let whole = ask(json!({}));
    let bare = ask(json!({"add_special_tokens": false}));
    let (first, last) = (whole[0], whole[whole.len() - 1]);
    assert_eq!(whole, [vec![first], bare.clone(), vec![last]].concat());
    for keep in 2..whole.len() {
        let content = keep - 2;
        let expected = [
            vec![first],
            bare[bare.len() - content..].to_vec(),
            vec![last],
        ]
        .concat();
        assert_eq!(ask(json!({"truncate_prompt_tokens": keep})), expected);
        let expected = [vec![first], bare[..content].to_vec(), vec![last]].concat();
        assert_eq!(
            ask(json!({"truncate_prompt_tokens": keep, "truncation_side": "right"})),
            expected
        );
    }
    for all in [json!(-1), json!(null), json!(whole.len()), json!(1000)] {
        assert_eq!(ask(json!({"truncate_prompt_tokens": all})), whole);
    }
    let ids = json!({"prompt": [1, 2, 3, 4], "truncate_prompt_tokens": 2}).to_string();
    assert_eq!(tokens(&tokenizer, Dialect::OpenAiCompletions, &ids), [3, 4]);
    // A conversation has its special tokens from the template, so none are added unless asked for.
    let chat = |fields: &str| {
        tokens(
            &tokenizer,
            Dialect::OpenAiChat,
            &format!(r#"{{"messages": [{{"role": "user", "content": "the fox"}}]{fields}}}"#),
        )
    };
    let plain = chat("");
    assert_eq!(
        chat(r#", "add_special_tokens": true"#),
        [vec![first], plain.clone(), vec![last]].concat()
    );
    assert_eq!(
        chat(r#", "truncate_prompt_tokens": 5"#),
        plain[plain.len() - 5..]
    );
}

#[test]
fn token_requests_are_taken_as_they_are_with_their_media() {
    let tokenizer = open("qwen", "chatml-tools");
    let body = json!({"token_ids": [5, 6, 6, 7], "features": {"mm_hashes": {"image": ["h"]}, "mm_placeholders": {"image": [{"offset": 1, "length": 2}]}}, "sampling_params": {}});
    let sequences = tokenize(&tokenizer, Dialect::VllmGenerate, &body.to_string()).expect("tokens");
    assert_eq!(sequences[0].tokens, [5, 6, 6, 7]);
    assert_eq!(
        (
            sequences[0].media[0].start,
            sequences[0].media[0].length,
            &*sequences[0].media[0].hash
        ),
        (1, 2, "h")
    );
    assert_eq!(
        tokens(
            &tokenizer,
            Dialect::SglangGenerate,
            r#"{"input_ids": [1, 2]}"#
        ),
        [1, 2]
    );
    let many = tokenize(
        &tokenizer,
        Dialect::SglangGenerate,
        r#"{"input_ids": [[1], [2]]}"#,
    )
    .expect("tokens");
    assert_eq!(lists(many), [vec![1], vec![2]]);
}

#[test]
fn a_conversation_with_media_is_known_up_to_the_first() {
    for template in ["chatml-tools", "parts"] {
        let tokenizer = open("qwen", template);
        let ask = |part: serde_json::Value| {
            let body = json!({"messages": [
                {"role": "system", "content": "you are the quick brown fox"},
                {"role": "user", "content": [{"type": "text", "text": "it jumps over the lazy dog"}, part, {"type": "text", "text": "again"}]},
                {"role": "user", "content": "and so on"}
            ]});
            tokenize(&tokenizer, Dialect::OpenAiChat, &body.to_string())
                .expect("tokens")
                .remove(0)
        };
        let text = ask(json!({"type": "text", "text": "it jumps"}));
        assert!(!text.truncated);
        for medium in [
            json!({"type": "image_url", "image_url": {"url": "data:,"}}),
            json!({"type": "input_audio", "input_audio": {}}),
            json!({"image_url": "http://x"}),
        ] {
            let cut = ask(medium);
            assert!(cut.truncated);
            assert!(
                cut.tokens.len() > 10 && cut.tokens.len() < text.tokens.len(),
                "{}",
                cut.tokens.len()
            );
            assert_eq!(cut.tokens, text.tokens[..cut.tokens.len()], "{template}");
        }
    }
}

/// API, body, reason, and what the text of the error has in it.
const REFUSED: [(Dialect, &str, &str, &str); 28] = [
    (Dialect::Passthrough, "{}", "unsupported", "Passthrough"),
    (
        Dialect::OpenAiImages,
        r#"{"prompt": "x"}"#,
        "unsupported",
        "OpenAiImages",
    ),
    (
        Dialect::AnthropicCountTokens,
        r#"{"messages": []}"#,
        "unsupported",
        "AnthropicCountTokens",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt_embeds": "x"}"#,
        "unsupported",
        "embeddings",
    ),
    (Dialect::OpenAiCompletions, "{}", "unsupported", "no prompt"),
    (
        Dialect::OpenAiEmbeddings,
        r#"{"messages": []}"#,
        "unsupported",
        "no input",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt": []}"#,
        "bad_request",
        "no prompt",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt": [1, "a"]}"#,
        "bad_request",
        "a string in it",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt": [1, -1]}"#,
        "bad_request",
        "a number in it",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt": {"a": 1}}"#,
        "bad_request",
        "prompt is an object",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt": "a", "add_special_tokens": 1}"#,
        "bad_request",
        "add_special_tokens is a number",
    ),
    (
        Dialect::OpenAiCompletions,
        r#"{"prompt": "a", "truncate_prompt_tokens": -2}"#,
        "bad_request",
        "-2",
    ),
    (Dialect::OpenAiCompletions, "[]", "bad_request", "a list"),
    (Dialect::OpenAiCompletions, "{", "bad_request", "not JSON"),
    (
        Dialect::OpenAiChat,
        r#"{"messages": "x"}"#,
        "bad_request",
        "list of messages",
    ),
    (
        Dialect::OpenAiChat,
        r#"{"messages": ["x"]}"#,
        "bad_request",
        "message 0 of the conversation is a string",
    ),
    (
        Dialect::OpenAiChat,
        r#"{"messages": [{"content": "x"}]}"#,
        "bad_request",
        "has no role",
    ),
    (
        Dialect::OpenAiChat,
        r#"{"messages": [{"role": "user", "content": [1]}]}"#,
        "bad_request",
        "a number among the parts",
    ),
    (
        Dialect::OpenAiChat,
        r#"{"messages": [], "tools": [{}]}"#,
        "bad_request",
        "no function",
    ),
    (
        Dialect::OpenAiChat,
        r#"{"messages": [], "continue_final_message": true}"#,
        "bad_request",
        "both",
    ),
    (
        Dialect::OpenAiChat,
        r#"{"messages": [{"role": "system", "content": "x"}]}"#,
        "bad_request",
        "System role not supported",
    ),
    (
        Dialect::OpenAiResponses,
        r#"{"input": "x", "previous_response_id": "r"}"#,
        "unsupported",
        "previous_response_id",
    ),
    (
        Dialect::OpenAiResponses,
        r#"{"input": [{"type": "item_reference", "id": "x"}]}"#,
        "unsupported",
        "item_reference",
    ),
    (Dialect::OpenAiResponses, "{}", "bad_request", "no input"),
    (
        Dialect::AnthropicMessages,
        "{}",
        "bad_request",
        "list of messages",
    ),
    (
        Dialect::AnthropicMessages,
        r#"{"messages": [{"role": "user"}]}"#,
        "bad_request",
        "no content",
    ),
    (
        Dialect::VllmGenerate,
        r#"{"token_ids": ["x"]}"#,
        "bad_request",
        "cannot be read",
    ),
    (
        Dialect::VllmGenerate,
        r#"{"token_ids": [1], "features": {"mm_hashes": {"image": [null]}, "mm_placeholders": {"image": [{"offset": 0, "length": 1}]}}}"#,
        "bad_request",
        "no hash",
    ),
];

#[test]
fn what_cannot_be_tokenised_says_why() {
    let tokenizer = open("qwen", "turns");
    for (dialect, body, reason, text) in REFUSED {
        let error = tokenize(&tokenizer, dialect, body).expect_err(body);
        assert_eq!(error.reason(), reason, "{body}: {error}");
        assert!(
            error.to_string().contains(text),
            "{text:?} is not in {error}"
        );
    }
    let bare = LocalTokenizer::open(&data("tokenizers/qwen.json"), None, false, 0)
        .expect("the file is there");
    let error =
        tokenize(&bare, Dialect::OpenAiChat, r#"{"messages": []}"#).expect_err("no template");
    assert!(error.to_string().contains("no chat template"), "{error}");
    assert_eq!(
        tokens(&bare, Dialect::OpenAiCompletions, r#"{"prompt": "the"}"#).len(),
        1
    );
}
