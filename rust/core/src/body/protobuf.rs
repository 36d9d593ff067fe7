//! An incremental reader of the protobuf wire format: one pass, resumable at any byte, nothing kept.
//!
//! Source: the protobuf encoding document (wire types 0 varint, 1 64-bit, 2 length-delimited, 3/4 group, 5 32-bit). As in the
//! official parsers, a field whose wire type is not that of the schema is an unknown one and skipped.

use smallvec::SmallVec;

/// Groups inside each other; the official parsers' limit.
const MAX_GROUP_DEPTH: usize = 100;

/// How a length-delimited field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// As a message.
    Message,
    /// As a string or bytes, handed on in runs.
    Bytes,
    /// As packed varints.
    Varints,
    /// Not at all.
    Skipped,
}

/// Takes the fields of one message and of those inside it, in document order. `within` is the number of the field that holds the
/// message around this field, [`OUTER`] for the outermost one: no schema here needs a longer path.
pub(super) trait Fields {
    /// A length-delimited field begins.
    fn begin(&mut self, within: u32, field: u32) -> Content;
    /// More of a field that is read as bytes; never empty.
    fn bytes(&mut self, run: &[u8]);
    /// A varint, alone or packed.
    fn varint(&mut self, within: u32, field: u32, value: u64);
    /// A field that is read as bytes or as a message ended.
    fn end(&mut self, within: u32, field: u32);
}

/// No field: where the outermost message lies.
pub(super) const OUTER: u32 = 0;

/// Why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFault {
    /// Where, in bytes from the beginning of the message.
    pub offset: u64,
    /// What is wrong there.
    pub kind: WireFaultKind,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFaultKind {
    /// A field number or wire type that does not exist, or the end of a group that is not open.
    Tag,
    /// A varint of more than 64 bits.
    Varint,
    /// A field that reaches beyond the end of what it is in.
    Truncated,
}

impl std::fmt::Display for WireFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            WireFaultKind::Tag => "no valid field tag",
            WireFaultKind::Varint => "a varint of more than 64 bits",
            WireFaultKind::Truncated => "a field that reaches beyond the end of its message",
        };
        write!(
            formatter,
            "invalid protobuf wire format: {what} at byte {}",
            self.offset
        )
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Tag,
    /// A varint field's value.
    Value(u32),
    /// A length-delimited field's length.
    Length(u32),
    /// Nothing of interest, up to this offset.
    Skipped(u64),
    /// The bytes of a field, up to this offset.
    Bytes(u32, u64),
    /// Packed varints, up to this offset.
    Varints(u32, u64),
}

/// The reader of one message.
#[derive(Debug)]
pub(super) struct Protobuf {
    state: State,
    /// Bytes read.
    offset: u64,
    /// The varint being read: its value so far, and its bytes.
    value: u64,
    value_bytes: u32,
    /// Length of the outermost message.
    length: u64,
    /// Field number and end of each message inside it.
    messages: SmallVec<[(u32, u64); 2]>,
    /// Field numbers of the open groups, in which nothing is of interest.
    groups: SmallVec<[u32; 4]>,
}

impl Protobuf {
    /// Before a message of `length` bytes.
    pub(super) fn new(length: u32) -> Self {
        Self {
            state: State::Tag,
            offset: 0,
            value: 0,
            value_bytes: 0,
            length: u64::from(length),
            messages: SmallVec::new(),
            groups: SmallVec::new(),
        }
    }

    /// Reads the next run of the message; runs together are no longer than the message.
    pub(super) fn feed(
        &mut self,
        mut run: &[u8],
        fields: &mut impl Fields,
    ) -> Result<(), WireFault> {
        while !run.is_empty() {
            match self.state {
                State::Skipped(until) => {
                    self.advance(&mut run, until);
                    if self.offset == until {
                        self.state = State::Tag;
                    }
                }
                State::Bytes(field, until) => {
                    fields.bytes(self.advance(&mut run, until));
                    if self.offset == until {
                        fields.end(self.within(), field);
                        self.state = State::Tag;
                    }
                }
                State::Varints(field, until) => {
                    let (within, start) = (self.within(), self.offset);
                    for (index, byte) in self.advance(&mut run, until).iter().enumerate() {
                        let value = self.varint(*byte).map_err(|fault| WireFault {
                            offset: start + index as u64 + 1,
                            ..fault
                        })?;
                        if let Some(value) = value {
                            fields.varint(within, field, value);
                        }
                    }
                    if self.offset == until {
                        if self.value_bytes > 0 {
                            return Err(self.fault(WireFaultKind::Truncated));
                        }
                        self.state = State::Tag;
                    }
                }
                State::Tag | State::Value(_) | State::Length(_) => {
                    let byte = run[0];
                    run = &run[1..];
                    if self.offset == self.end() {
                        return Err(self.fault(WireFaultKind::Truncated));
                    }
                    self.offset += 1;
                    if let Some(value) = self.varint(byte)? {
                        self.read(value, fields)?;
                    }
                }
            }
            self.close_messages(fields);
        }
        Ok(())
    }

