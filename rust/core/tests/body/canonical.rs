//! The canonical prompt computed the slow and plain way, from a parsed document.

use serde_json::Value;
use warmroute_core::prefix::BlockHasher;
use xxhash_rust::xxh64::xxh64;

use crate::LIMITS;

/// Canonical bytes of one sequence.
#[derive(Default)]
pub(crate) struct Canonical {
    bytes: Vec<u8>,
    leaves: usize,
}

impl Canonical {
    pub(crate) fn leaf(&mut self, bytes: &[u8]) {
        if self.leaves > 0 {
            self.bytes.push(0x1f);
        }
        self.leaves += 1;
        self.bytes.extend_from_slice(bytes);
    }

    fn medium(&mut self, content: &str, tokens: usize) {
        let token = (xxh64(content.as_bytes(), 0) as u32).to_le_bytes();
        self.leaf(&token.repeat(tokens));
    }

    /// All leaves of a conversation in order, `type` left out, `image_url` replaced.
    pub(crate) fn conversation(&mut self, value: &Value) {
        self.value(value, false);
    }

    fn value(&mut self, value: &Value, in_image: bool) {
        match value {
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => self.leaf(value.to_string().as_bytes()),
            Value::String(text) => self.leaf(text.as_bytes()),
            Value::Array(items) => items.iter().for_each(|item| self.value(item, false)),
            Value::Object(entries) => {
                for (key, value) in entries {
                    match (key.as_str(), value) {
                        ("type", _) => {}
                        ("image_url", Value::String(url)) => self.medium(url, 225),
                        ("url", Value::String(url)) if in_image => self.medium(url, 225),
                        _ => self.value(value, key == "image_url"),
                    }
                }
            }
        }
    }

    /// Keys and leaves.
    pub(crate) fn definitions(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.definitions(item)),
            Value::Object(entries) => {
                for (key, value) in entries {
                    self.leaf(key.as_bytes());
                    self.definitions(value);
                }
            }
            leaf => self.conversation(leaf),
        }
    }

    /// Token ids, not parted.
    pub(crate) fn tokens(&mut self, ids: &[u32]) {
        self.bytes
            .extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }

    pub(crate) fn blocks(&self) -> Vec<u64> {
        let mut hasher = BlockHasher::new(LIMITS.block_tokens, LIMITS.max_blocks);
        hasher.push(&self.bytes);
        hasher.finish().0
    }

    pub(crate) fn token_count(&self) -> u32 {
        self.bytes.len().div_ceil(4) as u32
    }
}
