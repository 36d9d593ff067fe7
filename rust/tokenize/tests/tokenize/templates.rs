//! Chat templates in the forms of well-known models, against what Jinja in Python makes of the same conversations
//! (`tests/data/make_templates.py`).

use bytes::Bytes;
use warmroute_core::body::Dialect;
use warmroute_core::tokens::{TokenRequest, TokenizeError};
use warmroute_tokenize::local::LocalTokenizer;

use crate::support::{data, read_json};

fn with_template(name: &str) -> LocalTokenizer {
    let template = data(&format!("templates/{name}.jinja"));
    LocalTokenizer::open(&data("vllm-0.32"), Some(&template), false, 0)
        .expect("the template compiles")
}

pub(crate) fn render(
    tokenizer: &LocalTokenizer,
    dialect: Dialect,
    body: &str,
) -> Result<String, TokenizeError> {
    tokenizer.render(&TokenRequest {
        dialect,
        body: &[Bytes::copy_from_slice(body.as_bytes())],
        target_model: "target",
    })
}

#[test]
fn conversations_become_the_prompts_that_transformers_makes_of_them() {
    let text = std::fs::read_to_string(data("templates/expected.json"))
        .expect("the expectations are there");
    let cases: Vec<Case> = serde_json::from_str(&text).expect("a list of cases");
    assert!(cases.len() > 20);
    let mut wrong = Vec::new();
    for case in cases {
        let rendered = render(
            &with_template(&case.template),
            Dialect::OpenAiChat,
            &case.request,
        );
        match (case.prompt, case.error, rendered) {
            (Some(expected), None, Ok(rendered)) if rendered == expected => {}
            (None, Some(expected), Err(TokenizeError::BadRequest(text)))
                if text.contains(&expected) => {}
            (prompt, error, rendered) => {
                wrong.push(format!(
                    "{} {}:\nexpected {prompt:?} {error:?}\nrendered {rendered:?}",
                    case.template, case.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    template: String,
    /// The body as text: a map would lose the order of the keys of its tools.
    request: String,
    prompt: Option<String>,
    error: Option<String>,
}

#[test]
fn other_apis_become_the_prompts_of_the_chat_requests_that_vllm_converts_them_to() {
    let cases = read_json("templates/converted.json");
    for case in cases.as_array().expect("a list") {
        let tokenizer = with_template(case["template"].as_str().expect("a name"));
        let dialect = match case["api"].as_str() {
            Some("anthropic") => Dialect::AnthropicMessages,
            _ => Dialect::OpenAiResponses,
        };
        let chat = render(&tokenizer, Dialect::OpenAiChat, &case["chat"].to_string());
        assert_eq!(
            render(&tokenizer, dialect, &case["request"].to_string()),
            chat,
            "{}",
            case["name"]
        );
        assert!(chat.is_ok(), "{}: {chat:?}", case["name"]);
    }
}

#[test]
fn a_template_of_the_request_is_used_only_where_it_is_trusted() {
    let body = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "chat_template": "{{ messages[0].content }}!"}"#;
    let open = |trusted| {
        LocalTokenizer::open(&data("vllm-0.32"), None, trusted, 0).expect("the folder is complete")
    };
    assert_eq!(
        render(&open(true), Dialect::OpenAiChat, body).as_deref(),
        Ok("hi!")
    );
    let refused = render(&open(false), Dialect::OpenAiChat, body).expect_err("not trusted");
    assert_eq!(refused.reason(), "bad_request");
    assert!(refused.to_string().contains("not trusted"));
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let body = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "chat_template": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"}"#;
    let tokenizer =
        LocalTokenizer::open(&data("vllm-0.32"), None, true, 0).expect("the folder is complete");
    let stopped = render(&tokenizer, Dialect::OpenAiChat, body).expect_err("out of fuel");
    assert!(stopped.to_string().contains("fuel"), "{stopped}");
}
