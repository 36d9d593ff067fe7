//! An incremental JSON tokenizer: one pass, resumable at any byte, no document kept.
//!
//! Accepts exactly what Go's `encoding/json` accepts into a `map[string]any`: an object (or `null`), depth as limited,
//! any bytes from 0x20 up in strings whether UTF-8 or not, numbers that a 64-bit float can hold.

use memchr::memchr2;

use super::handler::{Handler, Literal};
use super::nesting::{Container, Nesting};
use super::number::{Number, Step};
use super::text::{SIMPLE_ESCAPES, Utf16, before_control, has_control, hex_digit, hex_unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the document's value.
    Start,
    Value,
    /// A value, or the end of an array.
    FirstValue,
    Key,
    /// A key, or the end of an object.
    FirstKey,
    Colon,
    AfterValue,
    String,
    Escape,
    Hex,
    Number,
    Literal,
    /// Only white space may follow.
    End,
    /// Not JSON.
    Broken,
    /// Perhaps JSON, but nothing that Go decodes into a map: nothing more is read.
    Refused,
}

/// Bytes of a long string that are searched, checked and handed on before the next: they stay in the nearest cache.
const WINDOW: usize = 8 * 1024;

/// The tokenizer.
#[derive(Debug)]
pub(super) struct Json {
    state: State,
    nesting: Nesting,
    /// Bytes of the pieces before this one.
    offset: usize,
    /// The string being read is a key.
    in_key: bool,
    /// The text of the string being read goes to the handler.
    wanted: bool,
    utf16: Utf16,
    /// Digits read of a `\u` escape that pieces part, and their value.
    hex: (u8, u16),
    number: Number,
    /// Rest of the literal being read.
    literal: (&'static [u8], Literal),
}

impl Json {
    /// Before a document; at most `max_depth` containers inside each other.
    pub(super) fn new(max_depth: usize) -> Self {
        Self {
            state: State::Start,
            nesting: Nesting::new(max_depth),
            offset: 0,
            in_key: false,
            wanted: false,
            utf16: Utf16::default(),
            hex: (0, 0),
            number: Number::new(),
            literal: (&[], Literal::Null),
        }
    }

    /// Back to before a document.
    pub(super) fn reset(&mut self) {
        self.state = State::Start;
        self.nesting.clear();
        self.offset = 0;
        self.utf16 = Utf16::default();
    }

    /// Whether no bytes that follow could make this JSON.
    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether the bytes so far are one whole document.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Reads the next piece.
    pub(super) fn feed<H: Handler>(&mut self, piece: &[u8], handler: &mut H) {
        let mut at = 0;
        while at < piece.len() {
            at = match self.state {
                State::Broken | State::Refused => return,
                State::String => self.string(piece, at, handler),
                State::Escape => {
                    self.state = State::String;
                    self.escape(piece, at, handler)
                }
                State::Hex => self.hex(piece[at], handler, at),
                State::Number => self.number(piece, at, handler),
                State::Literal => self.literal(piece, at, handler),
                _ => self.structure(piece, at, handler),
            };
        }
        self.offset += piece.len();
    }

    fn fail(&mut self) -> usize {
        self.stop(State::Broken)
    }

    fn stop(&mut self, state: State) -> usize {
        self.state = state;
        // Beyond any piece: `feed` returns.
        usize::MAX
    }

