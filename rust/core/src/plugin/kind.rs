//! What is known of a type of plugin before any is built: the registry, its documentation and the checks of a configuration are made from this.

use super::parameters::{ParameterError, Parameters};
use super::parts::Parts;

/// Where a plugin takes part in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Removes candidates of a profile.
    Filter,
    /// Rates candidates of a profile.
    Scorer,
    /// Chooses among the rated candidates of a profile.
    Picker,
    /// Names the profile that runs.
    ProfileHandler,
    /// Makes data that other plugins consume.
    Producer,
    /// Removes candidates before any profile runs.
    Screener,
    /// Refuses requests before any profile runs.
    Admitter,
    /// Acts on the choice before the request is forwarded.
    PreRequest,
    /// Adds to the headers of the response.
    ResponseReceived,
    /// Acts at the end of the response.
    ResponseComplete,
    /// Tells how loaded the pool is.
    SaturationDetector,
}

impl Role {
    /// Every role, in the order in which a request meets them.
    pub const ALL: &[Self] = &[
        Self::Producer,
        Self::Screener,
        Self::SaturationDetector,
        Self::Admitter,
        Self::ProfileHandler,
        Self::Filter,
        Self::Scorer,
        Self::Picker,
        Self::PreRequest,
        Self::ResponseReceived,
        Self::ResponseComplete,
    ];

    /// In words, as error messages and the documentation name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Scorer => "scorer",
            Self::Picker => "picker",
            Self::ProfileHandler => "profile handler",
            Self::Producer => "data producer",
            Self::Screener => "screener",
            Self::Admitter => "admitter",
            Self::PreRequest => "pre-request",
            Self::ResponseReceived => "response received",
            Self::ResponseComplete => "response complete",
            Self::SaturationDetector => "saturation detector",
        }
    }
}

/// How settled a type is. Alpha types need `--allow-experimental-plugins`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// May change or go.
    Alpha,
    /// Kept.
    Beta,
}

/// Data that one plugin makes and others consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Leading blocks of the prompt that each endpoint holds.
    PrefixMatch,
    /// Requests and tokens on their way to each endpoint.
    InFlightLoad,
    /// The prompt as tokens, exact or estimated.
    TokenizedPrompt,
    /// Id of the session that a request belongs to.
    SessionId,
    /// Share of a request's media that each endpoint's encoder has cached.
    EncoderMatch,
    /// Whose agent sent a request.
    AgentIdentity,
    /// Numbers of endpoints by key.
    EndpointAttributes,
}

impl Data {
    /// Every kind of data.
    pub const ALL: &[Self] = &[
        Self::PrefixMatch,
        Self::InFlightLoad,
        Self::TokenizedPrompt,
        Self::SessionId,
        Self::EncoderMatch,
        Self::AgentIdentity,
        Self::EndpointAttributes,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrefixMatch => "prefix match",
            Self::InFlightLoad => "in-flight load",
            Self::TokenizedPrompt => "tokenized prompt",
            Self::SessionId => "session id",
            Self::EncoderMatch => "encoder cache match",
            Self::AgentIdentity => "agent identity",
            Self::EndpointAttributes => "endpoint attributes",
        }
    }

    /// Type of the plugin that is added where a configuration has none that makes it.
    pub fn default_producer(self) -> &'static str {
        match self {
            Self::PrefixMatch => "approx-prefix-cache-producer",
            Self::InFlightLoad => "inflight-load-producer",
            Self::TokenizedPrompt => "token-producer",
            Self::SessionId => "session-id-producer",
            Self::EncoderMatch => "mm-embeddings-cache-producer",
            Self::AgentIdentity => "agent-identity",
            Self::EndpointAttributes => "core-metrics-extractor",
        }
    }

    /// Whether several plugins of a configuration may make it, each its own.
    pub fn has_several_producers(self) -> bool {
        matches!(
            self,
            Self::PrefixMatch | Self::SessionId | Self::AgentIdentity | Self::EndpointAttributes
        )
    }
}

/// What a parameter's value looks like in JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// True or false.
    Boolean,
    /// A whole number within the bounds.
    Integer {
        /// Smallest.
        least: i64,
        /// Largest.
        most: i64,
    },
    /// A finite number within the bounds.
    Number {
        /// Smallest.
        least: f64,
        /// Largest; infinite: no bound.
        most: f64,
    },
    /// A string that is not empty.
    Text,
    /// Any string.
    AnyText,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A list of strings that are not empty.
    Texts,
    /// An object of strings.
    TextMap,
    /// Name of a plugin that makes this data.
    ProducerName(Data),
    /// An object with these fields.
    Object(&'static [ParameterKind]),
    /// A list of objects with these fields.
    Objects(&'static [ParameterKind]),
}

/// One parameter of a type of plugin, or a field inside of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterKind {
    /// Field under `parameters`.
    pub name: &'static str,
    /// What it looks like.
    pub shape: Shape,
    /// Value when it is absent, as JSON; `null`: it has none and may be left out; empty: it has to be given.
    pub default: &'static str,
    /// Unit of a number; empty: none.
    pub unit: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What to write instead, for a parameter that is still read.
    pub deprecated: Option<&'static str>,
}

impl ParameterKind {
    /// To be completed: `ParameterKind { name: …, ..ParameterKind::BASE }`. Optional, without default and unit.
    pub const BASE: Self = Self {
        name: "",
        shape: Shape::Text,
        default: "null",
        unit: "",
        summary: "",
        deprecated: None,
    };
}

/// A type of plugin.
#[derive(Clone, Copy, Debug)]
pub struct PluginKind {
    /// `type` in the configuration.
    pub type_name: &'static str,
    /// Where it takes part.
    pub roles: &'static [Role],
    /// How settled it is.
    pub stability: Stability,
    /// What to write instead, for a type that is still built.
    pub deprecated: Option<&'static str>,
    /// One line.
    pub summary: &'static str,
    /// Its parameters.
    pub parameters: &'static [ParameterKind],
    /// Data it needs: a producer is added where the configuration has none.
    pub consumes: &'static [Data],
    /// Data it makes.
    pub produces: Option<Data>,
    /// Makes one from checked parameters.
    pub build: fn(&Parameters<'_>) -> Result<Parts, ParameterError>,
}

impl PluginKind {
    /// To be completed: `PluginKind { type_name: …, ..PluginKind::BASE }`. Beta, without parameters and without a part in anything.
    pub const BASE: Self = Self {
        type_name: "",
        roles: &[],
        stability: Stability::Beta,
        deprecated: None,
        summary: "",
        parameters: &[],
        consumes: &[],
        produces: None,
        build: |_| Ok(Parts::default()),
    };
}
