//! The request scanner: what routing needs of a body, in one pass over its bytes.

use std::ops::Range;

use super::capture::{Key, TooLong, Value};
use super::dialect::{Dialect, Format};
use super::frame::FrameFault;
use super::grpc::GrpcRequest;
use super::handler::{Handler, Literal};
use super::json::Json;
use super::media::{MediaTokens, Medium};
use super::nesting::Container;
pub use super::prompt::MAX_SEQUENCES;
use super::prompt::{MainValue, Prompt, float};
use super::protobuf::WireFault;
use super::sequence::Limits;
use super::table::{Field, MAX_TOKENS_RANKS, Requires, Table};
use super::vertexai::VertexRequest;
use super::vllm_grpc::VllmRequest;

/// Bounds of a scan, and what it takes for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Tokens in a block; 4 bytes of text count as one token.
    pub block_tokens: u32,
    /// Blocks kept of a sequence.
    pub max_blocks: usize,
    /// Containers inside each other; Go's own limit is 10,000.
    pub max_depth: usize,
    /// What media count as.
    pub media: MediaTokens,
}

impl ScanLimits {
    /// Depth at which Go's `encoding/json` gives up.
    pub const GO_DEPTH: usize = 10_000;

    /// How a sequence is cut into blocks.
    fn sequence(self) -> Limits {
        Limits {
            block_tokens: self.block_tokens,
            max_blocks: self.max_blocks,
        }
    }
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            block_tokens: 64,
            max_blocks: usize::MAX,
            max_depth: Self::GO_DEPTH,
            media: MediaTokens::DEFAULT,
        }
    }
}

/// What a body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScannedBody {
    /// The model, if it is a string.
    pub model: Option<Box<str>>,
    /// Where its value stands in the body, quotes included.
    pub model_span: Option<Range<usize>>,
    /// Whether the answer streams.
    pub stream: bool,
    /// The client's limit on output tokens.
    pub max_tokens: Option<u32>,
    /// Salt that parts the caches of tenants.
    pub cache_salt: Option<Box<str>>,
    /// Block ids (not yet chained) of each prompt of the request.
    pub sequences: Vec<Vec<u64>>,
    /// Tokens of all prompts: exact where the body carries token ids, else bytes / 4.
    pub prompt_tokens: u32,
    /// Different pictures, films and sounds in it.
    pub media: Vec<Medium>,
    /// The prompts are token ids already, all of them.
    pub is_token_ids: bool,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// No JSON object; [`super::go_error`] says what is wrong with it.
    Invalid,
    /// An object or a message, but not one of this dialect; the text says what is missing.
    MissingField(&'static str),
    /// The same of the JSON inside a message.
    MissingInnerField(&'static str),
    /// No gRPC frame that can be read.
    Frame(FrameFault),
    /// No protobuf message.
    Message(WireFault),
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid => formatter.write_str("the body is not a JSON object"),
            Self::MissingField(text) | Self::MissingInnerField(text) => formatter.write_str(text),
            Self::Frame(fault) => fault.fmt(formatter),
            Self::Message(fault) => fault.fmt(formatter),
        }
    }
}

impl std::error::Error for ScanError {}

/// Said of a model or salt that no engine would take.
const TOO_LONG: &str = "invalid request: model and cache_salt must have at most 4096 bytes";

/// Reads a request body in pieces; memory does not grow with it, but for the block ids.
#[derive(Debug)]
pub struct BodyScanner {
    reader: Reader,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one, and an allocation of its own would cost each request"
)]
enum Reader {
    /// The body is not read.
    Raw,
    Json(Json, Request),
    VllmGrpc(GrpcRequest<VllmRequest>),
    VertexAi(Box<GrpcRequest<VertexRequest>>),
}

impl BodyScanner {
    /// A scanner for one body.
    pub fn new(dialect: Dialect, limits: ScanLimits) -> Self {
        let reader = match dialect.format() {
            Format::Raw => Reader::Raw,
            Format::Json(table) => {
                Reader::Json(Json::new(limits.max_depth), Request::new(table, limits))
            }
            Format::VllmGrpc(call) => {
                Reader::VllmGrpc(GrpcRequest::new(VllmRequest::new(call, limits.sequence())))
            }
            Format::VertexAi(table, without_body) => {
                let request = VertexRequest::new(table, limits, without_body);
                Reader::VertexAi(Box::new(GrpcRequest::new(request)))
            }
        };
        Self { reader }
    }

