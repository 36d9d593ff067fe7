//! `ProcessingResponse` to bytes. Lengths are computed once, bottom up, then everything is written in one pass; body parts are copied
//! straight to their place.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use warmroute_core::exchange::{
    BodyMode, BodyMutation, CommonReply, HeaderMutation, ImmediateReply, LbMetadata, Reply,
    ReplyPhase,
};

use super::wire::{
    delimited_length, put_delimited, put_delimited_start, put_varint, put_varint_field,
    varint_length,
};

/// `HeaderValueOption.append_action = OVERWRITE_IF_EXISTS_OR_ADD`, as bytes of that field.
///
/// Written always, because the meaning of an option that leaves it unset differs: Envoy's `ext_proc` filter overwrites (it reads only the
/// older `append`, default false), while `base.proto`, other data planes, and Envoy's own plan (envoy#36982) append. With 2 all of them
/// overwrite, so a destination header that came with the request can never survive beside ours.
const OVERWRITE: [u8; 2] = [3 << 3, 2];

const LOAD_BALANCER_NAMESPACE: &str = "envoy.lb";

/// The nested lengths of one `CommonResponse`.
struct CommonLengths {
    headers: usize,
    body: usize,
    total: usize,
}

/// How many bytes [`encode`] writes for `reply`.
pub fn encoded_len(reply: &Reply) -> usize {
    phase_length(&reply.phase)
        + reply
            .metadata
            .as_ref()
            .map_or(0, |metadata| delimited_length(metadata_length(metadata)))
        + reply.mode_override.map_or(0, |_| delimited_length(4))
}

/// Appends `reply` to `out` as one `ProcessingResponse`, without a gRPC frame header.
pub fn encode(reply: &Reply, out: &mut BytesMut) {
    out.reserve(encoded_len(reply));
    match &reply.phase {
        ReplyPhase::RequestHeaders(common) => put_common_phase(out, 1, common),
        ReplyPhase::ResponseHeaders(common) => put_common_phase(out, 2, common),
        ReplyPhase::RequestBody(common) => put_common_phase(out, 3, common),
        ReplyPhase::ResponseBody(common) => put_common_phase(out, 4, common),
        ReplyPhase::RequestTrailers => put_delimited(out, 5, &[]),
        ReplyPhase::ResponseTrailers => put_delimited(out, 6, &[]),
        ReplyPhase::Immediate(immediate) => put_immediate(out, immediate),
    }
    if let Some(metadata) = &reply.metadata {
        put_metadata(out, metadata);
    }
    if let Some((request, response)) = reply.mode_override {
        // ProcessingMode. Both body modes are written, also NONE: Envoy replaces both.
        put_delimited_start(out, 9, 4);
        put_varint_field(out, 3, mode_number(request));
        put_varint_field(out, 4, mode_number(response));
    }
}

fn phase_length(phase: &ReplyPhase) -> usize {
    match phase {
        ReplyPhase::RequestHeaders(common)
        | ReplyPhase::ResponseHeaders(common)
        | ReplyPhase::RequestBody(common)
        | ReplyPhase::ResponseBody(common) => {
            delimited_length(optional_length(CommonLengths::of(common).total))
        }
        ReplyPhase::RequestTrailers | ReplyPhase::ResponseTrailers => delimited_length(0),
        ReplyPhase::Immediate(immediate) => delimited_length(immediate_length(immediate)),
    }
}

/// `ProcessingResponse.<phase> { CommonResponse response = 1; }`; an empty `CommonResponse` is left out.
fn put_common_phase(out: &mut BytesMut, field: u8, common: &CommonReply) {
    let lengths = CommonLengths::of(common);
    put_delimited_start(out, field, optional_length(lengths.total));
    if lengths.total == 0 {
        return;
    }
    put_delimited_start(out, 1, lengths.total);
    if lengths.headers > 0 {
        put_delimited_start(out, 2, lengths.headers);
        put_header_mutation(out, &common.headers);
    }
    if !matches!(common.body, BodyMutation::None) {
        put_delimited_start(out, 3, lengths.body);
        put_body_mutation(out, &common.body);
    }
    if common.clear_route_cache {
        put_varint_field(out, 5, 1);
    }
}

impl CommonLengths {
    fn of(common: &CommonReply) -> Self {
        let headers = header_mutation_length(&common.headers);
        let body = body_mutation_length(&common.body);
        let with_body = if matches!(common.body, BodyMutation::None) {
            0
        } else {
            delimited_length(body)
        };
        let total =
            optional_length(headers) + with_body + 2 * usize::from(common.clear_route_cache);
        Self {
            headers,
            body,
            total,
        }
    }
}

