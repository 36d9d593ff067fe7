//! Which parser reads a request: chosen by its path among those that are enabled (`endpoint-picker.md` §4.6).

use super::dialect::Dialect;
use super::{anthropic, openai, sglang, vertexai, vllm, vllm_grpc};

/// A parser as the configuration names it.
#[derive(Debug)]
pub struct ParserKind {
    /// Its `type`.
    pub type_name: &'static str,
    /// What it reads, in one line.
    pub summary: &'static str,
    /// Path suffixes and what they speak; a suffix begins at a `/` or a `.` of the path. Empty: the fallback for every other path.
    pub paths: &'static [(&'static str, Dialect)],
    /// Whether it is enabled where the configuration names no parsers.
    pub default: bool,
    /// Values of the pool's `appProtocol` that it goes with; empty: any.
    pub protocols: &'static [&'static str],
}

const HTTP: &[&str] = &["kubernetes.io/h2c", "http"];
const GRPC: &[&str] = &["kubernetes.io/h2c"];

/// Every parser.
pub const PARSERS: &[ParserKind] = &[
    ParserKind {
        type_name: "openai-parser",
        summary: "OpenAI's API over HTTP: chat completions, completions, embeddings, responses, conversations, image generations.",
        paths: openai::PATHS,
        default: true,
        protocols: HTTP,
    },
    ParserKind {
        type_name: "anthropic-parser",
        summary: "Anthropic's messages over HTTP; token counts are forwarded as they are and their response is not processed.",
        paths: anthropic::PATHS,
        default: true,
        protocols: HTTP,
    },
    ParserKind {
        type_name: "vllmhttp-parser",
        summary: "vLLM's generate over HTTP: token_ids in, token ids out.",
        paths: vllm::PATHS,
        default: true,
        protocols: HTTP,
    },
    ParserKind {
        type_name: "sglanghttp-parser",
        summary: "SGLang's generate over HTTP, with input_ids; requests count under no model.",
        paths: sglang::PATHS,
        default: false,
        protocols: HTTP,
    },
    ParserKind {
        type_name: "vllmgrpc-parser",
        summary: "vLLM's gRPC API, Generate and Embed, not compressed; requests count under no model.",
        paths: vllm_grpc::PATHS,
        default: false,
        protocols: GRPC,
    },
    ParserKind {
        type_name: "vertexai-parser",
        summary: "Vertex AI's gRPC prediction service: an OpenAI body in an HttpBody, not compressed; requests count under no model.",
        paths: vertexai::PATHS,
        default: false,
        protocols: GRPC,
    },
    ParserKind {
        type_name: "passthrough-parser",
        summary: "Any payload on any path that no other parser claims: not read, and counted under no model.",
        paths: &[],
        default: true,
        protocols: &[],
    },
];

/// A configuration names a parser that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownParser {
    /// What it named.
    pub type_name: String,
}

impl std::fmt::Display for UnknownParser {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "unknown parser type {:?}; the parsers are: ",
            self.type_name
        )?;
        for (index, kind) in PARSERS.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{}", kind.type_name)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownParser {}

/// No enabled parser claims a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoParser<'a> {
    /// The path, without its query.
    pub path: &'a str,
}

impl std::fmt::Display for NoParser<'_> {
    /// In the words of the reference.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "no parser registered matching path suffix for: {}",
            self.path
        )
    }
}

impl std::error::Error for NoParser<'_> {}

/// The enabled parsers, in the order of the configuration.
#[derive(Clone, Debug)]
pub struct Parsers {
    kinds: Vec<&'static ParserKind>,
}

impl Default for Parsers {
    /// Those of a configuration that names none.
    fn default() -> Self {
        Self {
            kinds: PARSERS.iter().filter(|kind| kind.default).collect(),
        }
    }
}

impl Parsers {
    /// Parsers by their types. As in the reference, a type that comes again counts once, and what comes after the fallback is
    /// left out; [`Self::types`] tells what remains. Without any, every body is refused.
    ///
    /// # Errors
    /// When a type does not exist.
    pub fn from_types(types: &[&str]) -> Result<Self, UnknownParser> {
        let mut kinds: Vec<&'static ParserKind> = Vec::new();
        for type_name in types {
            let kind = PARSERS
                .iter()
                .find(|kind| kind.type_name == *type_name)
                .ok_or_else(|| UnknownParser {
                    type_name: (*type_name).to_owned(),
                })?;
            let seen = kinds.iter().any(|seen| seen.type_name == kind.type_name);
            let after_fallback = kinds.last().is_some_and(|last| last.paths.is_empty());
            if !seen && !after_fallback {
                kinds.push(kind);
            }
        }
        Ok(Self { kinds })
    }

    /// Every parser there is.
    pub fn all() -> Self {
        Self {
            kinds: PARSERS.iter().collect(),
        }
    }

    /// Types of the parsers, in order.
    pub fn types(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().map(|kind| kind.type_name)
    }

    /// What a path speaks: its longest matching suffix tells, among equal ones that of the parser configured first; else the
    /// fallback, where it is enabled. A query, white space around it and a slash at its end are ignored.
    ///
    /// # Errors
    /// When no enabled parser claims the path.
    pub fn resolve<'a>(&self, path: &'a str) -> Result<Dialect, NoParser<'a>> {
        self.resolve_parser(path).map(|(_, dialect)| dialect)
    }

    /// The same, with the type of the parser.
    ///
    /// # Errors
    /// When no enabled parser claims the path.
    pub fn resolve_parser<'a>(
        &self,
        path: &'a str,
    ) -> Result<(&'static str, Dialect), NoParser<'a>> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let trimmed = path.trim();
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let mut longest = None;
        let mut length = 0;
        for kind in &self.kinds {
            for (suffix, dialect) in kind.paths {
                if suffix.len() > length && ends_with(trimmed, suffix) {
                    length = suffix.len();
                    longest = Some((kind.type_name, *dialect));
                }
            }
        }
        let fallback = || {
            let last = self.kinds.last().filter(|last| last.paths.is_empty())?;
            Some((last.type_name, Dialect::Passthrough))
        };
        longest.or_else(fallback).ok_or(NoParser { path })
    }
}

