//! Test data and requests.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;
use warmroute_core::body::Dialect;
use warmroute_core::tokens::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};

pub(crate) fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

pub(crate) fn read_json(path: &str) -> Value {
    let path = data(path);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tokens of a body that arrived in two pieces.
pub(crate) fn tokenize(
    tokenizer: &dyn Tokenizer,
    dialect: Dialect,
    body: &str,
) -> Result<Vec<TokenSequence>, TokenizeError> {
    let middle = body.len() / 2;
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    tokenizer.tokenize(&TokenRequest {
        dialect,
        body: &[bytes.slice(..middle), bytes.slice(middle..)],
        target_model: "target",
    })
}

/// The tokens of a request with one prompt.
pub(crate) fn tokens(tokenizer: &dyn Tokenizer, dialect: Dialect, body: &str) -> Vec<u32> {
    let sequences = tokenize(tokenizer, dialect, body).expect("the request has tokens");
    assert_eq!(sequences.len(), 1);
    assert!(!sequences[0].truncated);
    sequences.into_iter().next().expect("one prompt").tokens
}