    /// The message ended.
    pub(super) fn finish(&self) -> Result<(), WireFault> {
        if self.state == State::Tag && self.value_bytes == 0 && self.groups.is_empty() {
            Ok(())
        } else {
            Err(self.fault(WireFaultKind::Truncated))
        }
    }

    /// A whole varint was read: a tag, a length or a value.
    fn read(&mut self, value: u64, fields: &mut impl Fields) -> Result<(), WireFault> {
        match self.state {
            State::Tag => self.state = self.tag(value)?,
            State::Value(field) => {
                if self.groups.is_empty() {
                    fields.varint(self.within(), field, value);
                }
                self.state = State::Tag;
            }
            State::Length(field) => {
                let until = self
                    .offset
                    .checked_add(value)
                    .filter(|until| *until <= self.end())
                    .ok_or_else(|| self.fault(WireFaultKind::Truncated))?;
                self.state = self.delimited(field, until, fields);
            }
            State::Skipped(_) | State::Bytes(..) | State::Varints(..) => {}
        }
        Ok(())
    }

    fn tag(&mut self, tag: u64) -> Result<State, WireFault> {
        let invalid = self.fault(WireFaultKind::Tag);
        let field = u32::try_from(tag >> 3)
            .ok()
            .filter(|field| (1..1 << 29).contains(field))
            .ok_or(invalid)?;
        match tag & 7 {
            0 => Ok(State::Value(field)),
            1 => self.fixed(8),
            2 => Ok(State::Length(field)),
            3 if self.groups.len() < MAX_GROUP_DEPTH => {
                self.groups.push(field);
                Ok(State::Tag)
            }
            4 if self.groups.pop() == Some(field) => Ok(State::Tag),
            5 => self.fixed(4),
            _ => Err(invalid),
        }
    }

    fn fixed(&self, bytes: u64) -> Result<State, WireFault> {
        let until = self.offset + bytes;
        if until <= self.end() {
            Ok(State::Skipped(until))
        } else {
            Err(self.fault(WireFaultKind::Truncated))
        }
    }

    fn delimited(&mut self, field: u32, until: u64, fields: &mut impl Fields) -> State {
        let within = self.within();
        let content = if self.groups.is_empty() {
            fields.begin(within, field)
        } else {
            Content::Skipped
        };
        match content {
            Content::Message => {
                self.messages.push((field, until));
                State::Tag
            }
            Content::Bytes if until == self.offset => {
                fields.end(within, field);
                State::Tag
            }
            Content::Bytes => State::Bytes(field, until),
            Content::Varints if until > self.offset => State::Varints(field, until),
            Content::Skipped if until > self.offset => State::Skipped(until),
            Content::Varints | Content::Skipped => State::Tag,
        }
    }

    /// Takes off the messages that end here; one that ends within a field or a group is told by the next byte, or by `finish`.
    fn close_messages(&mut self, fields: &mut impl Fields) {
        while self.state == State::Tag
            && self.value_bytes == 0
            && self.groups.is_empty()
            && let Some(&(field, until)) = self.messages.last()
            && until == self.offset
        {
            self.messages.pop();
            fields.end(self.within(), field);
        }
    }

    /// One more byte of a varint; its value when it was the last.
    fn varint(&mut self, byte: u8) -> Result<Option<u64>, WireFault> {
        // Nine bytes hold 63 bits: of a tenth only the lowest bit is left.
        if self.value_bytes == 9 && byte > 1 {
            return Err(self.fault(WireFaultKind::Varint));
        }
        self.value |= u64::from(byte & 0x7f) << (7 * self.value_bytes);
        self.value_bytes += 1;
        if byte >= 0x80 {
            return Ok(None);
        }
        self.value_bytes = 0;
        Ok(Some(std::mem::take(&mut self.value)))
    }

