//! Edits of the model's name, in a request and in its response, that copy nothing else.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

/// The span to edit does not lie inside the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanOutsideBody {
    /// The span asked for.
    pub span: Range<usize>,
    /// Bytes in the body.
    pub length: usize,
}

impl std::fmt::Display for SpanOutsideBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "bytes {}..{} do not lie in a body of {} bytes",
            self.span.start, self.span.end, self.length
        )
    }
}

impl std::error::Error for SpanOutsideBody {}

/// Replaces the bytes of `span` (the model's value, quotes included, as the scanner found it) in a body that is a list of
/// chunks by `new_model` as a JSON string. Chunks are cut, not copied; none of those that result is empty but what was.
///
/// # Errors
/// When the span does not lie inside the body; the body is unchanged then.
pub fn edit_model(
    chunks: &mut Vec<Bytes>,
    span: Range<usize>,
    new_model: &str,
) -> Result<(), SpanOutsideBody> {
    let length = chunks.iter().map(Bytes::len).sum();
    if span.start > span.end || span.end > length {
        return Err(SpanOutsideBody { span, length });
    }
    let (mut first, mut start) = (0, span.start);
    while let Some(chunk) = chunks.get(first)
        && start >= chunk.len()
        && first + 1 < chunks.len()
    {
        start -= chunk.len();
        first += 1;
    }
    let (mut last, mut end) = (first, start + span.len());
    while let Some(chunk) = chunks.get(last)
        && end > chunk.len()
    {
        end -= chunk.len();
        last += 1;
    }
    let before = chunks.get(first).map(|chunk| chunk.slice(..start));
    let after = chunks.get(last).map(|chunk| chunk.slice(end..));
    let parts = [before, Some(Bytes::from(json_string(new_model))), after];
    let replaced = first..chunks.len().min(last + 1);
    chunks.splice(
        replaced,
        parts.into_iter().flatten().filter(|part| !part.is_empty()),
    );
    Ok(())
}

/// Adds `"model"` as the first member of the object that a body is, where it has no model to replace.
///
/// # Errors
/// When the body does not begin an object; it is unchanged then.
pub fn insert_model(chunks: &mut Vec<Bytes>, new_model: &str) -> Result<(), SpanOutsideBody> {
    let length = chunks.iter().map(Bytes::len).sum();
    let absent = SpanOutsideBody {
        span: 0..0,
        length,
    };
    let opening = chunks.iter().enumerate().find_map(|(index, chunk)| {
        let at = chunk.iter().position(|byte| !byte.is_ascii_whitespace())?;
        Some((index, at))
    });
    let Some((index, at)) = opening.filter(|(index, at)| chunks[*index][*at] == b'{') else {
        return Err(absent);
    };
    let rest = chunks[index].slice(at + 1..);
    let first_of_rest = std::iter::once(&rest)
        .chain(&chunks[index + 1..])
        .flat_map(|chunk| chunk.iter())
        .find(|byte| !byte.is_ascii_whitespace());
    let comma = if first_of_rest == Some(&b'}') { "" } else { "," };
    let member = format!("\"model\":{}{comma}", json_string(new_model));
    let before = chunks[index].slice(..=at);
    chunks.splice(index..=index, [before, Bytes::from(member), rest]);
    Ok(())
}


/// Gives a response chunk the model's name that the client knows: `"model":"target"` becomes `"model":"incoming"`, and only
/// where that form is absent the one with a space after the colon is tried (`endpoint-picker.md` §4.7). The same bytes,
/// not copied, when there is nothing to replace.
pub fn restore_model(chunk: Bytes, target: &str, incoming: &str) -> Bytes {
    if target == incoming {
        return chunk;
    }
    for between in [":", ": "] {
        let find = format!("\"model\"{between}{}", json_string(target));
        let replacement = format!("\"model\"{between}{}", json_string(incoming));
        let mut restored = Vec::new();
        let mut copied = 0;
        for at in memmem::find_iter(&chunk, &find) {
            restored.extend_from_slice(&chunk[copied..at]);
            restored.extend_from_slice(replacement.as_bytes());
            copied = at + find.len();
        }
        if copied > 0 {
            restored.extend_from_slice(&chunk[copied..]);
            return Bytes::from(restored);
        }
    }
    chunk
}

/// A JSON string, quotes included: only what must be escaped is.
fn json_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(parts: &[&str]) -> Vec<Bytes> {
        parts
            .iter()
            .map(|part| Bytes::copy_from_slice(part.as_bytes()))
            .collect()
    }

    #[test]
    fn the_span_is_replaced_wherever_the_chunks_part_it() {
        let body = r#"{"model":"old","x":1}"#;
        let expected = r#"{"model":"a \"new\" one","x":1}"#;
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let mut chunks = rope(&[&body[..first], &body[first..second], &body[second..]]);
                edit_model(&mut chunks, 9..14, "a \"new\" one").expect("inside");
                assert_eq!(chunks.concat(), expected.as_bytes(), "{first} {second}");
            }
        }
    }

    #[test]
    fn untouched_bytes_are_shared_not_copied() {
        let whole = Bytes::from_static(br#"{"model":"old","x":1}"#);
        let mut chunks = vec![whole.clone()];
        edit_model(&mut chunks, 9..14, "n").expect("inside");
        assert_eq!(chunks[0].as_ptr(), whole.as_ptr());
        assert_eq!(chunks[2].as_ptr(), whole[14..].as_ptr());
        assert_eq!(
            restore_model(whole.clone(), "absent", "n").as_ptr(),
            whole.as_ptr()
        );
    }

    #[test]
    fn a_span_outside_the_body_is_an_error_and_changes_nothing() {
        let mut chunks = rope(&["ab", "cd"]);
        assert_eq!(
            edit_model(&mut chunks, 3..5, "m"),
            Err(SpanOutsideBody {
                span: 3..5,
                length: 4
            })
        );
        assert_eq!(chunks, rope(&["ab", "cd"]));
        edit_model(&mut chunks, 4..4, "m").expect("the end is inside");
        assert_eq!(chunks.concat(), b"abcd\"m\"");
        let mut empty = Vec::new();
        edit_model(&mut empty, 0..0, "m").expect("an empty body has an empty span");
        assert_eq!(empty.concat(), b"\"m\"");
    }

    #[test]
    fn the_spaced_form_is_restored_only_without_the_compact_one() {
        let restore =
            |text: &str| restore_model(Bytes::copy_from_slice(text.as_bytes()), "t", "in");
        assert_eq!(
            restore(r#"{"model":"t","a":{"model":"t"}}"#),
            r#"{"model":"in","a":{"model":"in"}}"#
        );
        assert_eq!(restore(r#"{"model": "t"}"#), r#"{"model": "in"}"#);
        assert_eq!(
            restore(r#"{"model":"t","b":{"model": "t"}}"#),
            r#"{"model":"in","b":{"model": "t"}}"#
        );
        assert_eq!(restore(r#"{"model":"other"}"#), r#"{"model":"other"}"#);
    }
}
