//! The list of models that a server tells under `/v1/models`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Most models taken from one list: a server with more is not one that this picker can describe.
pub const MODEL_LIMIT: usize = 4096;
/// Longest list read, in bytes; the 4096 entries of a server with as many adapters fit.
pub const MODEL_LIST_BYTES: usize = 4 << 20;

/// An answer that is no list of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelListError(Box<str>);

impl fmt::Display for ModelListError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the answer is no list of models: {}", self.0)
    }
}

impl std::error::Error for ModelListError {}

/// The ids in the order of the list; `body` is the whole JSON text (`OpenAI`'s `GET /v1/models`).
///
/// # Errors
/// `ModelListError` for a body over `MODEL_LIST_BYTES`, one that is no JSON object with a list `data`, and one with more than `MODEL_LIMIT` models.
pub fn model_ids(body: &[u8]) -> Result<Vec<Box<str>>, ModelListError> {
    let error = |reason: String| ModelListError(reason.into());
    if body.len() > MODEL_LIST_BYTES {
        let limit = MODEL_LIST_BYTES >> 20;
        return Err(error(format!("it is longer than {limit} MiB")));
    }
    let list: List = serde_json::from_slice(body).map_err(|reason| error(reason.to_string()))?;
    Ok(list.data.0)
}

#[derive(Deserialize)]
struct List {
    data: Ids,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    id: Box<str>,
}

struct Ids(Vec<Box<str>>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(IdsVisitor)
    }
}

struct IdsVisitor;

impl<'de> Visitor<'de> for IdsVisitor {
    type Value = Ids;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of models")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut models: A) -> Result<Ids, A::Error> {
        let mut ids = Vec::new();
        while let Some(Model { id }) = models.next_element()? {
            if ids.len() == MODEL_LIMIT {
                return Err(A::Error::custom(format_args!(
                    "more than {MODEL_LIMIT} models"
                )));
            }
            if !id.is_empty() {
                ids.push(id);
            }
        }
        Ok(Ids(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_in_order_and_the_rest_is_skipped() {
        let body = br#"{"object":"list","data":[{"id":"a","owned_by":"vllm","permission":[{"x":1}]},{"object":"model"},{"id":"b/\u00e9"}]}"#;
        assert_eq!(model_ids(body), Ok(vec!["a".into(), "b/é".into()]));
        assert_eq!(model_ids(br#"{"data":[]}"#), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_reason() {
        let many = format!(
            "{{\"data\":[{}{{}}]}}",
            "{\"id\":\"a\"},".repeat(MODEL_LIMIT)
        );
        let long = vec![b' '; MODEL_LIST_BYTES + 1];
        for (body, reason) in [
            (&b"<html>"[..], "expected value"),
            (b"", "EOF"),
            (b"[1]", "no list"),
            (br#"{"error":"x"}"#, "missing field `data`"),
            (br#"{"data":{}}"#, "expected a list of models"),
            (br#"{"data":[{"id":7}]}"#, "invalid type"),
            (many.as_bytes(), "more than 4096 models"),
            (&long, "longer than 4 MiB"),
        ] {
            let error = model_ids(body).expect_err("no list").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
