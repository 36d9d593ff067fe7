//! The words in which Go's `encoding/json` refuses a body. A cold path: it reads the refused body again, byte by byte.
//!
//! Clients and tests of the reference see these texts (`endpoint-picker.md` §4.6), so they are the same here. Checked against
//! Go 1.26 by the corpus in `tests/data/go-json-errors.jsonl`.

use super::nesting::{Container, Nesting};
use super::number::{Number, Step};
use super::scan::ScanLimits;

/// Bytes of a number that is quoted in a message; Go quotes all of it.
const QUOTED_BYTES: usize = 1024;

/// What Go says of a document that it does not decode into a `map[string]any`. Empty when Go would take it.
pub fn go_error<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> String {
    let mut checker = Checker {
        expected: Expected::Value,
        nesting: Nesting::new(ScanLimits::GO_DEPTH),
        mismatch: None,
        number: Vec::new(),
        number_overflows: Number::new(),
    };
    // Go steps once more with a space to end a number at the end of the input, and a space that does not fit is what it reports.
    for byte in chunks.flatten().chain(b" ") {
        if let Err(context) = checker.step(*byte) {
            return format!("invalid character {} {context}", quote(*byte));
        }
    }
    if checker.expected != Expected::End {
        return "unexpected end of JSON input".to_owned();
    }
    checker.mismatch.unwrap_or_default()
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    AfterKey,
    AfterValue,
    Text { key: bool },
    Escape { key: bool },
    Hex { key: bool, digits: u8 },
    Number(NumberPart),
    Literal(&'static str, usize),
    End,
}

/// Where a number broke decides the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberPart {
    Plain,
    Point,
    Exponent,
}

struct Checker {
    expected: Expected,
    nesting: Nesting,
    /// First value that is well written but of the wrong type: said only when the whole document is well written.
    mismatch: Option<String>,
    number: Vec<u8>,
    number_overflows: Number,
}

