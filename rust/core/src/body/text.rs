//! What is inside a JSON string: escapes, control characters, and UTF-16 halves.

/// By the byte after a backslash: the byte that a simple escape stands for, 0 where there is none.
pub(super) const SIMPLE_ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'b' as usize] = 0x08;
    table[b'f' as usize] = 0x0c;
    table[b'n' as usize] = b'\n';
    table[b'r' as usize] = b'\r';
    table[b't' as usize] = b'\t';
    table
};

/// Whether a run of string bytes holds one that must be escaped. A plain minimum: the compiler makes vectors of it.
pub(super) fn has_control(run: &[u8]) -> bool {
    run.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20
}

/// The part of a run before the first byte that must be escaped.
pub(super) fn before_control(run: &[u8]) -> &[u8] {
    run.split(|byte| *byte < 0x20).next().unwrap_or_default()
}

/// By byte: the value of the hexadecimal digit, 0xff for what is none.
const HEX_DIGITS: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Value of a hexadecimal digit.
pub(super) fn hex_digit(byte: u8) -> Option<u16> {
    let value = HEX_DIGITS[usize::from(byte)];
    (value < 16).then_some(u16::from(value))
}

/// Value of four hexadecimal digits.
pub(super) fn hex_unit(digits: [u8; 4]) -> Option<u16> {
    let [a, b, c, d] = digits.map(|digit| u16::from(HEX_DIGITS[usize::from(digit)]));
    (a | b | c | d < 16).then_some(a << 12 | b << 8 | c << 4 | d)
}

/// Turns `\u` escapes, one UTF-16 unit at a time, into characters; a lone half becomes U+FFFD, as in Go.
#[derive(Debug, Default)]
pub(super) struct Utf16 {
    /// A high half that waits for its low one; 0: none.
    high: u16,
}

impl Utf16 {
    /// Adds a unit; gives up to two characters to write.
    pub(super) fn unit(&mut self, unit: u16) -> [Option<char>; 2] {
        let high = std::mem::take(&mut self.high);
        match unit {
            0xd800..0xdc00 => {
                self.high = unit;
                [(high != 0).then_some(char::REPLACEMENT_CHARACTER), None]
            }
            0xdc00..0xe000 if high != 0 => {
                let code = 0x1_0000 + (u32::from(high - 0xd800) << 10) + u32::from(unit - 0xdc00);
                [char::from_u32(code), None]
            }
            _ => [
                (high != 0).then_some(char::REPLACEMENT_CHARACTER),
                Some(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            ],
        }
    }

    /// Something else than a `\u` follows: gives the replacement of a half that waited.
    pub(super) fn interrupt(&mut self) -> Option<char> {
        (std::mem::take(&mut self.high) != 0).then_some(char::REPLACEMENT_CHARACTER)
    }
}

/// Text of a decoded string as Go has it: each byte that is not UTF-8 becomes U+FFFD.
pub(super) fn lossy(bytes: &[u8]) -> Box<str> {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        text.push_str(part.valid());
        text.extend(part.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into_boxed_str()
}
