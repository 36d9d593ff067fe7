//! Prompts as the engine's own tokens: what a host gives the engine to turn a request into token ids.
//!
//! Tokenisation takes milliseconds, so it is never done in the decision: an exchange hands its host a job, the host runs it on a thread
//! of its own, and the exchange goes on with the answer.

mod job;

use std::fmt;

use bytes::Bytes;

use crate::body::Dialect;
pub use job::{Awaited, TokenAnswer, TokenJob};

/// A request whose prompt is to become tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// The API it speaks.
    pub dialect: Dialect,
    /// The body as the engine will get it, in pieces.
    pub body: &'a [Bytes],
    /// Model that the engine will be asked for.
    pub target_model: &'a str,
}

/// One prompt as the engine will see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSequence {
    /// Token ids, placeholders of media included.
    pub tokens: Vec<u32>,
    /// Media among them, by rising start.
    pub media: Vec<MediaSpan>,
    /// The tokens end before the prompt does, where something begins that only the engine can tokenise (an image without a known hash).
    pub truncated: bool,
}

/// Tokens that stand for a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSpan {
    /// Position of the first.
    pub start: u32,
    /// How many.
    pub length: u32,
    /// The engine's own hash of the medium, as its KV events carry it among the extra keys.
    pub hash: Box<str>,
}

/// Why there are no tokens. The request goes on without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizeError {
    /// The tokenizer cannot read this kind of request; the text says what it is.
    Unsupported(Box<str>),
    /// The request cannot be tokenised (a template that refuses it, a field that is missing): the engine will refuse it as well.
    BadRequest(Box<str>),
    /// A model server or renderer did not answer, or with an error.
    Unavailable(Box<str>),
    /// Too many requests wait for the tokenizer already.
    Busy,
}

impl TokenizeError {
    /// As a label of metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "unsupported",
            Self::BadRequest(_) => "bad_request",
            Self::Unavailable(_) => "unavailable",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for TokenizeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(text) | Self::BadRequest(text) | Self::Unavailable(text) => {
                formatter.write_str(text)
            }
            Self::Busy => formatter.write_str("too many requests wait for the tokenizer"),
        }
    }
}

impl std::error::Error for TokenizeError {}

/// Turns requests into token ids. Called on threads that may block, several at a time, and bounded in time by itself.
pub trait Tokenizer: Send + Sync + fmt::Debug {
    /// Each prompt of the request.
    ///
    /// # Errors
    /// When there are no tokens to be had.
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError>;

    /// It reads only prompts that are token ids already, so no others need wait for it.
    fn only_reads_ids(&self) -> bool {
        false
    }
}
