//! What is read of a model's folder.

use std::fs;
use std::path::{Path, PathBuf};

use warmroute_core::body::Dialect;
use warmroute_tokenize::local::LocalTokenizer;
use warmroute_tokenize::{OpenError, TokenizerSettings, open};

use crate::support::{data, tokens};
use crate::templates::render;

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "hi"}]}"#;
const TOOLS: &str = r#"{"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]}"#;

/// A folder of its own for each test, with the recorded tokenizer in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("warmroute-tokenize-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        fs::copy(
            data("vllm-0.32/tokenizer.json"),
            path.join("tokenizer.json"),
        )
        .expect("the tokenizer can be copied");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is inside of the folder"))
            .expect("the temporary folder can be written");
        fs::write(path, text).expect("the temporary folder can be written");
    }

    fn open(&self) -> Result<LocalTokenizer, OpenError> {
        LocalTokenizer::open(&self.0, None, false, 0)
    }

    fn prompt(&self, body: &str) -> String {
        render(
            &self.open().expect("the folder is complete"),
            Dialect::OpenAiChat,
            body,
        )
        .expect("the template renders")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is the system's to remove.
        let _left = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn templates_are_found_where_transformers_finds_them() {
    let folder = Folder::new("templates");
    folder.write("tokenizer_config.json", r#"{"chat_template": "text {{ bos_token }}{{ pad_token }}", "bos_token": {"content": "<b>"}, "pad_token": null}"#);
    assert_eq!(folder.prompt(CHAT), "text <b>");
    folder.write(
        "special_tokens_map.json",
        r#"{"pad_token": {"content": "<p>", "lstrip": false}, "bos_token": "<old>"}"#,
    );
    assert_eq!(folder.prompt(TOOLS), "text <b><p>");
    folder.write("tokenizer_config.json", r#"{"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}, {"name": "rag", "template": "{% broken"}]}"#);
    assert_eq!(
        (folder.prompt(CHAT), folder.prompt(TOOLS)),
        ("plain".to_owned(), "tools".to_owned())
    );
    folder.write(
        "chat_template.json",
        r#"{"chat_template": "of the processor"}"#,
    );
    assert_eq!(
        (folder.prompt(CHAT), folder.prompt(TOOLS)),
        ("of the processor".to_owned(), "tools".to_owned())
    );
    folder.write("chat_template.jinja", "of the file\n");
    folder.write(
        "additional_chat_templates/tool_use.jinja",
        "{% if tools %}tools of the file{% endif %}",
    );
    assert_eq!(
        (folder.prompt(CHAT), folder.prompt(TOOLS)),
        ("of the file".to_owned(), "tools of the file".to_owned())
    );
    folder.write("own.jinja", "own");
    let own = LocalTokenizer::open(&folder.0, Some(&folder.0.join("own.jinja")), false, 0)
        .expect("the folder is complete");
    assert_eq!(
        render(&own, Dialect::OpenAiChat, TOOLS).as_deref(),
        Ok("own")
    );
}

#[test]
fn tokens_that_only_the_configuration_knows_are_added() {
    let folder = Folder::new("tokens");
    let ask = || {
        tokens(
            &folder.open().expect("the folder is complete"),
            Dialect::OpenAiCompletions,
            r#"{"prompt": "<|x|>"}"#,
        )
    };
    assert!(ask().len() > 1);
    folder.write("tokenizer_config.json", r#"{"added_tokens_decoder": {"0": {"content": "<s>", "special": true}, "313": {"content": "<|x|>", "special": true, "normalized": false}}}"#);
    assert_eq!(ask(), [313]);
    folder.write(
        "tokenizer_config.json",
        r#"{"added_tokens_decoder": {"400": {"content": "<|x|>", "special": true}}}"#,
    );
    let error = folder.open().expect_err("the number is another");
    assert!(
        error.to_string().contains("\"<|x|>\" is token 400"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_with_a_folder_is_said_with_its_path() {
    let folder = Folder::new("faults");
    let fault = |text: &str| {
        let error = folder.open().expect_err("a fault").to_string();
        assert!(
            error.contains(text) && error.contains(folder.0.to_str().expect("it is text")),
            "{error}"
        );
    };
    for (name, content, text) in [
        (
            "chat_template.jinja",
            "{% if %}",
            "chat_template.jinja cannot be used: its chat template does not compile",
        ),
        (
            "tokenizer_config.json",
            "{",
            "tokenizer_config.json cannot be used: EOF",
        ),
        (
            "tokenizer_config.json",
            r#"{"chat_template": 3}"#,
            "tokenizer_config.json cannot be used: chat_template is neither",
        ),
        (
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "default"}]}"#,
            "chat_template is a list, but not of names",
        ),
        ("tokenizer.json", "[]", "tokenizer.json cannot be used"),
        (
            "tokenizer.json",
            r#"{"model": {"type": "Magic"}}"#,
            "compare it with the file of the model",
        ),
    ] {
        folder.write(name, content);
        fault(text);
        if name != "tokenizer.json" {
            fs::remove_file(folder.0.join(name)).expect("it was written");
        }
    }
    fs::remove_file(folder.0.join("tokenizer.json")).expect("it was written");
    fault("tokenizer.json does not exist; name a folder");
    let settings = TokenizerSettings::Local {
        path: Path::new("no/such/model").to_owned(),
        chat_template: None,
        trust_request_template: false,
        cache_bytes: 0,
    };
    let error = open(&settings).expect_err("no folder");
    assert!(
        error
            .to_string()
            .starts_with("no/such/model does not exist"),
        "{error}"
    );
}
