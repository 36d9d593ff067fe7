//! From a message's payload to events: `[time, [event…], rank]` or a map, each event an array `[type, field…]` or a map with `type`.
//!
//! The positions and names are those of vLLM's `distributed/kv_events.py` and `SGLang`'s `disaggregation/kv_events.py`. Fields may be missing at the
//! end or follow that are not known. `SGLang`'s arrays agree with vLLM's as far as they go, but end with a map of what else there is to say (the
//! cache's salt): right after the medium in some versions, after all positions of vLLM's in later ones.

use super::Engine;
use super::cursor::{Cursor, Malformed, Shape};
use super::event::{Event, Extra, Removed, Scratch, Stored};

/// Most blocks of an event, and most tokens: a request's are far fewer, and what is read takes more memory than what was sent.
const MOST_HASHES: usize = 1 << 18;
const MOST_TOKENS: usize = 1 << 22;
const MOST_EXTRAS: usize = 1 << 18;
/// Most bytes of a name (medium, adapter, kind): longer ones are no names.
const LONGEST_NAME: usize = 256;

const STORED: [&str; 10] = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
];
const REMOVED: [&str; 3] = ["block_hashes", "medium", "group_idx"];
/// Fields of the arrays that all versions of all engines have: from there on `SGLang` may put its map.
const COMMON: usize = 6;
/// What stands before a salt among `SGLang`'s extra keys.
const SALT_PREFIX: &str = "dynamo-cache-salt:";

/// Each event of the payload, in order; `Err` for one that cannot be read.
///
/// # Errors
/// When the payload itself cannot be read (further); what came before has been given to `each`.
pub(super) fn events<'a>(
    payload: &'a [u8],
    engine: Engine,
    scratch: &mut Scratch,
    mut each: impl FnMut(Result<Event<'a>, Malformed>, &mut Scratch),
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(payload);
    match cursor.shape()? {
        Shape::Array => {
            if cursor.array()? < 2 {
                return Err(Malformed);
            }
            cursor.skip()?;
        }
        Shape::Map => find(&mut cursor, "events")?,
        _ => return Err(Malformed),
    }
    for _ in 0..cursor.array()? {
        let start = cursor;
        scratch.hashes.clear();
        scratch.tokens.clear();
        let event = event(&mut cursor, engine, scratch);
        if event.is_err() {
            cursor = start;
            cursor.skip()?;
        }
        each(event, scratch);
    }
    Ok(())
}

/// To the value of a map's field.
fn find(cursor: &mut Cursor<'_>, name: &str) -> Result<(), Malformed> {
    for _ in 0..cursor.map()? {
        if key(cursor)? == Some(name) {
            return Ok(());
        }
        cursor.skip()?;
    }
    Err(Malformed)
}

/// Name of a map's next field; none when it is no text.
fn key<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, Malformed> {
    if cursor.shape()? == Shape::Text {
        return cursor.text().map(Some);
    }
    cursor.skip()?;
    Ok(None)
}

fn event<'a>(
    cursor: &mut Cursor<'a>,
    engine: Engine,
    scratch: &mut Scratch,
) -> Result<Event<'a>, Malformed> {
    match cursor.shape()? {
        Shape::Array => {
            let length = cursor.array()?.checked_sub(1).ok_or(Malformed)?;
            let kind = cursor.text()?;
            let mut reader = Reader::new(kind);
            let names = match reader {
                Reader::Stored(..) => &STORED[..],
                Reader::Removed(..) => &REMOVED[..],
                _ => &[],
            };
            for index in 0..length {
                let more = engine == Engine::Sglang && index >= COMMON;
                match names.get(index) {
                    _ if more && cursor.shape()? == Shape::Map => {
                        reader.field("metadata", cursor, scratch)?;
                    }
                    Some(name) => reader.field(name, cursor, scratch)?,
                    None => cursor.skip()?,
                }
            }
            reader.finish()
        }
        Shape::Map => {
            let mut fields = *cursor;
            find(cursor, "type")?;
            let mut reader = Reader::new(cursor.text()?);
            for _ in 0..fields.map()? {
                match key(&mut fields)? {
                    Some(name) if name != "type" => reader.field(name, &mut fields, scratch)?,
                    _ => fields.skip()?,
                }
            }
            *cursor = fields;
            reader.finish()
        }
        _ => Err(Malformed),
    }
}

