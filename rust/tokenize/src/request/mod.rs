//! What the requests of each API ask the engine to read: texts, token ids, or a conversation.

mod anthropic;
mod chat;
mod completions;
mod generate;
mod responses;

use bytes::Bytes;
use warmroute_core::body::Dialect;
use warmroute_core::tokens::{TokenSequence, TokenizeError};

pub(crate) use chat::{Chat, Ending, media_cut};
pub(crate) use completions::{Prompt, Prompts};

use crate::json::{self, Json, Object, bad_request, unsupported};

/// The prompt of a request, before it is tokens.
#[derive(Debug)]
pub(crate) enum Input {
    /// Token ids already, which nobody has to ask for.
    Tokens(Vec<TokenSequence>),
    /// Texts or token ids of a completion or an embedding.
    Prompts(Prompts),
    /// A conversation.
    Chat(Box<Chat>),
}

/// Reads the body of a request.
pub(crate) fn read(dialect: Dialect, body: &[Bytes]) -> Result<Input, TokenizeError> {
    match dialect {
        Dialect::OpenAiChat => chat::read(json::read_body(body)?),
        Dialect::OpenAiCompletions => completions::read(json::read_body(body)?, "prompt"),
        Dialect::OpenAiEmbeddings => completions::read(json::read_body(body)?, "input"),
        Dialect::OpenAiResponses => responses::read(&json::read_body(body)?),
        Dialect::AnthropicMessages => anthropic::read(&json::read_body(body)?),
        Dialect::VllmGenerate => generate::read_vllm(body),
        Dialect::SglangGenerate => generate::read_sglang(body),
        other => Err(unsupported(format!(
            "requests of {other:?} are not tokenised"
        ))),
    }
    .and_then(|input| match input {
        Input::Prompts(Prompts { list, .. }) if list.is_empty() => {
            Err(bad_request("the request has no prompt"))
        }
        Input::Tokens(sequences) if sequences.is_empty() => {
            Err(bad_request("the request has no tokens"))
        }
        input => Ok(input),
    })
}

/// How the tokens of a prompt are cut to length (vLLM's `truncate_prompt_tokens` and `truncation_side`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truncation {
    /// How many are kept; none: all. (vLLM's −1, the length of its context, is not known here and keeps all.)
    pub(crate) keep: Option<usize>,
    /// The first ones are kept instead of the last.
    pub(crate) from_right: bool,
}

impl Truncation {
    fn read(body: &Object) -> Result<Self, TokenizeError> {
        let keep = match body.get("truncate_prompt_tokens") {
            None | Some(Json::Null | Json::Integer(-1)) => None,
            Some(Json::Integer(count)) => Some(usize::try_from(*count).map_err(|_| {
                bad_request(format!(
                    "truncate_prompt_tokens is {count}, which is no number of tokens"
                ))
            })?),
            Some(other) => {
                return Err(bad_request(format!(
                    "truncate_prompt_tokens is {}, not a number",
                    other.kind()
                )));
            }
        };
        let from_right = body.get("truncation_side").and_then(Json::as_text) == Some("right");
        Ok(Self { keep, from_right })
    }

    /// Cuts tokens to at most `keep` (less `reserved`, which are added around them afterwards).
    pub(crate) fn apply(self, tokens: &mut Vec<u32>, reserved: usize) {
        let Some(keep) = self.keep else { return };
        let keep = keep.saturating_sub(reserved);
        if keep >= tokens.len() {
            return;
        }
        if self.from_right {
            tokens.truncate(keep);
        } else {
            tokens.drain(..tokens.len() - keep);
        }
    }
}

/// A flag of the body, or its default where it is absent or null.
fn flag(body: &Object, key: &str, default: bool) -> Result<bool, TokenizeError> {
    match body.get(key) {
        None | Some(Json::Null) => Ok(default),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| bad_request(format!("{key} is {}, not a boolean", value.kind()))),
    }
}

/// A list of token ids.
fn token_ids(list: &[Json]) -> Result<Vec<u32>, TokenizeError> {
    list.iter()
        .map(|item| {
            item.as_integer()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| {
                    bad_request(format!(
                        "a list of token ids has {} in it that is none",
                        item.kind()
                    ))
                })
        })
        .collect()
}
