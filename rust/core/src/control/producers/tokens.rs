//! `token-producer`: the prompt as tokens, estimated from its bytes.
//!
//! The scanner of request bodies does the estimate while it reads: four bytes of text are a token, token ids count as they are, media as
//! placeholders. Here is only its place in a configuration.

use crate::plugin::{Data, ParameterError, ParameterKind, Parts, PluginKind, Role, Shape};

/// What `vllm` and `modelName` are refused with.
const NOT_YET: &str = "tokenisation by the model server comes with the exact prefix index; leave it out, and prompts are estimated at four bytes a token";

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "token-producer",
    roles: &[],
    summary: "Counts the prompt's tokens: four bytes of text are one, token ids count as they are, media as placeholders.",
    parameters: &[
        ParameterKind {
            name: "estimate",
            shape: Shape::Object(&[]),
            default: "{}",
            summary: "Estimate from the bytes of the prompt; the only way so far.",
            ..ParameterKind::BASE
        },
    ],
    produces: Some(Data::TokenizedPrompt),
    ..PluginKind::BASE
};
