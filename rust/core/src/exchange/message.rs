//! The subset of `envoy.service.ext_proc.v3` that the exchange speaks, decoded. The wire form is in `warmroute-extproc`.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::control::Report;

/// One header; `key` is lower-case as Envoy sends it. Values are bytes (`raw_value`, else `value`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Lower-case name, pseudo-headers included (`:path`).
    pub key: Bytes,
    /// Raw value.
    pub value: Bytes,
}

/// `HttpHeaders`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpHeaders {
    /// In the order sent.
    pub headers: Vec<Header>,
    /// No body follows.
    pub end_of_stream: bool,
}

/// `HttpBody`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpBody {
    /// Bytes of this message.
    pub body: Bytes,
    /// Last message of the body.
    pub end_of_stream: bool,
}

/// `BodySendMode` of `ProtocolConfiguration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// 0
    #[default]
    None,
    /// 1
    Streamed,
    /// 2
    Buffered,
    /// 3
    BufferedPartial,
    /// 4
    FullDuplexStreamed,
}

/// `ProtocolConfiguration` (field 11, on the first message of a stream only).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProtocolConfig {
    /// Field 1.
    pub request_body_mode: BodyMode,
    /// Field 2.
    pub response_body_mode: BodyMode,
    /// Field 3.
    pub send_body_without_waiting_for_header_response: bool,
}

/// The `oneof request` of `ProcessingRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Field 2.
    RequestHeaders(HttpHeaders),
    /// Field 3.
    ResponseHeaders(HttpHeaders),
    /// Field 4.
    RequestBody(HttpBody),
    /// Field 5.
    ResponseBody(HttpBody),
    /// Field 6.
    RequestTrailers,
    /// Field 7.
    ResponseTrailers,
}

/// One `ProcessingRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub phase: Phase,
    /// Only on the first message of a stream.
    pub protocol_config: Option<ProtocolConfig>,
    /// `metadata_context.filter_metadata["envoy.lb.subset_hint"]["x-gateway-destination-endpoint-subset"]`,
    /// list or comma-separated string split into its trimmed entries. `None`: key absent; empty: present without entries.
    pub subset_hint: Option<Vec<Box<str>>>,
    /// `metadata_context.filter_metadata["envoy.lb"]["x-gateway-destination-endpoint-served"]`.
    pub served_endpoint: Option<Box<str>>,
    /// `metadata_context.filter_metadata["envoy.lb"]` is there, whatever is in it.
    pub lb_metadata: bool,
    /// `attributes["envoy.filters.http.ext_proc"]["upstream.address"]`.
    pub upstream_address: Option<Box<str>>,
}

impl Message {
    /// A message that carries only its phase.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase,
            protocol_config: None,
            subset_hint: None,
            served_endpoint: None,
            lb_metadata: false,
            upstream_address: None,
        }
    }
}

/// What a reply does to the headers of the direction it answers. Set headers go out as `raw_value` with the default append action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderMutation {
    /// Headers to set (overwrite), in order.
    pub set: Vec<(Bytes, Bytes)>,
    /// Header names to remove.
    pub remove: SmallVec<[&'static str; 8]>,
}

/// What a reply does to the body of the message it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodyMutation {
    /// Leave it.
    #[default]
    None,
    /// `BodyMutation.body`: replace this message's body. Parts are written one after the other, without joining them first.
    Replace(SmallVec<[Bytes; 4]>),
    /// `BodyMutation.clear_body`.
    Clear,
    /// `BodyMutation.streamed_response`, for `FULL_DUPLEX_STREAMED`.
    Streamed {
        /// Written one after the other as one `body`.
        parts: SmallVec<[Bytes; 4]>,
        /// Last chunk of the body.
        end_of_stream: bool,
    },
}

/// `CommonResponse` (status CONTINUE).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonReply {
    /// Header changes.
    pub headers: HeaderMutation,
    /// Body change.
    pub body: BodyMutation,
    /// `clear_route_cache`.
    pub clear_route_cache: bool,
}

/// `ImmediateResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImmediateReply {
    /// HTTP status code.
    pub status: u16,
    /// Headers to set on the answer.
    pub headers: Vec<(Bytes, Bytes)>,
    /// Body.
    pub body: Bytes,
}

/// The `oneof response` of `ProcessingResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyPhase {
    /// Field 1.
    RequestHeaders(CommonReply),
    /// Field 2.
    ResponseHeaders(CommonReply),
    /// Field 3.
    RequestBody(CommonReply),
    /// Field 4.
    ResponseBody(CommonReply),
    /// Field 5, no mutation.
    RequestTrailers,
    /// Field 6, no mutation.
    ResponseTrailers,
    /// Field 7.
    Immediate(ImmediateReply),
}

/// (name, number) pairs.
pub type NamedNumbers = Vec<(Box<str>, f64)>;

/// `dynamic_metadata` of a reply: string values or a struct of numbers, under namespace `envoy.lb`, and what reporters tell, each under its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LbMetadata {
    /// (key, string value) pairs.
    pub strings: SmallVec<[(&'static str, Bytes); 1]>,
    /// (key, {name: number}) pairs.
    pub numbers: Vec<(&'static str, NamedNumbers)>,
    /// No two of the same namespace and name.
    pub reports: Vec<Report>,
}

/// One `ProcessingResponse`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What it answers.
    pub phase: ReplyPhase,
    /// `dynamic_metadata`.
    pub metadata: Option<LbMetadata>,
    /// `mode_override`: (`request_body_mode`, `response_body_mode`), both always written; header and trailer modes unchanged.
    pub mode_override: Option<(BodyMode, BodyMode)>,
}