/// The length of a nested message with its tag, or nothing when it is empty and so not written.
fn optional_length(length: usize) -> usize {
    if length == 0 {
        0
    } else {
        delimited_length(length)
    }
}

fn header_mutation_length(mutation: &HeaderMutation) -> usize {
    let set: usize = mutation
        .set
        .iter()
        .map(|header| delimited_length(header_option_length(header)))
        .sum();
    let remove: usize = mutation
        .remove
        .iter()
        .map(|name| delimited_length(name.len()))
        .sum();
    set + remove
}

/// `HeaderMutation { repeated HeaderValueOption set_headers = 1; repeated string remove_headers = 2; }`
fn put_header_mutation(out: &mut BytesMut, mutation: &HeaderMutation) {
    for header in &mutation.set {
        put_header_option(out, header);
    }
    for name in &mutation.remove {
        put_delimited(out, 2, name.as_bytes());
    }
}

fn header_value_length((key, value): &(Bytes, Bytes)) -> usize {
    delimited_length(key.len()) + delimited_length(value.len())
}

fn header_option_length(header: &(Bytes, Bytes)) -> usize {
    delimited_length(header_value_length(header)) + OVERWRITE.len()
}

/// `HeaderValueOption { HeaderValue header = 1; append_action = 3; }` as element of `set_headers`.
fn put_header_option(out: &mut BytesMut, header: &(Bytes, Bytes)) {
    put_delimited_start(out, 1, header_option_length(header));
    put_delimited_start(out, 1, header_value_length(header));
    put_delimited(out, 1, &header.0);
    put_delimited(out, 3, &header.1);
    out.put_slice(&OVERWRITE);
}

