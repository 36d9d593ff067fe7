//! Which API a request speaks, told by its path.

use super::table::Table;
use super::{anthropic, openai, vllm};

/// An API that the scanner understands; one row of the parser table (`endpoint-picker.md` §4.6) each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Anything else: the body is not read.
    Passthrough,
}

impl Dialect {
    /// Every dialect, the fallback last.
    pub const ALL: [Self; 10] = [
        Self::OpenAiChat,
        Self::OpenAiCompletions,
        Self::OpenAiEmbeddings,
        Self::OpenAiResponses,
        Self::OpenAiConversations,
        Self::OpenAiImages,
        Self::AnthropicMessages,
        Self::AnthropicCountTokens,
        Self::VllmGenerate,
        Self::Passthrough,
    ];

    /// The dialect of a request path, all dialects enabled. A query is ignored; the longest matching suffix wins.
    pub fn for_path(path: &str) -> Self {
        Self::for_path_among(path, |_| true).unwrap_or(Self::Passthrough)
    }

    /// The same among the dialects for which `enabled` holds; `None` when the path has no dialect and passthrough is off.
    pub fn for_path_among(path: &str, enabled: impl Fn(Self) -> bool) -> Option<Self> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        [openai::PATHS, anthropic::PATHS, vllm::PATHS]
            .into_iter()
            .flatten()
            .filter(|(suffix, dialect)| path.ends_with(suffix) && enabled(*dialect))
            .max_by_key(|(suffix, _)| suffix.len())
            .map(|(_, dialect)| *dialect)
            .or_else(|| enabled(Self::Passthrough).then_some(Self::Passthrough))
    }

    /// The parser's type name in a configuration.
    pub fn parser_type(self) -> &'static str {
        match self {
            Self::OpenAiChat
            | Self::OpenAiCompletions
            | Self::OpenAiEmbeddings
            | Self::OpenAiResponses
            | Self::OpenAiConversations
            | Self::OpenAiImages => "openai-parser",
            Self::AnthropicMessages | Self::AnthropicCountTokens => "anthropic-parser",
            Self::VllmGenerate => "vllmhttp-parser",
            Self::Passthrough => "passthrough-parser",
        }
    }

    /// Whether a request without a model is an error. (A model that is there is found and can be edited either way.)
    pub fn carries_model(self) -> bool {
        !matches!(self, Self::Passthrough | Self::AnthropicCountTokens)
    }

    /// Whether the response is of no interest (no usage, no model to restore).
    pub fn skips_response(self) -> bool {
        matches!(self, Self::AnthropicCountTokens)
    }

    /// How its bodies are read; `None` for the one that is not read.
    pub(super) fn table(self) -> Option<&'static Table> {
        match self {
            Self::OpenAiChat => Some(&openai::CHAT),
            Self::OpenAiCompletions => Some(&openai::COMPLETIONS),
            Self::OpenAiEmbeddings => Some(&openai::EMBEDDINGS),
            Self::OpenAiResponses => Some(&openai::RESPONSES),
            Self::OpenAiConversations => Some(&openai::CONVERSATIONS),
            Self::OpenAiImages => Some(&openai::IMAGES),
            Self::AnthropicMessages => Some(&anthropic::MESSAGES),
            Self::AnthropicCountTokens => Some(&anthropic::COUNT_TOKENS),
            Self::VllmGenerate => Some(&vllm::GENERATE),
            Self::Passthrough => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_of_the_path_names_the_dialect() {
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAiChat),
            ("/v1/chat/completions?stream=1", Dialect::OpenAiChat),
            ("/v1/chat/completions/render", Dialect::OpenAiChat),
            ("/v1/completions", Dialect::OpenAiCompletions),
            ("/team-a/v1/completions", Dialect::OpenAiCompletions),
            ("/v1/completions/render", Dialect::OpenAiCompletions),
            ("/v1/embeddings", Dialect::OpenAiEmbeddings),
            ("/v1/responses", Dialect::OpenAiResponses),
            ("/v1/conversations", Dialect::OpenAiConversations),
            ("/v1/images/generations", Dialect::OpenAiImages),
            ("/v1/messages", Dialect::AnthropicMessages),
            ("/v1/messages/count_tokens", Dialect::AnthropicCountTokens),
            ("/inference/v1/generate", Dialect::VllmGenerate),
            ("/v1/models", Dialect::Passthrough),
            ("/v1/mycompletions", Dialect::Passthrough),
            ("", Dialect::Passthrough),
        ] {
            assert_eq!(Dialect::for_path(path), dialect, "{path}");
        }
    }

    #[test]
    fn a_disabled_dialect_falls_back_to_the_next_or_to_none() {
        let without_chat = |dialect| dialect != Dialect::OpenAiChat;
        assert_eq!(
            Dialect::for_path_among("/v1/chat/completions", without_chat),
            Some(Dialect::OpenAiCompletions)
        );
        let only_messages = |dialect| dialect == Dialect::AnthropicMessages;
        assert_eq!(
            Dialect::for_path_among("/v1/completions", only_messages),
            None
        );
    }
}
