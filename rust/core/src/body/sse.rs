//! Server-sent events, as far as model servers use them: one `data:` line is one event, whatever the chunks it came in.

use memchr::memchr2;

/// What a stream of events holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// More of the data of this line.
    Data(&'a [u8]),
    /// The `data:` line ended.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` matched.
    Name(usize),
    /// One space after the colon belongs to the framing.
    AfterColon,
    Data,
    Other,
}

const NAME: &[u8] = b"data:";

/// Finds the data lines; keeps no bytes.
#[derive(Debug)]
pub(super) struct Lines {
    line: Line,
}

impl Lines {
    /// Before a stream.
    pub(super) fn new() -> Self {
        Self {
            line: Line::Name(0),
        }
    }

    /// Reads the next piece.
    pub(super) fn feed(&mut self, piece: &[u8], mut take: impl FnMut(Event<'_>)) {
        let mut at = 0;
        while at < piece.len() {
            let byte = piece[at];
            match self.line {
                Line::Name(_) if matches!(byte, b'\n' | b'\r') => {
                    self.line = Line::Name(0);
                    at += 1;
                }
                Line::Name(matched) => {
                    self.line = if byte != NAME[matched] {
                        Line::Other
                    } else if matched + 1 == NAME.len() {
                        Line::AfterColon
                    } else {
                        Line::Name(matched + 1)
                    };
                    at += 1;
                }
                Line::AfterColon => {
                    self.line = Line::Data;
                    at += usize::from(byte == b' ');
                }
                Line::Data | Line::Other => {
                    let rest = &piece[at..];
                    let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    let of_data = self.line == Line::Data;
                    if of_data && length > 0 {
                        take(Event::Data(&rest[..length]));
                    }
                    at += length;
                    if at < piece.len() {
                        if of_data {
                            take(Event::End);
                        }
                        self.line = Line::Name(0);
                        at += 1;
                    }
                }
            }
        }
    }
}
