//! What a tokenizer is made of on disk: `tokenizer.json`, and beside it what `transformers` reads of chat templates and special tokens.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokenizers::{AddedToken, Tokenizer};

use crate::error::OpenError;
use crate::json::Json;

/// Largest file that is read, in bytes: the largest public `tokenizer.json` has 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Special tokens that templates know by name.
const NAMED_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A tokenizer as it was found.
pub(crate) struct Files {
    pub(crate) tokenizer: Tokenizer,
    /// `tokenizer.json` itself: what the tokenizer's parts are is told by it.
    pub(crate) description: Json,
    pub(crate) default_template: Option<String>,
    pub(crate) tool_template: Option<String>,
    pub(crate) special_tokens: Vec<(String, String)>,
    /// Where the default template comes from, for messages.
    pub(crate) template_path: PathBuf,
}

/// Reads a folder, or a `tokenizer.json` without anything beside it.
pub(crate) fn read(path: &Path, chat_template: Option<&Path>) -> Result<Files, OpenError> {
    let folder = path.is_dir().then_some(path);
    let tokenizer_path =
        folder.map_or_else(|| path.to_owned(), |folder| folder.join("tokenizer.json"));
    let text = read_file(&tokenizer_path)?.ok_or_else(|| OpenError::NotFound {
        path: tokenizer_path.clone(),
    })?;
    let description = parse(&tokenizer_path, &text)?;
    let mut tokenizer: Tokenizer =
        text.parse()
            .map_err(|error: tokenizers::Error| OpenError::Invalid {
                path: tokenizer_path.clone(),
                reason: error.to_string(),
            })?;
    // As `transformers` does before each call that asks for neither.
    tokenizer
        .with_truncation(None)
        .map_err(|error| OpenError::Invalid {
            path: tokenizer_path.clone(),
            reason: error.to_string(),
        })?;
    tokenizer.with_padding(None);

    let mut files = Files {
        tokenizer,
        description,
        default_template: None,
        tool_template: None,
        special_tokens: Vec::new(),
        template_path: tokenizer_path,
    };
    if let Some(folder) = folder {
        files.read_neighbours(folder)?;
    }
    if let Some(path) = chat_template {
        let text = read_file(path)?.ok_or_else(|| OpenError::NotFound {
            path: path.to_owned(),
        })?;
        files.default_template = Some(text);
        files.tool_template = None;
        path.clone_into(&mut files.template_path);
    }
    Ok(files)
}

impl Files {
    fn read_neighbours(&mut self, folder: &Path) -> Result<(), OpenError> {
        let mut named = BTreeMap::new();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            let Some(text) = read_file(&path)? else {
                continue;
            };
            let config = parse(&path, &text)?;
            for key in NAMED_TOKENS {
                if let Some(token) = token_text(config.get(key)) {
                    named.insert(key.to_owned(), token.to_owned());
                }
            }
            if let Some(tokens) = config.get("added_tokens_decoder") {
                self.add_tokens(&path, tokens)?;
            }
            if let Some(template) = config.get("chat_template") {
                self.take_template(&path, template)?;
            }
        }
        self.special_tokens = named.into_iter().collect();
        for name in ["chat_template.json", "chat_template.jinja"] {
            let path = folder.join(name);
            let Some(text) = read_file(&path)? else {
                continue;
            };
            let template = if name == "chat_template.json" {
                let config = parse(&path, &text)?;
                match config.get("chat_template") {
                    Some(template) => template.clone(),
                    None => continue,
                }
            } else {
                Json::Text(text)
            };
            self.take_template(&path, &template)?;
        }
        let tool_path = folder.join("additional_chat_templates/tool_use.jinja");
        if let Some(text) = read_file(&tool_path)? {
            self.tool_template = Some(text);
        }
        Ok(())
    }

    /// A template as text, or several with names; a later one replaces an earlier one.
    fn take_template(&mut self, path: &Path, template: &Json) -> Result<(), OpenError> {
        let invalid = |reason: &str| OpenError::Invalid {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        match template {
            Json::Text(text) => self.default_template = Some(text.clone()),
            Json::List(list) => {
                for entry in list {
                    let field = |key| entry.get(key).and_then(Json::as_text);
                    let (Some(name), Some(text)) = (field("name"), field("template")) else {
                        return Err(invalid(
                            "chat_template is a list, but not of names and templates",
                        ));
                    };
                    match name {
                        "default" => self.default_template = Some(text.to_owned()),
                        "tool_use" => self.tool_template = Some(text.to_owned()),
                        _ => {}
                    }
                }
            }
            _ => return Err(invalid("chat_template is neither a text nor a list")),
        }
        path.clone_into(&mut self.template_path);
        Ok(())
    }

    /// Tokens that the configuration adds to those of `tokenizer.json`.
    fn add_tokens(&mut self, path: &Path, tokens: &Json) -> Result<(), OpenError> {
        let mut missing = Vec::new();
        for (id, token) in tokens.as_object().into_iter().flatten() {
            let flag = |key| token.get(key).and_then(Json::as_bool).unwrap_or_default();
            let (Ok(id), Some(text)) = (id.parse::<u32>(), token_text(Some(token))) else {
                continue;
            };
            if self.tokenizer.token_to_id(text) != Some(id) {
                let added = AddedToken::from(text, flag("special"))
                    .single_word(flag("single_word"))
                    .lstrip(flag("lstrip"))
                    .rstrip(flag("rstrip"))
                    .normalized(flag("normalized"));
                missing.push((id, added));
            }
        }
        missing.sort_by_key(|(id, _)| *id);
        for (id, token) in missing {
            let text = token.content.clone();
            let added = self.tokenizer.add_tokens([token]);
            if added.is_err() || self.tokenizer.token_to_id(&text) != Some(id) {
                return Err(OpenError::Invalid {
                    path: path.to_owned(),
                    reason: format!(
                        "added_tokens_decoder says that {text:?} is token {id}, which tokenizer.json does not agree with"
                    ),
                });
            }
        }
        Ok(())
    }
}

/// A token as text, or as an object with its text.
fn token_text(token: Option<&Json>) -> Option<&str> {
    match token? {
        Json::Text(text) => Some(text),
        token => token.get("content").and_then(Json::as_text),
    }
}

fn parse(path: &Path, text: &str) -> Result<Json, OpenError> {
    serde_json::from_str(text).map_err(|error| OpenError::Invalid {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The text of a file; none where there is no such file.
fn read_file(path: &Path) -> Result<Option<String>, OpenError> {
    let unreadable = |reason: String| OpenError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            return Err(unreadable(format!(
                "it has {} bytes, over the limit of {MAX_FILE_BYTES}",
                metadata.len()
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    }
    fs::read_to_string(path)
        .map(Some)
        .map_err(|error| unreadable(error.to_string()))
}