    fn structure<H: Handler>(&mut self, piece: &[u8], at: usize, handler: &mut H) -> usize {
        let byte = piece[at];
        if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            return at + 1;
        }
        match (self.state, byte) {
            (State::AfterValue, b',') => {
                self.state = match self.nesting.top() {
                    Some(Container::Object) => State::Key,
                    _ => State::Value,
                };
                at + 1
            }
            (State::Key | State::FirstKey, b'"') => {
                self.in_key = true;
                self.wanted = handler.begin_key();
                self.state = State::String;
                self.string(piece, at + 1, handler)
            }
            (State::Colon, b':') => {
                self.state = State::Value;
                at + 1
            }
            (State::Value | State::FirstValue, b'"') => {
                self.in_key = false;
                self.wanted = handler.begin_string(self.offset + at);
                self.state = State::String;
                self.string(piece, at + 1, handler)
            }
            (State::Value | State::FirstValue, b'0'..=b'9' | b'-') => {
                self.begin_number(piece, at, handler)
            }
            (State::Value | State::FirstValue, b'{') => self.open(Container::Object, at, handler),
            (State::Value | State::FirstValue, b'[') => self.open(Container::Array, at, handler),
            (State::FirstKey, b'}') | (State::FirstValue, b']') => self.close(at, handler),
            (State::AfterValue, b'}') if self.nesting.top() == Some(Container::Object) => {
                self.close(at, handler)
            }
            (State::AfterValue, b']') if self.nesting.top() == Some(Container::Array) => {
                self.close(at, handler)
            }
            (State::Start | State::Value | State::FirstValue, b'n') => {
                self.begin_literal(b"ull", Literal::Null, at)
            }
            (State::Value | State::FirstValue, b't') => {
                self.begin_literal(b"rue", Literal::True, at)
            }
            (State::Value | State::FirstValue, b'f') => {
                self.begin_literal(b"alse", Literal::False, at)
            }
            (State::Start, b'{') => {
                if !self.nesting.push(Container::Object) {
                    return self.fail();
                }
                self.state = State::FirstKey;
                at + 1
            }
            (State::Start, b'[' | b'"' | b't' | b'f' | b'-' | b'0'..=b'9') => {
                self.stop(State::Refused)
            }
            _ => self.fail(),
        }
    }

    fn open<H: Handler>(&mut self, container: Container, at: usize, handler: &mut H) -> usize {
        if !self.nesting.push(container) {
            return self.fail();
        }
        handler.open(container);
        self.state = match container {
            Container::Object => State::FirstKey,
            Container::Array => State::FirstValue,
        };
        at + 1
    }

    fn close<H: Handler>(&mut self, at: usize, handler: &mut H) -> usize {
        self.nesting.pop();
        if self.nesting.depth() == 0 {
            self.state = State::End;
        } else {
            handler.close();
            self.state = State::AfterValue;
        }
        at + 1
    }

    fn string<H: Handler>(&mut self, piece: &[u8], mut at: usize, handler: &mut H) -> usize {
        while at < piece.len() {
            // Escapes stand side by side in text that was written as ASCII.
            if piece[at] == b'\\' {
                at = self.escape(piece, at + 1, handler);
                if self.state != State::String {
                    return at;
                }
                continue;
            }
            let window = &piece[at..piece.len().min(at + WINDOW)];
            let run = &window[..memchr2(b'"', b'\\', window).unwrap_or(window.len())];
            // What stands before a byte that may not is still text of it: pieces must not change what was found.
            let broken = has_control(run);
            let run = if broken { before_control(run) } else { run };
            if !run.is_empty() && self.wanted {
                self.interrupt(handler);
                handler.text(run, self.in_key);
            }
            if broken {
                return self.fail();
            }
            at += run.len();
            // Else an escape follows, or the window or the piece ended inside the string.
            if piece.get(at) == Some(&b'"') {
                at += 1;
                if self.wanted {
                    self.interrupt(handler);
                }
                if self.in_key {
                    handler.end_key();
                    self.state = State::Colon;
                } else {
                    handler.end_string(self.offset + at);
                    self.state = State::AfterValue;
                }
                return at;
            }
        }
        at
    }

