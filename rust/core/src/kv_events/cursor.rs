//! Reads `MessagePack` without believing it: no length is trusted beyond the bytes that are there, nothing recurses, nothing is allocated.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

/// The bytes are no `MessagePack`, end too early, or are not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the next value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Nil,
    Integer,
    Text,
    Bytes,
    Array,
    Map,
    Other,
}

/// A place in a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn shape(&self) -> Result<Shape, Malformed> {
        Ok(match self.rest.first().ok_or(Malformed)? {
            0xc0 => Shape::Nil,
            0x00..=0x7f | 0xe0..=0xff | 0xcc..=0xd3 => Shape::Integer,
            0xa0..=0xbf | 0xd9..=0xdb => Shape::Text,
            0xc4..=0xc6 => Shape::Bytes,
            0x90..=0x9f | 0xdc | 0xdd => Shape::Array,
            0x80..=0x8f | 0xde | 0xdf => Shape::Map,
            0xc1 => return Err(Malformed),
            _ => Shape::Other,
        })
    }

    /// True, and past it, when the next value is nil.
    pub(super) fn nil(&mut self) -> bool {
        let nil = self.rest.first() == Some(&0xc0);
        if nil {
            self.rest = &self.rest[1..];
        }
        nil
    }

    /// An integer of any width; those below zero as their two's complement of 64 bits, and told apart.
    pub(super) fn integer(&mut self) -> Result<(u64, bool), Malformed> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => (u64::from(marker), false),
            0xe0..=0xff => signed(i64::from(marker.cast_signed())),
            0xcc => (u64::from(self.byte()?), false),
            0xcd => (u64::from(u16::from_be_bytes(self.fixed()?)), false),
            0xce => (u64::from(u32::from_be_bytes(self.fixed()?)), false),
            0xcf => (u64::from_be_bytes(self.fixed()?), false),
            0xd0 => signed(i64::from(self.byte()?.cast_signed())),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.fixed()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.fixed()?))),
            0xd3 => signed(i64::from_be_bytes(self.fixed()?)),
            _ => return Err(Malformed),
        })
    }

    /// An integer that is not below zero and fits.
    pub(super) fn unsigned(&mut self) -> Result<u64, Malformed> {
        match self.integer()? {
            (value, false) => Ok(value),
            (_, true) => Err(Malformed),
        }
    }

    /// Token ids, so many of them. A pair counts as its first: `SGLang` with speculative decoding names each token together with the next one.
    pub(super) fn tokens(&mut self, count: usize, out: &mut Vec<u32>) -> Result<(), Malformed> {
        // Most of an engine's messages is token ids, so their common forms are read without looking twice.
        let mut rest = self.rest;
        for _ in 0..count {
            let token = match rest {
                [0xcd, high, low, next @ ..] => {
                    rest = next;
                    u32::from(u16::from_be_bytes([*high, *low]))
                }
                [0xce, a, b, c, d, next @ ..] => {
                    rest = next;
                    u32::from_be_bytes([*a, *b, *c, *d])
                }
                [small @ 0x00..=0x7f, next @ ..] => {
                    rest = next;
                    u32::from(*small)
                }
                _ => {
                    let mut cursor = Cursor { rest };
                    let token = cursor.token_or_pair()?;
                    rest = cursor.rest;
                    token
                }
            };
            out.push(token);
        }
        self.rest = rest;
        Ok(())
    }

    fn token_or_pair(&mut self) -> Result<u32, Malformed> {
        if self.shape()? != Shape::Array {
            return self.token();
        }
        if self.array()? != 2 {
            return Err(Malformed);
        }
        let first = self.token()?;
        self.token()?;
        Ok(first)
    }

    fn token(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.unsigned()?).map_err(|_| Malformed)
    }

    /// A text, as it is written.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = match self.byte()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => usize::from(self.byte()?),
            0xda => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xdb => self.length32()?,
            _ => return Err(Malformed),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    /// A byte string.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = match self.byte()? {
            0xc4 => usize::from(self.byte()?),
            0xc5 => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xc6 => self.length32()?,
            _ => return Err(Malformed),
        };
        self.take(length)
    }

    /// How many values an array has; never more than bytes are left.
    pub(super) fn array(&mut self) -> Result<usize, Malformed> {
        let length = match self.byte()? {
            marker @ 0x90..=0x9f => usize::from(marker & 0x0f),
            0xdc => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xdd => self.length32()?,
            _ => return Err(Malformed),
        };
        self.fits(length, 1)
    }

    /// How many pairs a map has; never more than half the bytes that are left.
    pub(super) fn map(&mut self) -> Result<usize, Malformed> {
        let length = match self.byte()? {
            marker @ 0x80..=0x8f => usize::from(marker & 0x0f),
            0xde => usize::from(u16::from_be_bytes(self.fixed()?)),
            0xdf => self.length32()?,
            _ => return Err(Malformed),
        };
        self.fits(length, 2)
    }

    /// Past one value, whatever it is and however deep.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        // A counter instead of a stack: depth costs nothing, and what is owed can never pass what is left.
        let mut owed = 1_usize;
        while owed > 0 {
            owed -= 1;
            match self.shape()? {
                Shape::Array => owed += self.array()?,
                Shape::Map => owed += 2 * self.map()?,
                Shape::Text | Shape::Bytes => self.skip_bytes()?,
                Shape::Integer => drop(self.integer()?),
                Shape::Nil | Shape::Other => self.skip_other()?,
            }
            if owed > self.left() {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    fn skip_bytes(&mut self) -> Result<(), Malformed> {
        let length = match self.byte()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xc4 | 0xd9 => usize::from(self.byte()?),
            0xc5 | 0xda => usize::from(u16::from_be_bytes(self.fixed()?)),
            _ => self.length32()?,
        };
        self.take(length).map(drop)
    }

    /// Nil, booleans, floats and extensions.
    fn skip_other(&mut self) -> Result<(), Malformed> {
        let length = match self.byte()? {
            0xc0 | 0xc2 | 0xc3 => 0,
            0xca => 4,
            0xcb => 8,
            0xc7 => 1 + usize::from(self.byte()?),
            0xc8 => 1 + usize::from(u16::from_be_bytes(self.fixed()?)),
            0xc9 => self.length32()?.checked_add(1).ok_or(Malformed)?,
            marker @ 0xd4..=0xd8 => 1 + (1 << (marker - 0xd4)),
            _ => return Err(Malformed),
        };
        self.take(length).map(drop)
    }

    fn fits(&self, length: usize, bytes_each: usize) -> Result<usize, Malformed> {
        let least = length.checked_mul(bytes_each).ok_or(Malformed)?;
        (least <= self.left()).then_some(length).ok_or(Malformed)
    }

    fn length32(&mut self) -> Result<usize, Malformed> {
        usize::try_from(u32::from_be_bytes(self.fixed()?)).map_err(|_| Malformed)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }
}

