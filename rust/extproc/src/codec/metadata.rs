//! The walk into `google.protobuf.Struct`: only along the keys that the exchange wants, so there is no recursion and no tree.
//!
//! Used for `metadata_context.filter_metadata` and `attributes`, both `map<string, Struct>`.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;
use warmroute_core::exchange::Message;

use super::DecodeError;
use super::wire::{Fields, Wire};

const SUBSET_NAMESPACE: &[u8] = b"envoy.lb.subset_hint";
const SUBSET_KEY: &[u8] = b"x-gateway-destination-endpoint-subset";
const LOAD_BALANCER_NAMESPACE: &[u8] = b"envoy.lb";
const SERVED_KEY: &[u8] = b"x-gateway-destination-endpoint-served";
const ATTRIBUTES_NAMESPACE: &[u8] = b"envoy.filters.http.ext_proc";
const UPSTREAM_ADDRESS_KEY: &[u8] = b"upstream.address";

/// One entry of a protobuf map. A message value that occurs more than once in an entry is merged, hence several ranges.
struct Entry {
    key: Range<usize>,
    value: SmallVec<[Range<usize>; 1]>,
}

/// A `google.protobuf.Value` as far as the exchange can use it.
enum Text {
    String(Box<str>),
    List(Vec<Box<str>>),
    /// Null, number, bool, struct, or nothing.
    Other,
}

/// Reads `metadata_context` (`envoy.config.core.v3.Metadata`) into `message`.
pub(super) fn read_metadata_context(
    frame: &Bytes,
    range: Range<usize>,
    message: &mut Message,
) -> Result<(), DecodeError> {
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        // filter_metadata
        if let (1, Wire::Delimited(range)) = (number, wire) {
            let namespace = entry(frame, range)?;
            match &frame[namespace.key.clone()] {
                SUBSET_NAMESPACE => {
                    message.subset_hint =
                        find(frame, &namespace, SUBSET_KEY)?.map(|text| match text {
                            Text::String(text) => split(&text).collect(),
                            Text::List(items) => {
                                items.iter().flat_map(|item| split(item)).collect()
                            }
                            Text::Other => Vec::new(),
                        });
                }
                LOAD_BALANCER_NAMESPACE => {
                    message.lb_metadata = true;
                    message.served_endpoint = find_string(frame, &namespace, SERVED_KEY)?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Reads one entry of `attributes` into `message`.
pub(super) fn read_attributes(
    frame: &Bytes,
    range: Range<usize>,
    message: &mut Message,
) -> Result<(), DecodeError> {
    let namespace = entry(frame, range)?;
    if &frame[namespace.key.clone()] == ATTRIBUTES_NAMESPACE {
        message.upstream_address = find_string(frame, &namespace, UPSTREAM_ADDRESS_KEY)?;
    }
    Ok(())
}

fn split(text: &str) -> impl Iterator<Item = Box<str>> {
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(Box::from)
}

fn entry(frame: &Bytes, range: Range<usize>) -> Result<Entry, DecodeError> {
    let mut entry = Entry {
        key: 0..0,
        value: SmallVec::new(),
    };
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (1, Wire::Delimited(range)) => entry.key = range,
            (2, Wire::Delimited(range)) => entry.value.push(range),
            _ => {}
        }
    }
    Ok(entry)
}

fn find_string(
    frame: &Bytes,
    namespace: &Entry,
    key: &[u8],
) -> Result<Option<Box<str>>, DecodeError> {
    Ok(match find(frame, namespace, key)? {
        Some(Text::String(text)) => Some(text),
        _ => None,
    })
}

/// The value of `key` in the `Struct` that `namespace` maps to; the last entry of a key wins.
fn find(frame: &Bytes, namespace: &Entry, key: &[u8]) -> Result<Option<Text>, DecodeError> {
    let mut found = None;
    for range in &namespace.value {
        let mut fields = Fields::of(frame, range.clone());
        while let Some((number, wire)) = fields.next()? {
            if let (1, Wire::Delimited(range)) = (number, wire) {
                let field = entry(frame, range)?;
                if &frame[field.key.clone()] == key {
                    found = Some(text(frame, &field.value)?);
                }
            }
        }
    }
    Ok(found)
}

fn text(frame: &Bytes, value: &[Range<usize>]) -> Result<Text, DecodeError> {
    let mut kind = Text::Other;
    for range in value {
        let mut fields = Fields::of(frame, range.clone());
        while let Some((number, wire)) = fields.next()? {
            match (number, wire) {
                (3, Wire::Delimited(range)) => kind = Text::String(string(frame, range)?),
                (6, Wire::Delimited(range)) => {
                    let mut items = match kind {
                        // A list after a list is merged, as for any message of a oneof.
                        Text::List(items) => items,
                        _ => Vec::new(),
                    };
                    list(frame, range, &mut items)?;
                    kind = Text::List(items);
                }
                (1 | 4, Wire::Varint(_)) | (2, Wire::Skipped) | (5, Wire::Delimited(_)) => {
                    kind = Text::Other;
                }
                _ => {}
            }
        }
    }
    Ok(kind)
}

fn list(frame: &Bytes, range: Range<usize>, items: &mut Vec<Box<str>>) -> Result<(), DecodeError> {
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        if let (1, Wire::Delimited(range)) = (number, wire)
            && let Some(item) = list_item(frame, range)?
        {
            items.push(item);
        }
    }
    Ok(())
}

fn list_item(frame: &Bytes, range: Range<usize>) -> Result<Option<Box<str>>, DecodeError> {
    let mut item = None;
    let mut fields = Fields::of(frame, range);
    while let Some((number, wire)) = fields.next()? {
        match (number, wire) {
            (3, Wire::Delimited(range)) => item = Some(string(frame, range)?),
            (1 | 4, Wire::Varint(_)) | (2, Wire::Skipped) | (5 | 6, Wire::Delimited(_)) => {
                item = None;
            }
            _ => {}
        }
    }
    Ok(item)
}

fn string(frame: &Bytes, range: Range<usize>) -> Result<Box<str>, DecodeError> {
    let offset = range.start;
    std::str::from_utf8(&frame[range])
        .map(Box::from)
        .map_err(|_| DecodeError::NotUtf8 { offset })
}
