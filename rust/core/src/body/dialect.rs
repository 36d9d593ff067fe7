//! The APIs that the scanners understand.

use super::table::Table;
use super::usage::ResponseKind;
use super::vllm_grpc::Call;
use super::{anthropic, openai, sglang, vllm};

/// An API that the scanner understands; which paths speak it is told by [`super::PARSERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `OpenAI` chat completions (and vLLM's render of them).
    OpenAiChat,
    /// `OpenAI` completions (and vLLM's render of them).
    OpenAiCompletions,
    /// `OpenAI` embeddings.
    OpenAiEmbeddings,
    /// `OpenAI` responses.
    OpenAiResponses,
    /// `OpenAI` conversations.
    OpenAiConversations,
    /// `OpenAI` image generation.
    OpenAiImages,
    /// Anthropic messages.
    AnthropicMessages,
    /// Anthropic token counting: nothing is required of the body and its response is not looked at.
    AnthropicCountTokens,
    /// vLLM's token-in, token-out generate.
    VllmGenerate,
    /// `SGLang`'s generate, with token ids.
    SglangGenerate,
    /// vLLM's gRPC Generate.
    VllmGrpcGenerate,
    /// vLLM's gRPC Embed.
    VllmGrpcEmbed,
    /// Vertex AI: chat completions in a gRPC message.
    VertexChatCompletions,
    /// Vertex AI: responses in a gRPC message, answered by a stream.
    VertexStreamRawPredict,
    /// Vertex AI: responses in a gRPC message.
    VertexRawPredict,
    /// Anything else: the body is not read.
    #[default]
    Passthrough,
}

/// How the bodies of a dialect are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// Not at all.
    Raw,
    /// As JSON.
    Json(&'static Table),
    /// As a gRPC message of vLLM.
    VllmGrpc(Call),
    /// As JSON inside a gRPC message; the text is said of a message without any.
    VertexAi(&'static Table, &'static str),
}

impl Dialect {
    /// Every dialect, the fallback last.
    pub const ALL: [Self; 16] = [
        Self::OpenAiChat,
        Self::OpenAiCompletions,
        Self::OpenAiEmbeddings,
        Self::OpenAiResponses,
        Self::OpenAiConversations,
        Self::OpenAiImages,
        Self::AnthropicMessages,
        Self::AnthropicCountTokens,
        Self::VllmGenerate,
        Self::SglangGenerate,
        Self::VllmGrpcGenerate,
        Self::VllmGrpcEmbed,
        Self::VertexChatCompletions,
        Self::VertexStreamRawPredict,
        Self::VertexRawPredict,
        Self::Passthrough,
    ];

    /// Whether its bodies are JSON documents. (Those of the others are gRPC messages, or not read.)
    pub fn is_json(self) -> bool {
        matches!(self.format(), Format::Json(_))
    }

    /// Whether a request without a model is an error. Where it is not, either none is looked for (and the labels of metrics are
    /// empty), or one that is there is found and can be edited all the same.
    pub fn carries_model(self) -> bool {
        matches!(
            self,
            Self::OpenAiChat
                | Self::OpenAiCompletions
                | Self::OpenAiEmbeddings
                | Self::OpenAiResponses
                | Self::OpenAiConversations
                | Self::OpenAiImages
                | Self::AnthropicMessages
                | Self::VllmGenerate
        )
    }

    /// Whether the response is of no interest (no usage, no model to restore).
    pub fn skips_response(self) -> bool {
        self == Self::AnthropicCountTokens
    }

    /// How its responses are framed; those of HTTP APIs tell by their `content-type` whether they are events.
    pub fn response_kind(self, event_stream: bool) -> ResponseKind {
        match self {
            Self::VllmGrpcGenerate => ResponseKind::VllmGenerate,
            Self::VllmGrpcEmbed => ResponseKind::VllmEmbed,
            Self::VertexChatCompletions | Self::VertexStreamRawPredict | Self::VertexRawPredict => {
                ResponseKind::VertexAi
            }
            _ if event_stream => ResponseKind::EventStream,
            _ => ResponseKind::Json,
        }
    }

    /// How its bodies are read.
    pub(super) fn format(self) -> Format {
        match self {
            Self::OpenAiChat => Format::Json(&openai::CHAT),
            Self::OpenAiCompletions => Format::Json(&openai::COMPLETIONS),
            Self::OpenAiEmbeddings => Format::Json(&openai::EMBEDDINGS),
            Self::OpenAiResponses => Format::Json(&openai::RESPONSES),
            Self::OpenAiConversations => Format::Json(&openai::CONVERSATIONS),
            Self::OpenAiImages => Format::Json(&openai::IMAGES),
            Self::AnthropicMessages => Format::Json(&anthropic::MESSAGES),
            Self::AnthropicCountTokens => Format::Json(&anthropic::COUNT_TOKENS),
            Self::VllmGenerate => Format::Json(&vllm::GENERATE),
            Self::SglangGenerate => Format::Json(&sglang::GENERATE),
            Self::VllmGrpcGenerate => Format::VllmGrpc(Call::Generate),
            Self::VllmGrpcEmbed => Format::VllmGrpc(Call::Embed),
            Self::VertexChatCompletions => {
                Format::VertexAi(&openai::CHAT, "ChatCompletionsRequest has no HttpBody")
            }
            Self::VertexStreamRawPredict => Format::VertexAi(
                &openai::RESPONSES,
                "StreamRawPredictRequest has no HttpBody",
            ),
            Self::VertexRawPredict => {
                Format::VertexAi(&openai::RESPONSES, "RawPredictRequest has no HttpBody")
            }
            Self::Passthrough => Format::Raw,
        }
    }

    /// The type of its gRPC message; empty where there is none.
    pub(super) fn message_type(self) -> &'static str {
        match self {
            Self::VllmGrpcGenerate => "GenerateRequest",
            Self::VllmGrpcEmbed => "EmbedRequest",
            Self::VertexChatCompletions => "ChatCompletionsRequest",
            Self::VertexStreamRawPredict => "StreamRawPredictRequest",
            Self::VertexRawPredict => "RawPredictRequest",
            _ => "",
        }
    }
}