/// Whether the path ends with the suffix, as a whole: names are parted by slashes, and packages of gRPC services by dots.
fn ends_with(path: &str, suffix: &str) -> bool {
    path.strip_suffix(suffix)
        .is_some_and(|before| before.is_empty() || before.ends_with(['/', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_of_the_path_names_the_dialect() {
        let parsers = Parsers::all();
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAiChat),
            ("/v1/chat/completions?stream=1", Dialect::OpenAiChat),
            ("/v1/chat/completions/?x=/v1/messages", Dialect::OpenAiChat),
            ("chat/completions", Dialect::OpenAiChat),
            ("/v1/chat/completions/render", Dialect::OpenAiChat),
            ("/v1/completions", Dialect::OpenAiCompletions),
            ("/team-a/v1/completions", Dialect::OpenAiCompletions),
            ("/v1/completions/render", Dialect::OpenAiCompletions),
            ("/v1/embeddings", Dialect::OpenAiEmbeddings),
            ("/v1/responses", Dialect::OpenAiResponses),
            ("/v1/conversations", Dialect::OpenAiConversations),
            ("/v1/images/generations", Dialect::OpenAiImages),
            ("/v1/messages", Dialect::AnthropicMessages),
            ("/v1/messages/", Dialect::AnthropicMessages),
            ("/v1/messages/count_tokens", Dialect::AnthropicCountTokens),
            ("/inference/v1/generate", Dialect::VllmGenerate),
            ("/generate", Dialect::SglangGenerate),
            ("/team-a/generate", Dialect::SglangGenerate),
            (
                "/vllm.grpc.engine.VllmEngine/Generate",
                Dialect::VllmGrpcGenerate,
            ),
            ("/vllm.grpc.engine.VllmEngine/Embed", Dialect::VllmGrpcEmbed),
            (
                "/vllm.grpc.engine.VllmEngine/HealthCheck",
                Dialect::Passthrough,
            ),
            (
                "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions",
                Dialect::VertexChatCompletions,
            ),
            (
                "/google.cloud.aiplatform.v1.PredictionService/StreamRawPredict",
                Dialect::VertexStreamRawPredict,
            ),
            (
                "/google.cloud.aiplatform.v1.PredictionService/RawPredict",
                Dialect::VertexRawPredict,
            ),
            ("/v1/models", Dialect::Passthrough),
            ("/v1/mycompletions", Dialect::Passthrough),
            ("/regenerate", Dialect::Passthrough),
            ("", Dialect::Passthrough),
        ] {
            assert_eq!(parsers.resolve(path), Ok(dialect), "{path}");
        }
    }

    #[test]
    fn only_enabled_parsers_claim_paths() {
        let generate = "/inference/v1/generate";
        let openai = "/v1/completions?x=1";
        for (types, path, resolved) in [
            (
                &["sglanghttp-parser"][..],
                generate,
                Some(Dialect::SglangGenerate),
            ),
            (
                &["sglanghttp-parser", "vllmhttp-parser"],
                generate,
                Some(Dialect::VllmGenerate),
            ),
            (&["passthrough-parser"], openai, Some(Dialect::Passthrough)),
            (
                &["passthrough-parser", "openai-parser"],
                openai,
                Some(Dialect::Passthrough),
            ),
            (
                &["openai-parser", "openai-parser", "passthrough-parser"],
                openai,
                Some(Dialect::OpenAiCompletions),
            ),
            (&["anthropic-parser"], openai, None),
            (&[], openai, None),
        ] {
            let parsers = Parsers::from_types(types).expect("known types");
            assert_eq!(parsers.resolve(path).ok(), resolved, "{types:?} {path}");
        }
        let only = Parsers::from_types(&["anthropic-parser"]).expect("known type");
        assert_eq!(
            only.resolve(openai).expect_err("not claimed").to_string(),
            "no parser registered matching path suffix for: /v1/completions"
        );
    }

    #[test]
    fn without_configuration_the_http_parsers_and_the_fallback_are_enabled() {
        let types: Vec<_> = Parsers::default().types().collect();
        assert_eq!(
            types,
            [
                "openai-parser",
                "anthropic-parser",
                "vllmhttp-parser",
                "passthrough-parser"
            ]
        );
    }

    #[test]
    fn an_unknown_type_is_told_with_those_that_exist() {
        let error = Parsers::from_types(&["openai-parser", "openai"]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "unknown parser type \"openai\"; the parsers are: openai-parser, anthropic-parser, vllmhttp-parser, sglanghttp-parser, vllmgrpc-parser, vertexai-parser, passthrough-parser"
        );
    }

    #[test]
    fn no_two_parsers_claim_the_same_suffix() {
        let mut suffixes: Vec<_> = PARSERS
            .iter()
            .flat_map(|kind| kind.paths)
            .map(|(suffix, _)| suffix)
            .collect();
        suffixes.sort_unstable();
        let all = suffixes.len();
        suffixes.dedup();
        assert_eq!(suffixes.len(), all);
    }
}
