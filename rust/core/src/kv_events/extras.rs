//! What a block's cache depends on beside its tokens, in the words of the request side: hashes of media, and the salt.

use std::borrow::Cow;
use std::fmt::Write as _;

use smallvec::SmallVec;

use super::event::{Extra, Stored};

/// The event says of a block more than which adapter it was computed with.
pub(super) fn has_extras(stored: &Stored<'_>, adapter: Option<&str>) -> bool {
    let mut blocks = stored
        .extras
        .chunk_by(|(left, _), (right, _)| left == right);
    blocks.any(|extras| {
        let own: SmallVec<[Extra<'_>; 4]> = extras.iter().map(|(_, extra)| *extra).collect();
        texts(&own, adapter, stored.adapter_number).next().is_some()
    })
}

/// A block's extra keys as the request side knows them: all but the adapter, which older engines give as a number, and which is in the root of the keys.
pub(super) fn texts<'a>(
    extras: &[Extra<'a>],
    adapter: Option<&str>,
    adapter_number: Option<u64>,
) -> impl Iterator<Item = Cow<'a, str>> {
    let is_adapter = match extras.first() {
        Some(Extra::Text(text)) => adapter == Some(*text),
        Some(Extra::Number(number)) => adapter_number == Some(*number),
        _ => false,
    };
    let own: SmallVec<[Extra<'a>; 4]> = extras[usize::from(is_adapter)..].into();
    own.into_iter().map(|extra| match extra {
        Extra::Text(text) => Cow::Borrowed(text),
        Extra::Number(number) => Cow::Owned(number.to_string()),
        Extra::Bytes(bytes) => {
            let mut hex = String::with_capacity(2 * bytes.len());
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            Cow::Owned(hex)
        }
    })
}
