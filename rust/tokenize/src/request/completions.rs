//! Completions and embeddings: a text, texts, token ids, or lists of them.

use warmroute_core::tokens::TokenizeError;

use super::{Input, Truncation, flag, token_ids};
use crate::json::{Json, Object, bad_request, unsupported};

/// Prompts that are tokenised one by one.
#[derive(Debug)]
pub(crate) struct Prompts {
    pub(crate) list: Vec<Prompt>,
    /// Whether the tokenizer's own special tokens go around each text.
    pub(crate) add_special_tokens: bool,
    pub(crate) truncation: Truncation,
    /// The body, for a renderer.
    pub(crate) body: Object,
}

/// One prompt.
#[derive(Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// Reads the prompts under `key`.
pub(super) fn read(mut body: Object, key: &str) -> Result<Input, TokenizeError> {
    if matches!(body.get("prompt_embeds"), Some(value) if *value != Json::Null) {
        return Err(unsupported("prompt embeddings are not tokens"));
    }
    let list = match body.get(key) {
        Some(Json::Text(text)) => vec![Prompt::Text(text.clone())],
        Some(Json::List(list)) => read_list(list, key)?,
        None | Some(Json::Null) => return Err(unsupported(format!("the request has no {key}"))),
        Some(other) => {
            return Err(bad_request(format!(
                "{key} is {}, not a text, token ids or a list of these",
                other.kind()
            )));
        }
    };
    let add_special_tokens = flag(&body, "add_special_tokens", true)?;
    let truncation = Truncation::read(&body)?;
    if list
        .iter()
        .all(|prompt| matches!(prompt, Prompt::Tokens(_)))
    {
        // They need no renderer, and may be long.
        body = Object::new();
    }
    Ok(Input::Prompts(Prompts {
        list,
        add_special_tokens,
        truncation,
        body,
    }))
}

fn read_list(list: &[Json], key: &str) -> Result<Vec<Prompt>, TokenizeError> {
    if matches!(list.first(), Some(Json::Integer(_))) {
        return Ok(vec![Prompt::Tokens(token_ids(list)?)]);
    }
    list.iter()
        .map(|item| match item {
            Json::Text(text) => Ok(Prompt::Text(text.clone())),
            Json::List(ids) => Ok(Prompt::Tokens(token_ids(ids)?)),
            other => Err(bad_request(format!(
                "{key} has {} in its list, which is neither a text nor token ids",
                other.kind()
            ))),
        })
        .collect()
}
