//! vLLM's gRPC API: `vllm.grpc.engine.VllmEngine`, Generate and Embed.
//!
//! Source of the field numbers: `vllm_engine.proto` of vLLM's gRPC server (`GenerateRequest`, `TokenizedInput`, `SamplingParams`,
//! `EmbedRequest`, `GenerateResponse`, `EmbedResponse`).

use super::Dialect;
use super::grpc::{RequestFields, ResponseFields};
use super::protobuf::{Content, Fields, OUTER};
use super::scan::{ScanError, ScannedBody};
use super::sequence::{Limits, Sequence};
use super::usage_text::Counts;

/// Path suffixes.
pub(super) const PATHS: &[(&str, Dialect)] = &[
    (
        "vllm.grpc.engine.VllmEngine/Generate",
        Dialect::VllmGrpcGenerate,
    ),
    ("vllm.grpc.engine.VllmEngine/Embed", Dialect::VllmGrpcEmbed),
];

/// The calls that carry a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Generate,
    Embed,
}

/// `tokenized` of both requests, and `input_ids` in it.
const TOKENIZED: u32 = 2;
const INPUT_IDS: u32 = 2;
/// `text`, `sampling_params` and `stream` of a `GenerateRequest`; `max_tokens` of the parameters.
const TEXT: u32 = 3;
const SAMPLING_PARAMETERS: u32 = 4;
const STREAM: u32 = 5;
const MAX_TOKENS: u32 = 8;

/// Which input a request has: the last one in the message, as they exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Missing,
    Text,
    Tokens,
}

/// Reads a `GenerateRequest` or an `EmbedRequest`.
#[derive(Debug)]
pub(super) struct VllmRequest {
    call: Call,
    limits: Limits,
    input: Input,
    prompt: Sequence,
    stream: bool,
    max_tokens: Option<u32>,
}

impl VllmRequest {
    /// Before a message.
    pub(super) fn new(call: Call, limits: Limits) -> Self {
        Self {
            call,
            limits,
            input: Input::Missing,
            prompt: Sequence::new(limits),
            stream: false,
            max_tokens: None,
        }
    }

    fn start(&mut self, input: Input) {
        if self.input != Input::Missing {
            self.prompt = Sequence::new(self.limits);
        }
        self.input = input;
    }
}

impl Fields for VllmRequest {
    fn begin(&mut self, within: u32, field: u32) -> Content {
        match (self.call, within, field) {
            (_, OUTER, TOKENIZED) => {
                // The same message field twice is one message in two parts.
                if self.input != Input::Tokens {
                    self.start(Input::Tokens);
                }
                Content::Message
            }
            (_, TOKENIZED, INPUT_IDS) => Content::Varints,
            (Call::Generate, OUTER, TEXT) => {
                self.start(Input::Text);
                self.prompt.begin_leaf();
                Content::Bytes
            }
            (Call::Generate, OUTER, SAMPLING_PARAMETERS) => Content::Message,
            _ => Content::Skipped,
        }
    }

    fn bytes(&mut self, run: &[u8]) {
        self.prompt.push(run);
    }

    fn varint(&mut self, within: u32, field: u32, value: u64) {
        match (self.call, within, field) {
            (_, TOKENIZED, INPUT_IDS) => self.prompt.push_token(value as u32),
            (Call::Generate, OUTER, STREAM) => self.stream = value != 0,
            (Call::Generate, SAMPLING_PARAMETERS, MAX_TOKENS) => {
                self.max_tokens = Some(value as u32);
            }
            _ => {}
        }
    }

    fn end(&mut self, _within: u32, _field: u32) {}
}

impl RequestFields for VllmRequest {
    fn fault(&self) -> Option<ScanError> {
        None
    }

    fn check(&self) -> Result<(), ScanError> {
        match (self.input, self.call) {
            (Input::Missing, Call::Generate) => {
                Err(ScanError::MissingField("not supported request inputType"))
            }
            (Input::Missing, Call::Embed) => Err(ScanError::MissingField(
                "missing tokenized input in EmbedRequest",
            )),
            (Input::Text | Input::Tokens, _) => Ok(()),
        }
    }

    fn into_body(mut self) -> ScannedBody {
        let (sequences, tokens) = if self.input == Input::Missing {
            (Vec::new(), 0)
        } else {
            let (blocks, tokens) = self.prompt.finish(self.limits);
            (vec![blocks], tokens)
        };
        ScannedBody {
            media: Vec::new(),
            stream: self.stream,
            max_tokens: self.max_tokens,
            sequences,
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            ..ScannedBody::default()
        }
    }
}

/// `chunk` and `complete` of a `GenerateResponse`; token ids are field 1 of both.
const CHUNK: u32 = 1;
const COMPLETE: u32 = 2;
const TOKEN_IDS: u32 = 1;
/// `prompt_tokens` of an `EmbedResponse`.
const EMBED_PROMPT_TOKENS: u32 = 2;

/// What messages of a response say.
#[derive(Debug, Default)]
pub(super) struct Reported {
    pub(super) counts: Counts,
    /// There are tokens.
    pub(super) content: bool,
    /// The last message is there.
    pub(super) complete: bool,
}

/// Reads `GenerateResponse`s or an `EmbedResponse`.
#[derive(Debug)]
pub(super) struct VllmUsage {
    call: Call,
    /// By the message being read.
    message: Reported,
    /// By the messages before it.
    pub(super) total: Reported,
    pub(super) messages: u64,
}

impl VllmUsage {
    /// Before a response.
    pub(super) fn new(call: Call) -> Self {
        Self {
            call,
            message: Reported::default(),
            total: Reported::default(),
            messages: 0,
        }
    }
}

impl Fields for VllmUsage {
    fn begin(&mut self, within: u32, field: u32) -> Content {
        match (self.call, within, field) {
            (Call::Generate, OUTER, CHUNK) => Content::Message,
            (Call::Generate, OUTER, COMPLETE) => {
                self.message.complete = true;
                Content::Message
            }
            (Call::Generate, CHUNK | COMPLETE, TOKEN_IDS) => Content::Varints,
            _ => Content::Skipped,
        }
    }

    fn bytes(&mut self, _run: &[u8]) {}

    fn varint(&mut self, within: u32, field: u32, value: u64) {
        let counts = &mut self.message.counts;
        match (self.call, within, field) {
            (Call::Generate, CHUNK | COMPLETE, TOKEN_IDS) => self.message.content = true,
            (Call::Generate, CHUNK, 2) | (Call::Generate, COMPLETE, 3) => {
                counts.input = Some(value);
            }
            (Call::Generate, CHUNK, 3) | (Call::Generate, COMPLETE, 4) => {
                counts.output = Some(value);
            }
            (Call::Generate, CHUNK, 4) | (Call::Generate, COMPLETE, 5) => {
                counts.cached = Some(value);
            }
            (Call::Embed, OUTER, EMBED_PROMPT_TOKENS) => counts.input = Some(value),
            _ => {}
        }
    }

    fn end(&mut self, _within: u32, _field: u32) {}
}

impl ResponseFields for VllmUsage {
    fn message_ended(&mut self, valid: bool) {
        let message = std::mem::take(&mut self.message);
        if valid {
            self.total.counts.merge(message.counts);
            self.total.content |= message.content;
            self.total.complete |= message.complete;
            self.messages += 1;
        }
    }
}