/// An event of which some fields have been read.
enum Reader<'a> {
    /// With the required ones that were there: hashes, tokens, block size.
    Stored(Stored<'a>, [bool; 3]),
    Removed(Removed<'a>, bool),
    Cleared,
    Unknown,
}

impl<'a> Reader<'a> {
    fn new(kind: &str) -> Self {
        match kind {
            "BlockStored" => Self::Stored(Stored::default(), [false; 3]),
            "BlockRemoved" => Self::Removed(Removed::default(), false),
            "AllBlocksCleared" => Self::Cleared,
            _ => Self::Unknown,
        }
    }

    fn field(
        &mut self,
        name: &str,
        cursor: &mut Cursor<'a>,
        scratch: &mut Scratch,
    ) -> Result<(), Malformed> {
        match self {
            Self::Stored(stored, found) => match name {
                "block_hashes" => {
                    found[0] = true;
                    hashes(cursor, &mut scratch.hashes)?;
                }
                "parent_block_hash" => stored.parent = optional(cursor, hash)?,
                "token_ids" => {
                    found[1] = true;
                    tokens(cursor, &mut scratch.tokens)?;
                }
                "block_size" => {
                    found[2] = true;
                    stored.block_size = cursor.unsigned()?;
                }
                "lora_id" => {
                    if cursor.shape()? == Shape::Text {
                        stored.adapter = stored.adapter.or(optional(cursor, short)?);
                    } else {
                        stored.adapter_number = optional(cursor, |cursor| Ok(cursor.integer()?.0))?;
                    }
                }
                "medium" => stored.medium = optional(cursor, short)?,
                "lora_name" => stored.adapter = optional(cursor, short)?.or(stored.adapter),
                "cache_salt" => stored.salt = optional(cursor, Cursor::text)?,
                "metadata" => stored.salt = optional(cursor, metadata)?.flatten().or(stored.salt),
                "extra_keys" => {
                    stored.extras.clear();
                    stored.extra_blocks = optional(cursor, |cursor| extra_keys(cursor, stored))?;
                    // SGLang names the salt once, however many blocks the event has.
                    if stored.salt.is_some() && stored.extras.is_empty() {
                        stored.extra_blocks = None;
                    }
                }
                "group_idx" => stored.group = optional(cursor, Cursor::unsigned)?,
                "kv_cache_spec_kind" | "component_type" => {
                    stored.kind = optional(cursor, short)?.or(stored.kind);
                }
                _ => cursor.skip()?,
            },
            Self::Removed(removed, found) => match name {
                "block_hashes" => {
                    *found = true;
                    hashes(cursor, &mut scratch.hashes)?;
                }
                "medium" => removed.medium = optional(cursor, short)?,
                "group_idx" => removed.group = optional(cursor, Cursor::unsigned)?,
                "component_type" => removed.kind = optional(cursor, short)?,
                _ => cursor.skip()?,
            },
            Self::Cleared | Self::Unknown => cursor.skip()?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Event<'a>, Malformed> {
        match self {
            Self::Stored(stored, [true, true, true]) => Ok(Event::Stored(stored)),
            Self::Removed(removed, true) => Ok(Event::Removed(removed)),
            Self::Cleared => Ok(Event::Cleared),
            Self::Unknown => Ok(Event::Unknown),
            Self::Stored(..) | Self::Removed(..) => Err(Malformed),
        }
    }
}

fn optional<'a, T>(
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if cursor.nil() {
        return Ok(None);
    }
    read(cursor).map(Some)
}

fn bounded(length: usize, most: usize) -> Result<usize, Malformed> {
    (length <= most).then_some(length).ok_or(Malformed)
}

fn short<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    let text = cursor.text()?;
    (text.len() <= LONGEST_NAME)
        .then_some(text)
        .ok_or(Malformed)
}

/// An engine's hash of a block: an integer, signed or not, or bytes of which the last eight count.
fn hash(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    if cursor.shape()? != Shape::Bytes {
        return Ok(cursor.integer()?.0);
    }
    let bytes = cursor.bytes()?;
    if bytes.is_empty() {
        return Err(Malformed);
    }
    let last = &bytes[bytes.len().saturating_sub(8)..];
    Ok(last
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

fn hashes(cursor: &mut Cursor<'_>, out: &mut Vec<u64>) -> Result<(), Malformed> {
    out.clear();
    let length = bounded(cursor.array()?, MOST_HASHES)?;
    out.reserve(length);
    for _ in 0..length {
        out.push(hash(cursor)?);
    }
    Ok(())
}

fn tokens(cursor: &mut Cursor<'_>, out: &mut Vec<u32>) -> Result<(), Malformed> {
    out.clear();
    let length = bounded(cursor.array()?, MOST_TOKENS)?;
    out.reserve(length);
    cursor.tokens(length, out)
}

/// The salt that `SGLang`'s map of further facts names.
fn metadata<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, Malformed> {
    if cursor.shape()? != Shape::Map {
        cursor.skip()?;
        return Ok(None);
    }
    let mut salt = None;
    for _ in 0..cursor.map()? {
        if key(cursor)? == Some("cache_salt") {
            salt = optional(cursor, Cursor::text)?;
        } else {
            cursor.skip()?;
        }
    }
    Ok(salt)
}

/// Entries of `extra_keys`: nil or a list for each block.
fn extra_keys<'a>(cursor: &mut Cursor<'a>, stored: &mut Stored<'a>) -> Result<usize, Malformed> {
    let blocks = cursor.array()?;
    for block in 0..blocks {
        if cursor.nil() {
            continue;
        }
        for _ in 0..cursor.array()? {
            if let Some(extra) = extra(cursor)? {
                if let Extra::Text(text) = extra
                    && let Some(salt) = text.strip_prefix(SALT_PREFIX)
                {
                    stored.salt = Some(salt);
                    continue;
                }
                bounded(stored.extras.len() + 1, MOST_EXTRAS)?;
                stored.extras.push((block as u32, extra));
            }
        }
    }
    Ok(blocks)
}

fn extra<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Extra<'a>>, Malformed> {
    Ok(Some(match cursor.shape()? {
        Shape::Nil => {
            cursor.skip()?;
            return Ok(None);
        }
        Shape::Text => Extra::Text(cursor.text()?),
        Shape::Bytes => Extra::Bytes(cursor.bytes()?),
        Shape::Integer => Extra::Number(cursor.integer()?.0),
        // Hash of a medium and where in the block it starts: the tokens and the blocks before say that already.
        Shape::Array => {
            let length = cursor.array()?.checked_sub(1).ok_or(Malformed)?;
            let first = match cursor.shape()? {
                Shape::Text => Extra::Text(cursor.text()?),
                Shape::Bytes => Extra::Bytes(cursor.bytes()?),
                Shape::Integer => Extra::Number(cursor.integer()?.0),
                _ => return Err(Malformed),
            };
            for _ in 0..length {
                cursor.skip()?;
            }
            first
        }
        Shape::Map | Shape::Other => return Err(Malformed),
    }))
}
