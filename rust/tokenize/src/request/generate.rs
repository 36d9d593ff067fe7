//! Token-in requests: vLLM's generate, with what it says of media, and `SGLang`'s.

use bytes::Bytes;
use serde::Deserialize;
use warmroute_core::tokens::{TokenSequence, TokenizeError};

use super::Input;
use crate::features::Features;
use crate::json::{bad_request, joined};

#[derive(Deserialize)]
struct VllmBody {
    token_ids: Vec<u32>,
    #[serde(default)]
    features: Option<Features>,
}

#[derive(Deserialize)]
struct SglangBody {
    input_ids: SglangIds,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SglangIds {
    One(Vec<u32>),
    Many(Vec<Vec<u32>>),
}

pub(super) fn read_vllm(body: &[Bytes]) -> Result<Input, TokenizeError> {
    let body: VllmBody = serde_json::from_slice(&joined(body))
        .map_err(|error| bad_request(format!("the generate request cannot be read: {error}")))?;
    let media = match body.features {
        Some(features) => features.spans(body.token_ids.len()).map_err(bad_request)?,
        None => Vec::new(),
    };
    Ok(Input::Tokens(vec![TokenSequence {
        tokens: body.token_ids,
        media,
        truncated: false,
    }]))
}

pub(super) fn read_sglang(body: &[Bytes]) -> Result<Input, TokenizeError> {
    let body: SglangBody = serde_json::from_slice(&joined(body))
        .map_err(|error| bad_request(format!("the generate request cannot be read: {error}")))?;
    let sequences = match body.input_ids {
        SglangIds::One(tokens) => vec![tokens],
        SglangIds::Many(many) => many,
    };
    Ok(Input::Tokens(
        sequences
            .into_iter()
            .map(|tokens| TokenSequence {
                tokens,
                ..TokenSequence::default()
            })
            .collect(),
    ))
}