fn parts_length(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

fn streamed_length(parts: &[Bytes], end_of_stream: bool) -> usize {
    optional_length(parts_length(parts)) + 2 * usize::from(end_of_stream)
}

/// The length inside `BodyMutation`; the oneof is written also when the body in it is empty.
fn body_mutation_length(mutation: &BodyMutation) -> usize {
    match mutation {
        BodyMutation::None => 0,
        BodyMutation::Replace(parts) => delimited_length(parts_length(parts)),
        BodyMutation::Clear => 2,
        BodyMutation::Streamed {
            parts,
            end_of_stream,
        } => delimited_length(streamed_length(parts, *end_of_stream)),
    }
}

/// `BodyMutation { oneof { bytes body = 1; bool clear_body = 2; StreamedBodyResponse streamed_response = 3; } }`
fn put_body_mutation(out: &mut BytesMut, mutation: &BodyMutation) {
    match mutation {
        BodyMutation::None => {}
        BodyMutation::Replace(parts) => put_parts(out, parts),
        BodyMutation::Clear => put_varint_field(out, 2, 1),
        BodyMutation::Streamed {
            parts,
            end_of_stream,
        } => {
            put_delimited_start(out, 3, streamed_length(parts, *end_of_stream));
            if parts.iter().any(|part| !part.is_empty()) {
                put_parts(out, parts);
            }
            if *end_of_stream {
                put_varint_field(out, 2, 1);
            }
        }
    }
}

/// `bytes body = 1`, written part by part.
fn put_parts(out: &mut BytesMut, parts: &[Bytes]) {
    put_delimited_start(out, 1, parts_length(parts));
    for part in parts {
        out.put_slice(part);
    }
}

fn status_length(immediate: &ImmediateReply) -> usize {
    1 + varint_length(u64::from(immediate.status))
}

fn immediate_headers_length(immediate: &ImmediateReply) -> usize {
    immediate
        .headers
        .iter()
        .map(|header| delimited_length(header_option_length(header)))
        .sum()
}

fn immediate_length(immediate: &ImmediateReply) -> usize {
    delimited_length(status_length(immediate))
        + optional_length(immediate_headers_length(immediate))
        + optional_length(immediate.body.len())
}

/// `ImmediateResponse { HttpStatus status = 1; HeaderMutation headers = 2; bytes body = 3; }`
fn put_immediate(out: &mut BytesMut, immediate: &ImmediateReply) {
    put_delimited_start(out, 7, immediate_length(immediate));
    put_delimited_start(out, 1, status_length(immediate));
    put_varint_field(out, 1, u64::from(immediate.status));
    if !immediate.headers.is_empty() {
        put_delimited_start(out, 2, immediate_headers_length(immediate));
        for header in &immediate.headers {
            put_header_option(out, header);
        }
    }
    if !immediate.body.is_empty() {
        put_delimited(out, 3, &immediate.body);
    }
}

fn mode_number(mode: BodyMode) -> u64 {
    match mode {
        BodyMode::None => 0,
        BodyMode::Streamed => 1,
        BodyMode::Buffered => 2,
        BodyMode::BufferedPartial => 3,
        BodyMode::FullDuplexStreamed => 4,
    }
}

/// A `Value` with a string: tag and length of `string_value`.
fn string_value_length(value: &[u8]) -> usize {
    delimited_length(value.len())
}

/// A `Value` with a number: tag and eight bytes of `number_value`.
const NUMBER_VALUE_LENGTH: usize = 9;

/// An entry of `Struct.fields` whose `Value` takes `value` bytes.
fn entry_length(key: &[u8], value: usize) -> usize {
    delimited_length(key.len()) + delimited_length(value)
}

fn put_entry_start(out: &mut BytesMut, key: &[u8], value: usize) {
    put_delimited_start(out, 1, entry_length(key, value));
    put_delimited(out, 1, key);
    put_delimited_start(out, 2, value);
}

fn numbers_length(numbers: &[(Box<str>, f64)]) -> usize {
    numbers
        .iter()
        .map(|(name, _)| delimited_length(entry_length(name.as_bytes(), NUMBER_VALUE_LENGTH)))
        .sum()
}

/// The entries of the `Struct` under one namespace.
fn namespace_length(metadata: &LbMetadata, namespace: &str) -> usize {
    let mut length = 0;
    if namespace == LOAD_BALANCER_NAMESPACE {
        let strings = metadata.strings.iter();
        length += strings
            .map(|(key, value)| {
                delimited_length(entry_length(key.as_bytes(), string_value_length(value)))
            })
            .sum::<usize>();
        let numbers = metadata.numbers.iter();
        length += numbers
            .map(|(key, numbers)| {
                let value = delimited_length(numbers_length(numbers));
                delimited_length(entry_length(key.as_bytes(), value))
            })
            .sum::<usize>();
    }
    let reports = metadata.reports.iter();
    length
        + reports
            .filter(|report| &*report.namespace == namespace)
            .map(|report| {
                delimited_length(entry_length(report.name.as_bytes(), NUMBER_VALUE_LENGTH))
            })
            .sum::<usize>()
}

/// The namespaces that have something in them, each once: a map must not repeat a key.
fn namespaces(metadata: &LbMetadata) -> SmallVec<[&str; 4]> {
    let mut namespaces: SmallVec<[&str; 4]> = SmallVec::new();
    if !metadata.strings.is_empty() || !metadata.numbers.is_empty() {
        namespaces.push(LOAD_BALANCER_NAMESPACE);
    }
    for report in &metadata.reports {
        let namespace: &str = &report.namespace;
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    namespaces
}

/// The entries of `dynamic_metadata.fields`.
fn metadata_length(metadata: &LbMetadata) -> usize {
    namespaces(metadata)
        .iter()
        .map(|namespace| {
            let value = delimited_length(namespace_length(metadata, namespace));
            delimited_length(entry_length(namespace.as_bytes(), value))
        })
        .sum()
}

/// `dynamic_metadata = 8`: a `Struct` of namespaces, each a `Struct`.
fn put_metadata(out: &mut BytesMut, metadata: &LbMetadata) {
    put_delimited_start(out, 8, metadata_length(metadata));
    for namespace in namespaces(metadata) {
        let inner = namespace_length(metadata, namespace);
        put_entry_start(out, namespace.as_bytes(), delimited_length(inner));
        put_delimited_start(out, 5, inner);
        if namespace == LOAD_BALANCER_NAMESPACE {
            put_load_balancer(out, metadata);
        }
        for report in &metadata.reports {
            if &*report.namespace == namespace {
                put_number_entry(out, &report.name, report.value as f64);
            }
        }
    }
}

fn put_load_balancer(out: &mut BytesMut, metadata: &LbMetadata) {
    for (key, value) in &metadata.strings {
        put_entry_start(out, key.as_bytes(), string_value_length(value));
        put_delimited(out, 3, value);
    }
    for (key, numbers) in &metadata.numbers {
        let length = numbers_length(numbers);
        put_entry_start(out, key.as_bytes(), delimited_length(length));
        put_delimited_start(out, 5, length);
        for (name, number) in numbers {
            put_number_entry(out, name, *number);
        }
    }
}

fn put_number_entry(out: &mut BytesMut, name: &str, number: f64) {
    put_entry_start(out, name.as_bytes(), NUMBER_VALUE_LENGTH);
    // number_value = 2, wire type 1
    put_varint(out, (2 << 3) | 1);
    out.put_f64_le(number);
}