    /// Reads the next piece, of any size.
    ///
    /// # Errors
    /// As soon as the bytes so far cannot begin any body of the dialect's format (then [`super::refusal`] of them names the same
    /// fault as of the whole body); each later call fails as well. What is JSON but no object is told only by `finish`.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        match &mut self.reader {
            Reader::Raw => Ok(()),
            Reader::Json(json, request) => {
                json.feed(piece, request);
                if json.is_broken() {
                    Err(ScanError::Invalid)
                } else {
                    Ok(())
                }
            }
            Reader::VllmGrpc(message) => message.feed(piece),
            Reader::VertexAi(message) => message.feed(piece),
        }
    }

    /// The body ended.
    ///
    /// # Errors
    /// When it is not of the dialect's format, or lacks what the dialect requires. A missing model is no error here.
    pub fn finish(self) -> Result<ScannedBody, ScanError> {
        match self.reader {
            Reader::Raw => Ok(ScannedBody::default()),
            Reader::Json(json, request) => {
                if !json.is_complete() {
                    return Err(ScanError::Invalid);
                }
                request.check()?;
                Ok(request.into_body())
            }
            Reader::VllmGrpc(message) => message.finish(),
            Reader::VertexAi(message) => message.finish(),
        }
    }

    /// Only this much of the body will be seen: what was found so far, unchecked.
    pub fn finish_prefix(self) -> ScannedBody {
        match self.reader {
            Reader::Raw => ScannedBody::default(),
            Reader::Json(_, request) => request.into_body(),
            Reader::VllmGrpc(message) => message.into_body(),
            Reader::VertexAi(message) => message.into_body(),
        }
    }
}

/// Sorts what the tokenizer finds by the dialect's table.
#[derive(Debug)]
pub(super) struct Request {
    table: &'static Table,
    /// Containers open inside the top-level value being read.
    level: usize,
    field: Field,
    key: Key,
    value: Value,
    string_start: usize,
    model: Option<Result<Box<str>, TooLong>>,
    model_span: Option<Range<usize>>,
    stream: bool,
    max_tokens: [Option<u32>; MAX_TOKENS_RANKS],
    cache_salt: Option<Result<Box<str>, TooLong>>,
    salt_is_no_string: bool,
    prompt: Prompt,
}

impl Request {
    /// Before a document.
    pub(super) fn new(table: &'static Table, limits: ScanLimits) -> Self {
        Self {
            table,
            level: 0,
            field: Field::Ignored,
            key: Key::new(),
            value: Value::default(),
            string_start: 0,
            model: None,
            model_span: None,
            stream: false,
            max_tokens: [None; MAX_TOKENS_RANKS],
            cache_salt: None,
            salt_is_no_string: false,
            prompt: Prompt::new(limits.sequence(), limits.media),
        }
    }

    /// Whether the document, now whole, has what its dialect requires.
    pub(super) fn check(&self) -> Result<(), ScanError> {
        if matches!(self.model, Some(Err(TooLong))) || matches!(self.cache_salt, Some(Err(TooLong)))
        {
            return Err(ScanError::MissingField(TOO_LONG));
        }
        if self.salt_is_no_string
            && let Some(text) = self.table.salt_requirement
        {
            return Err(ScanError::MissingField(text));
        }
        let value = self.prompt.main_value();
        let enough = match self.table.requires {
            Requires::Nothing => true,
            Requires::TextOrList => matches!(
                value,
                MainValue::Text | MainValue::EmptyList | MainValue::List
            ),
            Requires::List => matches!(value, MainValue::EmptyList | MainValue::List),
            Requires::FilledList => value == MainValue::List,
        };
        if enough {
            Ok(())
        } else {
            Err(ScanError::MissingField(self.table.requirement(value)))
        }
    }

