//! Vertex AI's prediction service: an `OpenAI` body inside a `google.api.HttpBody` inside a gRPC message.
//!
//! Source of the field numbers: `google/cloud/aiplatform/v1beta1/prediction_service.proto`, `google/api/httpbody.proto`.

use super::Dialect;
use super::go_error::go_error;
use super::grpc::{GrpcRequest, RequestFields, ResponseFields};
use super::json::Json;
use super::protobuf::{Content, Fields, OUTER};
use super::scan::{Request, ScanError, ScanLimits, ScannedBody};
use super::sse::Event;
use super::table::Table;
use super::usage_text::{TextKind, TextUsage};

/// Path suffixes; the version of the API stands before them.
pub(super) const PATHS: &[(&str, Dialect)] = &[
    (
        "PredictionService/ChatCompletions",
        Dialect::VertexChatCompletions,
    ),
    (
        "PredictionService/StreamRawPredict",
        Dialect::VertexStreamRawPredict,
    ),
    ("PredictionService/RawPredict", Dialect::VertexRawPredict),
];

/// `http_body` of all three requests, and `data` in it.
const HTTP_BODY: u32 = 2;
const DATA: u32 = 2;

/// Reads a request.
#[derive(Debug)]
pub(super) struct VertexRequest {
    table: &'static Table,
    limits: ScanLimits,
    without_body: &'static str,
    json: Json,
    request: Request,
    has_body: bool,
    /// An earlier `data` field was no JSON.
    broken: bool,
}

impl VertexRequest {
    /// Before a message whose body is read by `table`; `without_body` is said when it has none.
    pub(super) fn new(
        table: &'static Table,
        limits: ScanLimits,
        without_body: &'static str,
    ) -> Self {
        Self {
            table,
            limits,
            without_body,
            json: Json::new(limits.max_depth),
            request: Request::new(table, limits),
            has_body: false,
            broken: false,
        }
    }
}

impl Fields for VertexRequest {
    fn begin(&mut self, within: u32, field: u32) -> Content {
        match (within, field) {
            (OUTER, HTTP_BODY) => {
                self.has_body = true;
                Content::Message
            }
            (HTTP_BODY, DATA) => {
                // Of a field that comes twice the last counts.
                self.broken |= self.json.is_broken();
                self.json.reset();
                self.request = Request::new(self.table, self.limits);
                Content::Bytes
            }
            _ => Content::Skipped,
        }
    }

    fn bytes(&mut self, run: &[u8]) {
        self.json.feed(run, &mut self.request);
    }

    fn varint(&mut self, _within: u32, _field: u32, _value: u64) {}

    fn end(&mut self, _within: u32, _field: u32) {}
}

impl RequestFields for VertexRequest {
    fn fault(&self) -> Option<ScanError> {
        (self.broken || self.json.is_broken()).then_some(ScanError::Invalid)
    }

    fn check(&self) -> Result<(), ScanError> {
        if !self.has_body {
            return Err(ScanError::MissingField(self.without_body));
        }
        if !self.json.is_complete() {
            return Err(ScanError::Invalid);
        }
        self.request.check().map_err(|error| match error {
            ScanError::MissingField(text) => ScanError::MissingInnerField(text),
            other => other,
        })
    }

    fn into_body(self) -> ScannedBody {
        ScannedBody {
            // The reference carries none, and one inside a message cannot be edited in place.
            model: None,
            model_span: None,
            ..self.request.into_body()
        }
    }
}

/// What Go says of the JSON inside a body that [`VertexRequest`] calls invalid. A cold path: it reads the body again.
pub(super) fn inner_error<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> String {
    let mut data = GrpcRequest::new(Data::default());
    for chunk in chunks {
        // The bytes up to a fault are what is told of.
        let _ = data.feed(chunk);
    }
    go_error(std::iter::once(&data.into_fields().bytes[..]))
}

/// Gathers the JSON.
#[derive(Debug, Default)]
struct Data {
    bytes: Vec<u8>,
    /// The bytes so far are the ones to tell of.
    closed: bool,
}

impl Fields for Data {
    fn begin(&mut self, within: u32, field: u32) -> Content {
        match (within, field) {
            (OUTER, HTTP_BODY) => Content::Message,
            (HTTP_BODY, DATA) => {
                if self.bytes.is_empty() || go_error(std::iter::once(&self.bytes[..])).is_empty() {
                    self.bytes.clear();
                } else {
                    self.closed = true;
                }
                Content::Bytes
            }
            _ => Content::Skipped,
        }
    }

    fn bytes(&mut self, run: &[u8]) {
        if !self.closed {
            self.bytes.extend_from_slice(run);
        }
    }

    fn varint(&mut self, _within: u32, _field: u32, _value: u64) {}

    fn end(&mut self, _within: u32, _field: u32) {}
}

impl RequestFields for Data {
    fn fault(&self) -> Option<ScanError> {
        None
    }

    fn check(&self) -> Result<(), ScanError> {
        Ok(())
    }

    fn into_body(self) -> ScannedBody {
        ScannedBody::default()
    }
}

/// Reads the usage in the `HttpBody`s of a response: each a JSON document, or all together a stream of events.
#[derive(Debug)]
pub(super) struct VertexUsage {
    pub(super) text: TextUsage,
    /// Told by the first byte of the data that is no white space; `None` before it.
    kind: Option<TextKind>,
}

impl VertexUsage {
    /// Before a response.
    pub(super) fn new() -> Self {
        Self {
            text: TextUsage::new(TextKind::Events),
            kind: None,
        }
    }
}

impl Fields for VertexUsage {
    fn begin(&mut self, within: u32, field: u32) -> Content {
        match (within, field) {
            (OUTER, DATA) => Content::Bytes,
            _ => Content::Skipped,
        }
    }

    fn bytes(&mut self, run: &[u8]) {
        if self.kind.is_none() {
            self.kind = run.trim_ascii_start().first().map(|byte| match byte {
                b'{' => TextKind::Json,
                _ => TextKind::Events,
            });
        }
        match self.kind {
            Some(TextKind::Json) => self.text.event(Event::Data(run)),
            Some(TextKind::Events) => self.text.feed(run),
            None => {}
        }
    }

    fn varint(&mut self, _within: u32, _field: u32, _value: u64) {}

    fn end(&mut self, _within: u32, _field: u32) {
        if self.kind == Some(TextKind::Json) {
            self.text.event(Event::End);
        }
    }
}

impl ResponseFields for VertexUsage {
    fn message_ended(&mut self, _valid: bool) {}
}