    /// The part of `run` before offset `until`, which is taken off it.
    fn advance<'a>(&mut self, run: &mut &'a [u8], until: u64) -> &'a [u8] {
        let length =
            usize::try_from(until - self.offset).map_or(run.len(), |most| most.min(run.len()));
        let (taken, rest) = run.split_at(length);
        *run = rest;
        self.offset += length as u64;
        taken
    }

    fn within(&self) -> u32 {
        self.messages.last().map_or(OUTER, |(field, _)| *field)
    }

    fn end(&self) -> u64 {
        self.messages
            .last()
            .map_or(self.length, |(_, until)| *until)
    }

    fn fault(&self, kind: WireFaultKind) -> WireFault {
        WireFault {
            offset: self.offset,
            kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads field 1 as a message, 2 as bytes, 3 as varints; writes down what it is told.
    #[derive(Debug, Default, PartialEq)]
    struct Log(Vec<String>);

    impl Fields for Log {
        fn begin(&mut self, within: u32, field: u32) -> Content {
            self.0.push(format!("{within}.{field}<"));
            match field {
                1 => Content::Message,
                2 => Content::Bytes,
                3 => Content::Varints,
                _ => Content::Skipped,
            }
        }

        fn bytes(&mut self, run: &[u8]) {
            // One entry a byte, so that runs do not show.
            self.0.extend(run.iter().map(|byte| format!("{byte}")));
        }

        fn varint(&mut self, within: u32, field: u32, value: u64) {
            self.0.push(format!("{within}.{field}={value}"));
        }

        fn end(&mut self, within: u32, field: u32) {
            self.0.push(format!("{within}.{field}>"));
        }
    }

    fn read(pieces: &[&[u8]]) -> Result<Log, WireFault> {
        let mut log = Log::default();
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut reader = Protobuf::new(length as u32);
        for piece in pieces {
            reader.feed(piece, &mut log)?;
        }
        reader.finish()?;
        Ok(log)
    }

    fn whole_and_parted(message: &[u8]) -> Result<Log, WireFault> {
        let whole = read(&[message]);
        for cut in 0..message.len() {
            assert_eq!(
                read(&[&message[..cut], &message[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
        assert_eq!(read(&message.chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    #[test]
    fn fields_come_in_order_wherever_the_message_is_parted() {
        let message = [
            &[0x08, 0x96, 0x01][..],                           // 1 = 150 (a varint)
            &[0x0a, 0x08, 0x12, 2, 9, 8, 0x1a, 2, 0x80, 0x01], // 1 { 2: bytes, 3: packed 128 }
            &[0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8], // fixed-width fields
            &[0x23, 0x08, 0x01, 0x0a, 1, 9, 0x2b, 0x2c, 0x24], // group 4 with fields and a group
            &[0x12, 0, 0x1a, 0, 0x22, 1, 7, 0x0a, 0, 0x18, 5], // empty ones; 3 unpacked
        ]
        .concat();
        assert_eq!(
            whole_and_parted(&message).expect("valid").0,
            [
                "0.1=150", "0.1<", "1.2<", "9", "8", "1.2>", "1.3<", "1.3=128", "0.1>", "0.2<",
                "0.2>", "0.3<", "0.4<", "0.1<", "0.1>", "0.3=5"
            ]
        );
    }

    #[test]
    fn what_is_no_message_is_refused_where_it_breaks() {
        use WireFaultKind::{Tag, Truncated, Varint};
        for (message, kind, offset) in [
            (&[0x00][..], Tag, 1),
            (&[0x07], Tag, 1),
            (&[0x0f], Tag, 1),
            (&[0x24], Tag, 1),
            (&[0x23, 0x2c], Tag, 2),
            (&[0x80, 0x80, 0x80, 0x80, 0x10], Tag, 5),
            (&[0x08], Truncated, 1),
            (&[0x08, 0x80], Truncated, 2),
            (&[0x12, 3, 1, 2], Truncated, 2),
            (
                &[
                    0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                Truncated,
                11,
            ),
            (&[0x0d, 1, 2, 3], Truncated, 1),
            (&[0x23], Truncated, 1),
            (&[0x1a, 1, 0x80, 0x08, 1], Truncated, 3),
            (&[0x0a, 2, 0x12, 1, 5], Truncated, 4),
            (&[0x0a, 1, 0x08, 1], Truncated, 3),
            (&[0x0a, 1, 0x23, 0x24], Truncated, 3),
            (
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                Varint,
                11,
            ),
        ] {
            assert_eq!(
                whole_and_parted(message),
                Err(WireFault { offset, kind }),
                "{message:x?}"
            );
        }
    }

    #[test]
    fn groups_nested_without_end_are_refused() {
        assert_eq!(
            read(&[&[0x23; 4096]]),
            Err(WireFault {
                offset: 101,
                kind: WireFaultKind::Tag
            })
        );
    }
}