    /// What was found.
    pub(super) fn into_body(self) -> ScannedBody {
        let is_token_ids = self.prompt.is_token_ids();
        let (sequences, tokens, media) = self.prompt.finish();
        ScannedBody {
            model: self.model.and_then(Result::ok),
            model_span: self.model_span,
            stream: self.stream,
            max_tokens: self.max_tokens.into_iter().flatten().next(),
            cache_salt: self.cache_salt.and_then(Result::ok),
            sequences,
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            media,
            is_token_ids,
        }
    }

    /// A top-level key was read: the last of duplicates counts, so what an earlier one said is forgotten.
    fn begin_field(&mut self) {
        match self.field {
            Field::Model => {
                self.model = None;
                self.model_span = None;
            }
            Field::Stream => self.stream = false,
            Field::CacheSalt => {
                self.cache_salt = None;
                // Until its value shows another kind.
                self.salt_is_no_string = true;
            }
            Field::MaxTokens(rank) => self.max_tokens[rank] = None,
            Field::SamplingParameters(_) => self.max_tokens[0] = None,
            Field::Prompt(segment, shape) => self.prompt.start(segment, shape),
            Field::Ignored => {}
        }
    }
}

impl Handler for Request {
    fn begin_key(&mut self) -> bool {
        self.key.clear();
        match (self.level, self.field) {
            (0, _) | (1, Field::SamplingParameters(_)) => true,
            (_, Field::Prompt(..)) => self.prompt.begin_key(),
            _ => false,
        }
    }

    fn end_key(&mut self) {
        match (self.level, self.field) {
            (0, _) => {
                self.field = self.table.field(self.key.bytes());
                self.begin_field();
            }
            (_, Field::Prompt(..)) => self.prompt.end_key(self.table.key_class(self.key.bytes())),
            _ => {}
        }
    }

    fn begin_string(&mut self, at: usize) -> bool {
        self.string_start = at;
        match self.field {
            Field::Model | Field::CacheSalt => self.level == 0,
            Field::Prompt(..) => self.prompt.begin_string(),
            _ => false,
        }
    }

    fn end_string(&mut self, end: usize) {
        match (self.level, self.field) {
            (0, Field::Model) => {
                self.model = Some(self.value.take());
                self.model_span = Some(self.string_start..end);
            }
            (0, Field::CacheSalt) => {
                self.cache_salt = Some(self.value.take());
                self.salt_is_no_string = false;
            }
            (_, Field::Prompt(..)) => self.prompt.end_string(),
            _ => {}
        }
    }

    fn text(&mut self, run: &[u8], of_key: bool) {
        if of_key {
            // Keys of tools are part of the prompt, others are only compared.
            if self.level == 0
                || !matches!(self.field, Field::Prompt(..))
                || !self.prompt.key_text(run)
            {
                self.key.push(run);
            }
        } else if matches!(self.field, Field::Prompt(..)) {
            self.prompt.text(run);
        } else {
            self.value.push(run);
        }
    }

    fn number(&mut self, text: &[u8], value: Option<u64>) {
        match (self.level, self.field) {
            (0, Field::MaxTokens(rank)) => self.max_tokens[rank] = token_limit(text),
            (1, Field::SamplingParameters(name)) if self.key.bytes() == name => {
                self.max_tokens[0] = token_limit(text);
            }
            (_, Field::Prompt(..)) => self.prompt.number(text, value),
            _ => {}
        }
    }

    fn literal(&mut self, literal: Literal) {
        match (self.level, self.field) {
            (0, Field::Stream) => self.stream = literal == Literal::True,
            (0, Field::CacheSalt) => self.salt_is_no_string = literal != Literal::Null,
            (_, Field::Prompt(..)) => self.prompt.literal(match literal {
                Literal::Null => None,
                Literal::True => Some(b"true"),
                Literal::False => Some(b"false"),
            }),
            _ => {}
        }
    }

    fn open(&mut self, container: Container) {
        if matches!(self.field, Field::Prompt(..)) {
            self.prompt.open(container);
        }
        self.level += 1;
    }

    fn close(&mut self) {
        if matches!(self.field, Field::Prompt(..)) {
            self.prompt.close();
        }
        self.level -= 1;
    }
}

/// A limit on output tokens; `None` for what is no count.
fn token_limit(text: &[u8]) -> Option<u32> {
    float(text)
        .filter(|value| *value >= 0.0)
        .map(|value| value as u32)
}
