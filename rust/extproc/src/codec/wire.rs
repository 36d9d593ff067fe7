//! The protobuf wire format: tags, varints, lengths. Nothing here knows a message.
//!
//! Source: the protobuf encoding document (wire types 0 varint, 1 64-bit, 2 length-delimited, 3/4 group, 5 32-bit).

use std::ops::Range;

use bytes::{BufMut, Bytes};

use super::DecodeError;

/// Groups inside unknown fields deeper than this are refused (the official parsers' limit), so a skip cannot run without a bound.
const MAX_GROUP_DEPTH: usize = 100;

/// The value of one field as far as the wire tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: where its bytes lie in the frame.
    Delimited(Range<usize>),
    /// A fixed-width value or a group. No field of the subset has one, so it was skipped.
    Skipped,
}

/// Walks the fields of one message that lies in `range` of `frame`.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    frame: &'a Bytes,
    position: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a whole frame.
    pub(super) fn of_frame(frame: &'a Bytes) -> Self {
        Self {
            frame,
            position: 0,
            end: frame.len(),
        }
    }

    /// The fields of a message nested in `frame`; `range` comes from [`Wire::Delimited`] and so lies inside it.
    pub(super) fn of(frame: &'a Bytes, range: Range<usize>) -> Self {
        Self {
            frame,
            position: range.start,
            end: range.end,
        }
    }

    /// The next field as (number, value); `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire)>, DecodeError> {
        if self.position == self.end {
            return Ok(None);
        }
        let (field, wire_type) = self.tag()?;
        Ok(Some((field, self.value(field, wire_type)?)))
    }

    fn value(&mut self, field: u32, wire_type: u8) -> Result<Wire, DecodeError> {
        match wire_type {
            0 => Ok(Wire::Varint(self.varint()?)),
            1 => self.skip(8).map(|()| Wire::Skipped),
            2 => Ok(Wire::Delimited(self.delimited()?)),
            3 => self.skip_group(field).map(|()| Wire::Skipped),
            5 => self.skip(4).map(|()| Wire::Skipped),
            _ => Err(DecodeError::InvalidTag {
                offset: self.position,
            }),
        }
    }

    fn tag(&mut self) -> Result<(u32, u8), DecodeError> {
        let offset = self.position;
        let tag = u32::try_from(self.varint()?).map_err(|_| DecodeError::InvalidTag { offset })?;
        if tag >> 3 == 0 {
            return Err(DecodeError::InvalidTag { offset });
        }
        Ok((tag >> 3, (tag & 7) as u8))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let bytes = &self.frame[self.position..self.end];
        // Nearly all tags and lengths of a header map fit one byte.
        if let Some(&first) = bytes.first()
            && first < 0x80
        {
            self.position += 1;
            return Ok(u64::from(first));
        }
        let mut value = 0_u64;
        for (index, &byte) in bytes.iter().enumerate().take(10) {
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.position += index + 1;
                return Ok(value);
            }
        }
        if bytes.len() < 10 {
            Err(DecodeError::Truncated { offset: self.end })
        } else {
            Err(DecodeError::VarintTooLong {
                offset: self.position,
            })
        }
    }

    fn delimited(&mut self) -> Result<Range<usize>, DecodeError> {
        let length = self.varint()?;
        let start = self.position;
        let length =
            usize::try_from(length).map_err(|_| DecodeError::Truncated { offset: start })?;
        self.skip(length)?;
        Ok(start..self.position)
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        if count > self.end - self.position {
            return Err(DecodeError::Truncated {
                offset: self.position,
            });
        }
        self.position += count;
        Ok(())
    }

    fn skip_group(&mut self, field: u32) -> Result<(), DecodeError> {
        let mut open = vec![field];
        while let Some(&innermost) = open.last() {
            let offset = self.position;
            let (number, wire_type) = self.tag()?;
            match wire_type {
                3 if open.len() == MAX_GROUP_DEPTH => {
                    return Err(DecodeError::InvalidTag { offset });
                }
                3 => open.push(number),
                4 if number == innermost => {
                    open.pop();
                }
                _ => {
                    self.value(number, wire_type)?;
                }
            }
        }
        Ok(())
    }
}