    /// `at` is the byte after the backslash, or the end of the piece.
    fn escape<H: Handler>(&mut self, piece: &[u8], at: usize, handler: &mut H) -> usize {
        let Some(&code) = piece.get(at) else {
            self.state = State::Escape;
            return at;
        };
        if code == b'u' {
            let Some(digits) = piece[at + 1..].first_chunk() else {
                self.hex = (0, 0);
                self.state = State::Hex;
                return at + 1;
            };
            let Some(unit) = hex_unit(*digits) else {
                return self.fail();
            };
            self.unit(unit, handler);
            return at + 5;
        }
        match SIMPLE_ESCAPES[usize::from(code)] {
            0 => self.fail(),
            byte => {
                if self.wanted {
                    self.interrupt(handler);
                    handler.text(&[byte], self.in_key);
                }
                at + 1
            }
        }
    }

    fn hex<H: Handler>(&mut self, byte: u8, handler: &mut H, at: usize) -> usize {
        let Some(digit) = hex_digit(byte) else {
            return self.fail();
        };
        self.hex = (self.hex.0 + 1, self.hex.1 << 4 | digit);
        if self.hex.0 == 4 {
            self.state = State::String;
            self.unit(self.hex.1, handler);
        }
        at + 1
    }

    fn unit<H: Handler>(&mut self, unit: u16, handler: &mut H) {
        if self.wanted {
            for character in self.utf16.unit(unit).into_iter().flatten() {
                handler.text(character.encode_utf8(&mut [0; 4]).as_bytes(), self.in_key);
            }
        }
    }

    fn interrupt<H: Handler>(&mut self, handler: &mut H) {
        if let Some(character) = self.utf16.interrupt() {
            handler.text(character.encode_utf8(&mut [0; 4]).as_bytes(), self.in_key);
        }
    }

    fn begin_number<H: Handler>(&mut self, piece: &[u8], mut at: usize, handler: &mut H) -> usize {
        // Nearly all numbers are short integers that end in this piece, most of them in lists of token ids.
        loop {
            let rest = &piece[at..];
            let (digits, value) = leading_integer(rest);
            let after = rest.get(digits).copied().unwrap_or_default();
            let ends = matches!(after, b',' | b']' | b'}' | b' ' | b'\n');
            if digits == 0 || !ends || (digits > 1 && rest[0] == b'0') {
                self.number = Number::new();
                self.state = State::Number;
                return at;
            }
            handler.number(&rest[..digits], Some(value));
            at += digits;
            let next = at + 1 + usize::from(piece.get(at + 1) == Some(&b' '));
            let more = piece.get(next).is_some_and(u8::is_ascii_digit);
            if after != b',' || !more || self.nesting.top() != Some(Container::Array) {
                self.state = State::AfterValue;
                return at;
            }
            at = next;
        }
    }

    fn number<H: Handler>(&mut self, piece: &[u8], mut at: usize, handler: &mut H) -> usize {
        while let Some(&byte) = piece.get(at) {
            match self.number.step(byte) {
                Step::More => at += 1,
                Step::Ended => {
                    if self.number.overflows() {
                        return self.stop(State::Refused);
                    }
                    handler.number(self.number.text(), None);
                    self.state = State::AfterValue;
                    return at;
                }
                Step::Broken => return self.fail(),
            }
        }
        at
    }

    fn begin_literal(&mut self, rest: &'static [u8], literal: Literal, at: usize) -> usize {
        self.literal = (rest, literal);
        self.state = State::Literal;
        at + 1
    }

    fn literal<H: Handler>(&mut self, piece: &[u8], mut at: usize, handler: &mut H) -> usize {
        while let Some((expected, rest)) = self.literal.0.split_first() {
            match piece.get(at) {
                None => return at,
                Some(byte) if byte == expected => {
                    self.literal.0 = rest;
                    at += 1;
                }
                Some(_) => return self.fail(),
            }
        }
        if self.nesting.depth() == 0 {
            self.state = State::End;
        } else {
            handler.literal(self.literal.1);
            self.state = State::AfterValue;
        }
        at
    }
}

/// Length and value of the digits at the start, of the first 19 at most.
fn leading_integer(bytes: &[u8]) -> (usize, u64) {
    let mut value = 0;
    let mut length = 0;
    for byte in bytes.iter().take(19) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u64::from(digit);
        length += 1;
    }
    (length, value)
}
