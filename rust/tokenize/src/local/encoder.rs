//! Texts to tokens, with what was tokenised before taken from a cache.
//!
//! A text is walked from its start and cut at the first safe place behind each kilobyte, so that two texts with a common beginning are cut
//! alike in it: of a conversation's next turn only the last piece of the turn before and what is new are tokenised.

use std::sync::Arc;

use tokenizers::Tokenizer;
use warmroute_core::tokens::TokenizeError;

use super::cache::ChunkCache;
use super::cuts::Cuts;
use crate::json::{Json, bad_request, unsupported};

/// Length from which on a piece ends at the next cut, in bytes.
const CHUNK_BYTES: usize = 1024;

/// A tokenizer and its cache.
pub(crate) struct Encoder {
    tokenizer: Tokenizer,
    cuts: Option<Cuts>,
    cache: Option<ChunkCache>,
    around: Option<Around>,
    chunk_bytes: usize,
}

/// The special tokens that a tokenizer puts around a text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Around {
    before: Vec<u32>,
    after: Vec<u32>,
}

/// Which special tokens are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Specials {
    Both,
    /// Those before the text, which goes on behind what is known of it.
    Before,
    None,
}

impl Encoder {
    pub(crate) fn new(tokenizer: Tokenizer, description: &Json, cache_bytes: usize) -> Self {
        let cuts = Cuts::new(description, &tokenizer);
        let cache = (cuts.is_some() && cache_bytes > 0).then(|| ChunkCache::new(cache_bytes));
        let around = around(&tokenizer);
        Self {
            tokenizer,
            cuts,
            cache,
            around,
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// The last place where the text can be cut without a change of the tokens before it.
    pub(crate) fn last_cut(&self, text: &str) -> usize {
        self.cuts.as_ref().map_or(0, |cuts| cuts.last(text))
    }

    /// The tokens of a text; `cut` shortens them before special tokens are added, given how many these are.
    pub(crate) fn encode(
        &self,
        text: &str,
        specials: Specials,
        cut: impl Fn(&mut Vec<u32>, usize),
    ) -> Result<Vec<u32>, TokenizeError> {
        let (before, after): (&[u32], &[u32]) = match (specials, &self.around) {
            (Specials::None, _) => (&[], &[]),
            (Specials::Before, Some(around)) => (&around.before, &[]),
            (Specials::Both, Some(around)) => (&around.before, &around.after),
            (Specials::Before, None) => {
                return Err(unsupported(
                    "what this tokenizer puts before a text depends on all of it",
                ));
            }
            (Specials::Both, None) => {
                // What this tokenizer adds depends on the text.
                let mut tokens = self.encode_whole(text, true)?;
                cut(&mut tokens, 0);
                return Ok(tokens);
            }
        };
        let mut tokens = before.to_vec();
        let mut content = self.encode_text(text)?;
        cut(&mut content, before.len() + after.len());
        if tokens.is_empty() {
            tokens = content;
        } else {
            tokens.append(&mut content);
        }
        tokens.extend_from_slice(after);
        Ok(tokens)
    }

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let (Some(cuts), Some(cache)) = (&self.cuts, &self.cache) else {
            return self.encode_whole(text, false);
        };
        let chunks = chunks(text, cuts, self.chunk_bytes);
        let keys: Vec<u128> = chunks.iter().map(|chunk| cache.key(chunk)).collect();
        let known = cache.get(keys.iter().copied());
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let mut new = Vec::new();
        for ((chunk, key), known) in chunks.iter().zip(keys).zip(known) {
            if let Some(known) = known {
                tokens.extend_from_slice(&known);
            } else {
                let encoded: Arc<[u32]> = self.encode_whole(chunk, false)?.into();
                tokens.extend_from_slice(&encoded);
                new.push((key, encoded));
            }
        }
        if !new.is_empty() {
            cache.insert(new);
        }
        Ok(tokens)
    }

    fn encode_whole(
        &self,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<Vec<u32>, TokenizeError> {
        self.tokenizer
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| bad_request(format!("the tokenizer refuses the prompt: {error}")))
    }
}

fn chunks<'a>(text: &'a str, cuts: &Cuts, chunk_bytes: usize) -> Vec<&'a str> {
    let mut chunks = Vec::with_capacity(text.len() / chunk_bytes + 1);
    let mut start = 0;
    while text.len() - start > chunk_bytes
        && let Some(end) = cuts.next(text, start + chunk_bytes)
    {
        chunks.push(&text[start..end]);
        start = end;
    }
    chunks.push(&text[start..]);
    chunks
}

/// Learns from two texts what is put around any; none where this is not the same for both.
fn around(tokenizer: &Tokenizer) -> Option<Around> {
    let learn = |text: &str| {
        let content = tokenizer.encode_fast(text, false).ok()?;
        let content = content.get_ids();
        let all = tokenizer.encode_fast(text, true).ok()?;
        let all = all.get_ids();
        let at = all
            .windows(content.len().max(1))
            .position(|window| window == content)?;
        Some(Around {
            before: all[..at].to_vec(),
            after: all[at + content.len()..].to_vec(),
        })
    };
    let first = learn("a")?;
    (learn("two words")? == first).then_some(first)
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Encoder")
            .field("cuts", &self.cuts.is_some())
            .field("cache", &self.cache)
            .field("around", &self.around)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