impl Checker {
    fn step(&mut self, byte: u8) -> Result<(), String> {
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.expected = match (self.expected, byte) {
            (
                Expected::Value
                | Expected::ValueOrEnd
                | Expected::Key
                | Expected::KeyOrEnd
                | Expected::AfterKey
                | Expected::AfterValue
                | Expected::End,
                _,
            ) if space => return Ok(()),
            (Expected::ValueOrEnd, b']') | (Expected::KeyOrEnd, b'}') => self.close(),
            (Expected::Value | Expected::ValueOrEnd, _) => self.begin_value(byte)?,
            (Expected::Key | Expected::KeyOrEnd, b'"') => Expected::Text { key: true },
            (Expected::Key | Expected::KeyOrEnd, _) => {
                return Err("looking for beginning of object key string".into());
            }
            (Expected::AfterKey, b':') => Expected::Value,
            (Expected::AfterKey, _) => return Err("after object key".into()),
            (Expected::AfterValue, _) => self.after_value(byte)?,
            (Expected::Text { key }, b'"') => {
                if key {
                    Expected::AfterKey
                } else {
                    self.value_ended()
                }
            }
            (Expected::Text { key }, b'\\') => Expected::Escape { key },
            (Expected::Text { .. }, 0..0x20) => return Err("in string literal".into()),
            (text @ Expected::Text { .. }, _) => text,
            (Expected::Escape { key }, b'u') => Expected::Hex { key, digits: 0 },
            (Expected::Escape { key }, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                Expected::Text { key }
            }
            (Expected::Escape { .. }, _) => return Err("in string escape code".into()),
            (Expected::Hex { key, digits: 3 }, _) if byte.is_ascii_hexdigit() => {
                Expected::Text { key }
            }
            (Expected::Hex { key, digits }, _) if byte.is_ascii_hexdigit() => Expected::Hex {
                key,
                digits: digits + 1,
            },
            (Expected::Hex { .. }, _) => return Err("in \\u hexadecimal character escape".into()),
            (Expected::Number(part), _) => return self.number(part, byte),
            (Expected::Literal(literal, at), _) => {
                let wanted = literal.as_bytes()[at];
                if byte != wanted {
                    return Err(format!(
                        "in literal {literal} (expecting '{}')",
                        wanted as char
                    ));
                }
                if at + 1 == literal.len() {
                    self.value_ended()
                } else {
                    Expected::Literal(literal, at + 1)
                }
            }
            (Expected::End, _) => return Err("after top-level value".into()),
        };
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<Expected, String> {
        if self.nesting.depth() == 0 {
            // Null leaves the map empty.
            self.mismatch = match byte {
                b'{' | b'n' => None,
                b'[' => Some("array"),
                b'"' => Some("string"),
                b't' | b'f' => Some("bool"),
                _ => Some("number"),
            }
            .map(|kind| {
                format!(
                    "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
                )
            });
        }
        Ok(match byte {
            b'{' => self.open(Container::Object, Expected::KeyOrEnd)?,
            b'[' => self.open(Container::Array, Expected::ValueOrEnd)?,
            b'"' => Expected::Text { key: false },
            b't' => Expected::Literal("true", 1),
            b'f' => Expected::Literal("false", 1),
            b'n' => Expected::Literal("null", 1),
            b'-' | b'0'..=b'9' => {
                self.number.clear();
                self.number_overflows = Number::new();
                self.number(NumberPart::Plain, byte)?;
                self.expected
            }
            _ => return Err("looking for beginning of value".into()),
        })
    }

    fn open(&mut self, container: Container, expected: Expected) -> Result<Expected, String> {
        if self.nesting.push(container) {
            Ok(expected)
        } else {
            Err("exceeded max depth".into())
        }
    }

    fn close(&mut self) -> Expected {
        self.nesting.pop();
        self.value_ended()
    }

    fn value_ended(&self) -> Expected {
        if self.nesting.depth() == 0 {
            Expected::End
        } else {
            Expected::AfterValue
        }
    }

    fn after_value(&mut self, byte: u8) -> Result<Expected, String> {
        match (self.nesting.top(), byte) {
            (Some(Container::Object), b',') => Ok(Expected::Key),
            (Some(Container::Array), b',') => Ok(Expected::Value),
            (Some(Container::Object), b'}') | (Some(Container::Array), b']') => Ok(self.close()),
            (Some(Container::Object), _) => Err("after object key:value pair".into()),
            _ => Err("after array element".into()),
        }
    }

    /// Sets `expected` itself, because a number ends only at the byte after it.
    fn number(&mut self, part: NumberPart, byte: u8) -> Result<(), String> {
        match self.number_overflows.step(byte) {
            Step::More => {
                if self.number.len() < QUOTED_BYTES {
                    self.number.push(byte);
                }
                self.expected = Expected::Number(match byte {
                    b'.' => NumberPart::Point,
                    b'e' | b'E' => NumberPart::Exponent,
                    _ => part,
                });
                Ok(())
            }
            Step::Broken => Err(match part {
                NumberPart::Plain => "in numeric literal",
                NumberPart::Point => "after decimal point in numeric literal",
                NumberPart::Exponent => "in exponent of numeric literal",
            }
            .into()),
            Step::Ended => {
                if self.number_overflows.overflows() && self.mismatch.is_none() {
                    let text = String::from_utf8_lossy(&self.number);
                    self.mismatch = Some(format!(
                        "json: cannot unmarshal number {text} into Go value of type float64"
                    ));
                }
                self.expected = self.value_ended();
                self.step(byte)
            }
        }
    }
}

/// A byte as Go quotes it: the character U+0000..U+00FF of that number, escaped unless it can be printed.
fn quote(byte: u8) -> String {
    let inside = match byte {
        b'\'' => "\\'".into(),
        b'\\' => "\\\\".into(),
        0x07 => "\\a".into(),
        0x08 => "\\b".into(),
        0x0c => "\\f".into(),
        b'\n' => "\\n".into(),
        b'\r' => "\\r".into(),
        b'\t' => "\\t".into(),
        0x0b => "\\v".into(),
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..=0xa0 | 0xad => format!("\\u{byte:04x}"),
        _ => (byte as char).to_string(),
    };
    format!("'{inside}'")
}