/// How many bytes `value` takes as a varint.
pub(super) fn varint_length(value: u64) -> usize {
    // ceil(bits / 7), where zero takes one byte.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// How many bytes a length-delimited field of the subset (numbers below 16, so a one-byte tag) takes with `length` bytes inside.
pub(super) fn delimited_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

/// Writes a varint.
pub(super) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a varint field; `field` is below 16.
pub(super) fn put_varint_field(out: &mut impl BufMut, field: u8, value: u64) {
    out.put_u8(field << 3);
    put_varint(out, value);
}

/// Writes the tag and the length of a length-delimited field; `field` is below 16 and `length` bytes must follow.
pub(super) fn put_delimited_start(out: &mut impl BufMut, field: u8, length: usize) {
    out.put_u8((field << 3) | 2);
    put_varint(out, length as u64);
}

/// Writes a length-delimited field; `field` is below 16.
pub(super) fn put_delimited(out: &mut impl BufMut, field: u8, bytes: &[u8]) {
    put_delimited_start(out, field, bytes.len());
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(frame: &[u8]) -> Result<Vec<(u32, Wire)>, DecodeError> {
        let frame = Bytes::copy_from_slice(frame);
        let mut fields = Fields::of_frame(&frame);
        let mut found = Vec::new();
        while let Some(field) = fields.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn fixed_width_fields_and_nested_groups_are_skipped() {
        let frame = [
            0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1b, 0x23, 0x08, 0x01, 0x24, 0x1c,
            0x28, 0x05,
        ];
        assert_eq!(
            fields(&frame),
            Ok(vec![
                (1, Wire::Skipped),
                (2, Wire::Skipped),
                (3, Wire::Skipped),
                (5, Wire::Varint(5))
            ])
        );
    }

    #[test]
    fn an_unfinished_group_is_truncated_and_a_wrong_end_is_an_invalid_tag() {
        assert_eq!(fields(&[0x1b]), Err(DecodeError::Truncated { offset: 1 }));
        assert!(matches!(
            fields(&[0x1b, 0x24]),
            Err(DecodeError::InvalidTag { .. })
        ));
        assert!(matches!(
            fields(&[0x1c]),
            Err(DecodeError::InvalidTag { .. })
        ));
    }

    #[test]
    fn groups_nested_without_end_are_refused() {
        assert!(matches!(
            fields(&[0x1b; 4096]),
            Err(DecodeError::InvalidTag { .. })
        ));
    }

    #[test]
    fn a_length_beyond_the_frame_is_truncated() {
        assert_eq!(
            fields(&[0x0a, 0x05, 1, 2]),
            Err(DecodeError::Truncated { offset: 2 })
        );
        assert!(matches!(
            fields(&[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
            ]),
            Err(DecodeError::Truncated { .. })
        ));
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        assert_eq!(
            fields(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
            Err(DecodeError::VarintTooLong { offset: 1 })
        );
    }

    #[test]
    fn field_number_zero_is_an_invalid_tag() {
        assert_eq!(
            fields(&[0x00, 0x00]),
            Err(DecodeError::InvalidTag { offset: 0 })
        );
    }

    proptest! {
        #[test]
        fn a_varint_survives_the_round_trip_and_its_length_is_known(value: u64) {
            let mut frame = Vec::new();
            put_varint_field(&mut frame, 7, value);
            prop_assert_eq!(frame.len(), 1 + varint_length(value));
            prop_assert_eq!(fields(&frame), Ok(vec![(7, Wire::Varint(value))]));
        }

        #[test]
        fn arbitrary_bytes_end_without_a_panic(frame: Vec<u8>) {
            let _ = fields(&frame);
        }
    }
}
