//! The response scanner: token counts, first content and end of a response, in pieces that may part it anywhere.

use super::grpc::GrpcResponse;
use super::usage_text::{TextKind, TextUsage};
use super::vertexai::VertexUsage;
use super::vllm_grpc::{Call, VllmUsage};

/// How a response is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// One JSON object.
    Json,
    /// Server-sent events.
    EventStream,
    /// gRPC: `GenerateResponse`s of vLLM.
    VllmGenerate,
    /// gRPC: an `EmbedResponse` of vLLM.
    VllmEmbed,
    /// gRPC: `HttpBody`s that hold JSON or server-sent events.
    VertexAi,
}

impl ResponseKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Json,
        Self::EventStream,
        Self::VllmGenerate,
        Self::VllmEmbed,
        Self::VertexAi,
    ];
}

/// Tokens of one exchange, as the engine reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// `prompt_tokens` or `input_tokens`; 0 when not reported.
    pub input_tokens: u64,
    /// `completion_tokens` or `output_tokens`; 0 when not reported.
    pub output_tokens: u64,
    /// Of the input, those that came out of the prefix cache; `None` when not reported.
    pub cached_tokens: Option<u64>,
}

/// Reads a response body in pieces, in bounded memory.
#[derive(Debug)]
pub struct UsageScanner {
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Text(TextUsage),
    Vllm(GrpcResponse<VllmUsage>),
    Vertex(GrpcResponse<VertexUsage>),
}

impl UsageScanner {
    /// A scanner for one response.
    pub fn new(kind: ResponseKind) -> Self {
        let vllm = |call| Reader::Vllm(GrpcResponse::new(VllmUsage::new(call)));
        Self {
            reader: match kind {
                ResponseKind::Json => Reader::Text(TextUsage::new(TextKind::Json)),
                ResponseKind::EventStream => Reader::Text(TextUsage::new(TextKind::Events)),
                ResponseKind::VllmGenerate => vllm(Call::Generate),
                ResponseKind::VllmEmbed => vllm(Call::Embed),
                ResponseKind::VertexAi => Reader::Vertex(GrpcResponse::new(VertexUsage::new())),
            },
        }
    }

    /// Reads the next piece, of any size.
    pub fn feed(&mut self, piece: &[u8]) {
        match &mut self.reader {
            Reader::Text(text) => text.feed(piece),
            Reader::Vllm(messages) => messages.feed(piece),
            Reader::Vertex(messages) => messages.feed(piece),
        }
    }

    /// Events with data so far, `[DONE]` left out, or messages of vLLM; of a JSON response, 0.
    pub fn events(&self) -> u64 {
        match &self.reader {
            Reader::Text(text) => text.events(),
            Reader::Vllm(messages) => messages.fields.messages,
            Reader::Vertex(messages) => messages.fields.text.events(),
        }
    }

    /// Whether text, reasoning, tokens or the arguments of a tool call have come. An event that only names the role has none.
    pub fn content_seen(&self) -> bool {
        match &self.reader {
            Reader::Text(text) => text.content_seen(),
            Reader::Vllm(messages) => messages.fields.total.content,
            Reader::Vertex(messages) => messages.fields.text.content_seen(),
        }
    }

    /// Whether the stream said that it is complete: `[DONE]`, or vLLM's last message.
    pub fn done_seen(&self) -> bool {
        match &self.reader {
            Reader::Text(text) => text.done_seen(),
            Reader::Vllm(messages) => messages.fields.total.complete,
            Reader::Vertex(messages) => messages.fields.text.done_seen(),
        }
    }

    /// The usage so far: complete events or messages of a stream (each count as last reported), or what a JSON body has shown.
    pub fn usage(&self) -> Option<Usage> {
        match &self.reader {
            Reader::Text(text) => text.counts(),
            Reader::Vllm(messages) => messages.fields.total.counts,
            Reader::Vertex(messages) => messages.fields.text.counts(),
        }
        .usage()
    }

    /// The response ended, with or without a line break after its last event.
    pub fn finish(self) -> Option<Usage> {
        self.usage()
    }
}
