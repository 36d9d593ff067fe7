//! Values as Python writes them: templates are written for Jinja in Python, where `{{ true }}` is `True` and `tojson` is `json.dumps`.

use std::fmt::{self, Write};

use minijinja::Value;
use minijinja::value::ValueKind;

/// How `json.dumps` writes.
#[derive(Clone, Debug)]
pub(crate) struct JsonStyle {
    /// What one level is indented by; none: everything on one line.
    pub(crate) indent: Option<String>,
    /// Between items.
    pub(crate) item_separator: String,
    /// Between a key and its value.
    pub(crate) key_separator: String,
    /// Objects by their keys instead of in their own order.
    pub(crate) sort_keys: bool,
    /// Escapes everything outside of ASCII.
    pub(crate) ensure_ascii: bool,
}

impl Default for JsonStyle {
    fn default() -> Self {
        Self {
            indent: None,
            item_separator: ", ".to_owned(),
            key_separator: ": ".to_owned(),
            sort_keys: false,
            ensure_ascii: false,
        }
    }
}

/// `str(value)`.
pub(crate) fn write_str(out: &mut impl Write, value: &Value) -> fmt::Result {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(out, value),
    }
}

/// `repr(value)`.
fn write_repr(out: &mut impl Write, value: &Value) -> fmt::Result {
    if let Some(text) = value.as_str() {
        return write_quoted(out, text);
    }
    match value.kind() {
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() {
                ('(', ')')
            } else {
                ('[', ']')
            };
            out.write_char(open)?;
            for (index, item) in items(value).enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &item)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.write_char(',')?;
            }
            out.write_char(close)
        }
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, key) in items(value).enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &key)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default())?;
            }
            out.write_char('}')
        }
        _ => write!(out, "{value}"),
    }
}

/// `json.dumps(value, …)`.
pub(crate) fn write_json(
    out: &mut impl Write,
    value: &Value,
    style: &JsonStyle,
    level: usize,
) -> fmt::Result {
    if let Some(text) = value.as_str() {
        return write_json_text(out, text, style.ensure_ascii);
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.write_str("null"),
        ValueKind::Bool => out.write_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::Map => {
            let mut keys: Vec<Value> = items(value).collect();
            if style.sort_keys {
                keys.sort();
            }
            write_container(out, ('{', '}'), &keys, style, level, |out, key| {
                let mut name = String::new();
                write_str(&mut name, key)?;
                write_json_text(out, &name, style.ensure_ascii)?;
                out.write_str(&style.key_separator)?;
                let item = value.get_item(key).unwrap_or_default();
                write_json(out, &item, style, level + 1)
            })
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let list: Vec<Value> = items(value).collect();
            write_container(out, ('[', ']'), &list, style, level, |out, item| {
                write_json(out, item, style, level + 1)
            })
        }
        _ => write_json_text(out, &value.to_string(), style.ensure_ascii),
    }
}

fn write_container<W: Write>(
    out: &mut W,
    (open, close): (char, char),
    parts: &[Value],
    style: &JsonStyle,
    level: usize,
    write_part: impl Fn(&mut W, &Value) -> fmt::Result,
) -> fmt::Result {
    out.write_char(open)?;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.write_str(&style.item_separator)?;
        }
        break_line(out, style, level + 1)?;
        write_part(out, part)?;
    }
    if !parts.is_empty() {
        break_line(out, style, level)?;
    }
    out.write_char(close)
}

fn break_line(out: &mut impl Write, style: &JsonStyle, level: usize) -> fmt::Result {
    if let Some(indent) = &style.indent {
        out.write_char('\n')?;
        for _ in 0..level {
            out.write_str(indent)?;
        }
    }
    Ok(())
}

fn items(value: &Value) -> impl Iterator<Item = Value> {
    value.try_iter().into_iter().flatten()
}

fn write_json_text(out: &mut impl Write, text: &str, ensure_ascii: bool) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            control if control < ' ' => write!(out, "\\u{:04x}", control as u32)?,
            wide if ensure_ascii && wide > '~' => {
                for unit in wide.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}

fn write_quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            same if same == quote => write!(out, "\\{quote}")?,
            control if control < ' ' || control == '\u{7f}' => {
                write!(out, "\\x{:02x}", control as u32)?;
            }
            other => out.write_char(other)?,
        }
    }
    out.write_char(quote)
}

fn write_number(out: &mut impl Write, value: &Value) -> fmt::Result {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => write_float(out, number),
        _ => write!(out, "{value}"),
    }
}

/// `repr(float)`: the shortest digits that give the number back, with an exponent below 1e-4 and from 1e16.
fn write_float(out: &mut impl Write, number: f64) -> fmt::Result {
    if !number.is_finite() {
        return out.write_str(if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number == 0.0 || (-4..16).contains(&exponent) {
        return write!(out, "{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn value(json: &str) -> Value {
        serde_json::from_str::<Json>(json)
            .expect("test input is JSON")
            .into()
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        // Expected: str(json.loads(text)) and json.dumps(json.loads(text), ensure_ascii=False) of CPython 3.11.
        for (text, as_str, as_json) in [
            ("true", "True", "true"),
            ("null", "None", "null"),
            ("1.0", "1.0", "1.0"),
            ("0.0001", "0.0001", "0.0001"),
            ("1e-5", "1e-05", "1e-05"),
            ("1e16", "1e+16", "1e+16"),
            (
                "123456789012345.6",
                "123456789012345.6",
                "123456789012345.6",
            ),
            ("1.5e300", "1.5e+300", "1.5e+300"),
            ("-0.0", "-0.0", "-0.0"),
            (
                "18446744073709551615",
                "18446744073709551615",
                "18446744073709551615",
            ),
            (r#""<é\n""#, "<é\n", r#""<é\n""#),
            (
                r#"["it's", "a\"b'", true]"#,
                r#"["it's", 'a"b\'', True]"#,
                r#"["it's", "a\"b'", true]"#,
            ),
            (
                r#"{"z": {}, "a": [], "n": null}"#,
                "{'z': {}, 'a': [], 'n': None}",
                r#"{"z": {}, "a": [], "n": null}"#,
            ),
        ] {
            let value = value(text);
            let mut written = String::new();
            write_str(&mut written, &value).expect("strings take everything");
            assert_eq!(written, as_str, "{text}");
            written.clear();
            write_json(&mut written, &value, &JsonStyle::default(), 0)
                .expect("strings take everything");
            assert_eq!(written, as_json, "{text}");
        }
    }

    #[test]
    fn json_is_indented_sorted_and_escaped_on_request() {
        let style = JsonStyle {
            indent: Some("  ".to_owned()),
            item_separator: ",".to_owned(),
            sort_keys: true,
            ensure_ascii: true,
            ..JsonStyle::default()
        };
        let mut written = String::new();
        write_json(
            &mut written,
            &value(r#"{"b": [1, "é😀"], "a": {}, "c": []}"#),
            &style,
            0,
        )
        .expect("strings take everything");
        assert_eq!(
            written,
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"\\u00e9\\ud83d\\ude00\"\n  ],\n  \"c\": []\n}"
        );
    }
}