fn signed(value: i64) -> (u64, bool) {
    (value.cast_unsigned(), value < 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_are_read() {
        let cases: [(&[u8], u64, bool); 10] = [
            (&[0x7f], 127, false),
            (&[0xff], u64::MAX, true),
            (&[0xcc, 200], 200, false),
            (&[0xcd, 1, 0], 256, false),
            (&[0xce, 0, 1, 0, 0], 65_536, false),
            (
                &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255],
                u64::MAX,
                false,
            ),
            (&[0xd0, 0x80], 128_u64.wrapping_neg(), true),
            (&[0xd1, 0xff, 0x00], 256_u64.wrapping_neg(), true),
            (&[0xd2, 0, 0, 1, 0], 256, false),
            (
                &[0xd3, 255, 255, 255, 255, 255, 255, 255, 254],
                u64::MAX - 1,
                true,
            ),
        ];
        for (bytes, value, negative) in cases {
            assert_eq!(
                Cursor::new(bytes).integer(),
                Ok((value, negative)),
                "{bytes:x?}"
            );
            for end in 0..bytes.len() {
                assert_eq!(
                    Cursor::new(&bytes[..end]).integer(),
                    Err(Malformed),
                    "{bytes:x?} cut at {end}"
                );
            }
        }
    }

    #[test]
    fn declared_lengths_beyond_the_bytes_are_refused_and_depth_costs_nothing() {
        let huge: [&[u8]; 8] = [
            &[0xdd, 255, 255, 255, 255],
            &[0xdf, 255, 255, 255, 255],
            &[0xdb, 255, 255, 255, 255, b'a'],
            &[0xc6, 255, 255, 255, 255, 0],
            &[0xc9, 255, 255, 255, 255, 0],
            &[0x92, 0xc0],
            &[0x81, 0xc0],
            &[0xc1],
        ];
        for bytes in huge {
            assert_eq!(Cursor::new(bytes).skip(), Err(Malformed), "{bytes:x?}");
        }
        let mut deep = vec![0x91; 1 << 20];
        deep.push(0xc0);
        let mut cursor = Cursor::new(&deep);
        assert_eq!((cursor.skip(), cursor.left()), (Ok(()), 0));
    }

    #[test]
    fn every_kind_of_value_is_skipped_whole() {
        let values: [&[u8]; 14] = [
            &[0xc0],
            &[0xc3],
            &[0xca, 0, 0, 0, 0],
            &[0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xa2, b'h', b'i'],
            &[0xd9, 1, b'a'],
            &[0xda, 0, 1, b'a'],
            &[0xdb, 0, 0, 0, 1, b'a'],
            &[0xc4, 1, 9],
            &[0xc7, 1, 5, 9],
            &[0xd5, 5, 9, 9],
            &[
                0xd8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
            ],
            &[0x92, 0x91, 0x01, 0x82, 0xa1, b'a', 0x01, 0xc0, 0x90],
            &[0xde, 0, 1, 0x01, 0xdc, 0, 1, 0xc2],
        ];
        for bytes in values {
            let followed = [bytes, &[0x2a]].concat();
            let mut cursor = Cursor::new(&followed);
            assert_eq!(cursor.skip(), Ok(()), "{bytes:x?}");
            assert_eq!(cursor.integer(), Ok((42, false)), "{bytes:x?}");
            for end in 0..bytes.len() {
                assert_eq!(
                    Cursor::new(&bytes[..end]).skip(),
                    Err(Malformed),
                    "{bytes:x?} cut at {end}"
                );
            }
        }
    }
}
