//! The parameters that the session affinity scorer and filter share.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::bindings::Bindings;
use super::{SessionAffinity, Source, Strategy};
use crate::plugin::{Data, ParameterError, ParameterKind, Parameters, Reference, Shape, Step};
use crate::schedule::RequestAttributes;

const ENCODED_ENDPOINT: &str = "encoded_endpoint_header";
const SESSION_ID: &str = "session_id";
/// Default of both periods, where 0 is given, as in the reference.
const DEFAULT_TTL_SECONDS: f64 = 300.0;
const DEFAULT_SWEEP_SECONDS: f64 = 10.0;

const SOURCE: &[ParameterKind] = &[
    ParameterKind {
        name: "header",
        summary: "Request header that carries the session's id.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "attribute",
        summary: "Request attribute instead of a header: SessionID of session-id-producer, or agent-identity.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "producer",
        summary: "Plugin whose attribute is read; any when absent.",
        ..ParameterKind::BASE
    },
];

/// `strategy`, the configuration of each, and `profileName`.
pub(crate) const PARAMETERS: &[ParameterKind] = &[
    ParameterKind {
        name: "strategy",
        shape: Shape::Choice(&[ENCODED_ENDPOINT, SESSION_ID]),
        default: "\"encoded_endpoint_header\"",
        summary: "How a session is known: by a token in a header that names its endpoint, or by an id that the picker remembers the endpoint of.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "encodedEndpointHeaderConfig",
        shape: Shape::Object(&[ParameterKind {
            name: "header",
            default: "\"x-session-token\"",
            summary: "Request and response header with the base64 of the endpoint's namespace/name.",
            ..ParameterKind::BASE
        }]),
        default: "{}",
        summary: "For strategy encoded_endpoint_header.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "sessionIdConfig",
        shape: Shape::Object(&[
            ParameterKind {
                name: "sources",
                shape: Shape::Objects(SOURCE),
                default: "[{\"header\": \"x-session-id\"}]",
                summary: "Where the session's id is read; the first that is not empty counts. Each has exactly one of header and attribute.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "evictionTtlSeconds",
                shape: Shape::Number {
                    least: 0.0,
                    most: f64::INFINITY,
                },
                default: "300",
                unit: "seconds",
                summary: "How long a session that is not used keeps its endpoint; 0 means the default.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "evictionSweepSeconds",
                shape: Shape::Number {
                    least: 0.0,
                    most: f64::INFINITY,
                },
                default: "10",
                unit: "seconds",
                summary: "How often the memory of sessions that expired is freed; 0 means the default.",
                ..ParameterKind::BASE
            },
        ]),
        default: "{}",
        summary: "For strategy session_id.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "profileName",
        summary: "Profile whose endpoint the session is bound to; the primary one when absent.",
        ..ParameterKind::BASE
    },
];

impl SessionAffinity {
    /// With the plugins whose attributes it reads. Only the configuration of the strategy that is chosen is looked at, as in the reference.
    pub(crate) fn new(
        parameters: &Parameters<'_>,
    ) -> Result<(Self, Vec<Reference>), ParameterError> {
        let strategy = if parameters.text("strategy") == SESSION_ID {
            let config = parameters
                .object("sessionIdConfig")
                .ok_or_else(|| ParameterError::new("sessionIdConfig", "is missing"))?;
            session_id(&config).map_err(|error| error.within("sessionIdConfig", None))?
        } else {
            let config = parameters.object("encodedEndpointHeaderConfig");
            let header = config.map_or("", |config| config.text("header"));
            Strategy::EncodedEndpoint {
                header: Bytes::from(header_name(header)),
            }
        };
        let needs = needs(&strategy);
        let affinity = Self {
            strategy,
            profile: parameters.optional_text("profileName").map(Into::into),
        };
        Ok((affinity, needs))
    }
}

fn needs(strategy: &Strategy) -> Vec<Reference> {
    let Strategy::SessionId { sources, .. } = strategy else {
        return Vec::new();
    };
    let place = |number, field: &str| {
        vec![
            Step::Field("sessionIdConfig".into()),
            Step::Field("sources".into()),
            Step::Index(number),
            Step::Field(field.into()),
        ]
    };
    let read = sources.iter().enumerate();
    read.filter_map(|(number, source)| match source {
        Source::Header(_) => None,
        Source::Attribute { key, producer } => Some(Reference {
            path: place(
                number,
                producer.as_ref().map_or("attribute", |_| "producer"),
            ),
            plugin: producer.clone(),
            produces: match *key {
                RequestAttributes::AGENT_IDENTITY => Data::AgentIdentity,
                _ => Data::SessionId,
            },
        }),
    })
    .collect()
}

fn session_id(config: &Parameters<'_>) -> Result<Strategy, ParameterError> {
    let mut sources = Vec::new();
    for (number, source) in config.objects("sources").enumerate() {
        let source = read_source(&source).map_err(|error| error.within("sources", Some(number)))?;
        sources.push(source);
    }
    if sources.is_empty() {
        sources.push(Source::Header("x-session-id".into()));
    }
    let ttl = period(config, "evictionTtlSeconds", DEFAULT_TTL_SECONDS);
    let sweep = period(config, "evictionSweepSeconds", DEFAULT_SWEEP_SECONDS);
    Ok(Strategy::SessionId {
        sources,
        bindings: Mutex::new(Bindings::new(ttl, sweep)),
    })
}

fn read_source(source: &Parameters<'_>) -> Result<Source, ParameterError> {
    let producer = source.optional_text("producer");
    match (
        source.optional_text("header"),
        source.optional_text("attribute"),
    ) {
        (Some(_), None) if producer.is_some() => Err(ParameterError::new(
            "producer",
            "belongs to an attribute; a header has none",
        )),
        (Some(header), None) => Ok(Source::Header(header_name(header).into())),
        (None, Some(attribute)) => Ok(Source::Attribute {
            key: attribute_key(attribute)?,
            producer: producer.map(Into::into),
        }),
        (Some(_), Some(_)) => Err(ParameterError::new(
            "attribute",
            "exactly one of header and attribute must be given, not both",
        )),
        (None, None) => Err(ParameterError::new(
            "header",
            "exactly one of header and attribute must be given",
        )),
    }
}

/// The reference's own key of the session's id is `SessionIDDataKey`.
fn attribute_key(attribute: &str) -> Result<&'static str, ParameterError> {
    match attribute {
        RequestAttributes::SESSION_ID | "SessionIDDataKey" => Ok(RequestAttributes::SESSION_ID),
        RequestAttributes::AGENT_IDENTITY => Ok(RequestAttributes::AGENT_IDENTITY),
        _ => Err(ParameterError::new(
            "attribute",
            format!(
                "no plugin makes \"{attribute}\"; write \"{}\" (session-id-producer) or \"{}\" (agent-identity)",
                RequestAttributes::SESSION_ID,
                RequestAttributes::AGENT_IDENTITY
            ),
        )),
    }
}

/// As Envoy sends it.
fn header_name(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn period(config: &Parameters<'_>, field: &str, default: f64) -> Duration {
    let seconds = config.number(field);
    let seconds = if seconds > 0.0 { seconds } else { default };
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
