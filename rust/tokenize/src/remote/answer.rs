//! Answers of the render endpoints and of `/tokenize`.

use serde::Deserialize;
use warmroute_core::tokens::TokenSequence;

use crate::features::Features;

/// A rendered prompt: the part of vLLM's `GenerateRequest` that tells its tokens.
#[derive(Deserialize)]
struct Rendered {
    token_ids: Vec<u32>,
    #[serde(default)]
    features: Option<Features>,
}

#[derive(Deserialize)]
struct Tokenized {
    tokens: Vec<u32>,
}

impl Rendered {
    fn sequence(self) -> Result<TokenSequence, String> {
        if self.token_ids.is_empty() {
            return Err("the answer has no tokens".to_owned());
        }
        let media = self
            .features
            .unwrap_or_default()
            .spans(self.token_ids.len())?;
        Ok(TokenSequence {
            tokens: self.token_ids,
            media,
            truncated: false,
        })
    }
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("the answer cannot be read: {error}")
}

pub(super) fn read_chat(answer: &[u8]) -> Result<TokenSequence, String> {
    let rendered: Rendered = serde_json::from_slice(answer).map_err(|error| unreadable(&error))?;
    rendered.sequence()
}

/// One answer for each of `prompts`.
pub(super) fn read_completions(
    answer: &[u8],
    prompts: usize,
) -> Result<Vec<TokenSequence>, String> {
    let rendered: Vec<Rendered> =
        serde_json::from_slice(answer).map_err(|error| unreadable(&error))?;
    if rendered.len() != prompts {
        return Err(format!(
            "the answer has {} prompts, the request {prompts}",
            rendered.len()
        ));
    }
    rendered.into_iter().map(Rendered::sequence).collect()
}

pub(super) fn read_tokenized(answer: &[u8]) -> Result<Vec<u32>, String> {
    let tokenized: Tokenized =
        serde_json::from_slice(answer).map_err(|error| unreadable(&error))?;
    Ok(tokenized.tokens)
}
