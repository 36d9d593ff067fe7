//! Edits of the model's name, in a request and in its response, that copy nothing else.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

/// Gives a body that is a list of chunks another model; the length of the body that results.
///
/// `span` is where the scanner found the model's value, quotes included; without one, the model is added as the last key
/// (so it counts even where the body has one that is no string).
/// Chunks are cut, not copied. A span that does not lie inside the body (so is of another one), and a body without an
/// object, leave it as it is.
pub fn edit_model(chunks: &mut Vec<Bytes>, span: Option<Range<usize>>, new_model: &str) -> usize {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let value = json_string(new_model);
    match span {
        Some(span) if span.start <= span.end && span.end <= length => {
            replace(chunks, span, value.into());
        }
        Some(_) => {}
        None => {
            let mut backwards = chunks.iter().rev().flat_map(|chunk| chunk.iter().rev());
            let mut before = |length: usize| {
                let mut rest = length;
                for byte in backwards.by_ref() {
                    rest -= 1;
                    if !byte.is_ascii_whitespace() {
                        return Some((rest, *byte));
                    }
                }
                None
            };
            if let Some((close, b'}')) = before(length) {
                let comma = if matches!(before(close), Some((_, b'{'))) {
                    ""
                } else {
                    ","
                };
                let entry = format!("{comma}\"model\":{value}");
                replace(chunks, close..close, entry.into());
            }
        }
    }
    chunks.iter().map(Bytes::len).sum()
}

/// Replaces a span that lies inside the body.
fn replace(chunks: &mut Vec<Bytes>, span: Range<usize>, with: Bytes) {
    let (mut first, mut start) = (0, span.start);
    while first + 1 < chunks.len() && start >= chunks[first].len() {
        start -= chunks[first].len();
        first += 1;
    }
    let (mut last, mut end) = (first, start + span.len());
    while last + 1 < chunks.len() && end > chunks[last].len() {
        end -= chunks[last].len();
        last += 1;
    }
    let before = chunks.get(first).map(|chunk| chunk.slice(..start));
    let after = chunks.get(last).map(|chunk| chunk.slice(end..));
    let replaced = first..chunks.len().min(last + 1);
    let parts = [before, Some(with), after]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty());
    chunks.splice(replaced, parts);
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
            '\0'..' ' => {
                let code = u32::from(character);
                quoted.push_str("\\u00");
                quoted.extend(
                    [code >> 4, code & 15].map(|digit| char::from_digit(digit, 16).unwrap_or('0')),
                );
            }
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
                assert_eq!(
                    edit_model(&mut chunks, Some(9..14), "a \"new\" one"),
                    expected.len()
                );
                assert_eq!(chunks.concat(), expected.as_bytes(), "{first} {second}");
            }
        }
    }

    #[test]
    fn untouched_bytes_are_shared_not_copied() {
        let whole = Bytes::from_static(br#"{"model":"old","x":1}"#);
        let mut chunks = vec![whole.clone()];
        edit_model(&mut chunks, Some(9..14), "n");
        assert_eq!(chunks[0].as_ptr(), whole.as_ptr());
        assert_eq!(chunks[2].as_ptr(), whole[14..].as_ptr());
        assert_eq!(
            restore_model(whole.clone(), "absent", "n").as_ptr(),
            whole.as_ptr()
        );
    }

    #[test]
    fn a_body_without_a_model_gets_one_as_its_last_key() {
        for (body, expected) in [
            (" {\"x\":1} \n", " {\"x\":1,\"model\":\"m\"} \n"),
            (r#"{"model":5}"#, r#"{"model":5,"model":"m"}"#),
            (r#"{"x":{}}"#, r#"{"x":{},"model":"m"}"#),
            ("{ }", r#"{ "model":"m"}"#),
            ("null", "null"),
            ("", ""),
        ] {
            for cut in 0..=body.len() {
                let mut chunks = rope(&[&body[..cut], &body[cut..]]);
                assert_eq!(edit_model(&mut chunks, None, "m"), expected.len());
                assert_eq!(chunks.concat(), expected.as_bytes());
            }
        }
    }

    #[test]
    fn a_span_of_another_body_changes_nothing() {
        let mut chunks = rope(&["ab", "cd"]);
        assert_eq!(edit_model(&mut chunks, Some(3..5), "m"), 4);
        assert_eq!(chunks, rope(&["ab", "cd"]));
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
        assert_eq!(json_string("a\u{1f}\n\"\\é"), r#""a\u001f\u000a\"\\é""#);
        assert_eq!(
            restore(r#"{"model":"t","b":{"model": "t"}}"#),
            r#"{"model":"in","b":{"model": "t"}}"#
        );
        assert_eq!(restore(r#"{"model":"other"}"#), r#"{"model":"other"}"#);
    }
}
