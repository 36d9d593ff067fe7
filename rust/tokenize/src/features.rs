//! What vLLM says of the media of a prompt, in the answers of its render endpoints and in generate requests.

use std::collections::BTreeMap;

use serde::Deserialize;
use warmroute_core::tokens::MediaSpan;

/// Hashes and places by kind of medium, in the same order in both. A hash is null where a cache already has the medium.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Features {
    #[serde(default)]
    mm_hashes: Option<BTreeMap<String, Vec<Option<String>>>>,
    #[serde(default)]
    mm_placeholders: Option<BTreeMap<String, Vec<Place>>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Place {
    offset: u32,
    length: u32,
}

impl Features {
    /// The media by rising start, among `tokens` tokens. The error says what does not fit together.
    pub(crate) fn spans(self, tokens: usize) -> Result<Vec<MediaSpan>, String> {
        let mut hashes = self.mm_hashes.unwrap_or_default();
        let mut spans = Vec::new();
        for (kind, places) in self.mm_placeholders.unwrap_or_default() {
            let hashes = hashes.remove(&kind).unwrap_or_default();
            if hashes.len() != places.len() {
                return Err(format!(
                    "media of kind {kind:?}: {} places but {} hashes",
                    places.len(),
                    hashes.len()
                ));
            }
            for (place, hash) in places.iter().zip(hashes) {
                let end = u64::from(place.offset) + u64::from(place.length);
                if end > tokens as u64 {
                    return Err(format!(
                        "a medium of kind {kind:?} ends at token {end} of {tokens}"
                    ));
                }
                let hash = hash.ok_or_else(|| format!("a medium of kind {kind:?} has no hash"))?;
                spans.push(MediaSpan {
                    start: place.offset,
                    length: place.length,
                    hash: hash.into_boxed_str(),
                });
            }
        }
        spans.sort_by_key(|span| span.start);
        Ok(spans)
    }
}
