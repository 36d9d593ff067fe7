//! Why a request is not forwarded, and the answer that says so.

use std::borrow::Cow;

use bytes::Bytes;

use super::headers::names;
use super::message::ImmediateReply;

/// A request that the picker answers itself. Rendered once, in [`Refusal::reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the body is not what the path needs. The text follows the reference's wording.
    BadRequest(String),
    /// 413: the body is larger than the configured limit, in bytes.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// 503: the pool (or the subset that the gateway allows) has no endpoint.
    NoCandidates,
    /// 503: screeners left nothing.
    Screened(String),
    /// 429: filters left nothing.
    Exhausted(String),
    /// 429: the profile handler names no profile. Says nothing of the pool, so no reason header goes with it.
    NoProfile,
    /// 429: the pool is saturated and the request can be dropped.
    Shed,
    /// 412: the client wants an answer only from a warm cache, and there is none.
    NotCached,
    /// 500: an admitter said no; the status is the reference's.
    NotAdmitted(String),
}

impl Refusal {
    /// Name of the error in metrics (`error_code`) and in the body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::TooLarge { .. } => "PayloadTooLarge",
            Self::NoCandidates | Self::Screened(_) => "ServiceUnavailable",
            Self::Exhausted(_) | Self::NoProfile | Self::Shed => "ResourceExhausted",
            Self::NotCached => "PreconditionFailed",
            Self::NotAdmitted(_) => "Internal",
        }
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::TooLarge { .. } => 413,
            Self::NoCandidates | Self::Screened(_) => 503,
            Self::Exhausted(_) | Self::NoProfile | Self::Shed => 429,
            Self::NotCached => 412,
            Self::NotAdmitted(_) => 500,
        }
    }

    /// Value of the header that says why a request was dropped.
    pub fn dropped_reason(&self) -> Option<&'static str> {
        match self {
            Self::NoCandidates | Self::Screened(_) => Some("rejected-no-endpoints"),
            Self::Exhausted(_) => Some("rejected-saturated"),
            Self::BadRequest(_)
            | Self::TooLarge { .. }
            | Self::NoProfile
            | Self::Shed
            | Self::NotCached
            | Self::NotAdmitted(_) => None,
        }
    }

    /// What is wrong, without the code.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::BadRequest(message) | Self::Exhausted(message) | Self::Screened(message) => {
                Cow::Borrowed(message)
            }
            Self::NoProfile => Cow::Borrowed(
                "failed to find target endpoint: no scheduling profile runs for the request",
            ),
            Self::Shed => Cow::Borrowed("system saturated, sheddable request dropped"),
            Self::NotCached => Cow::Borrowed("no decode worker has the requested KV cache"),
            Self::NotAdmitted(reason) => {
                Cow::Owned(format!("request cannot be admitted: {reason}"))
            }
            Self::TooLarge { limit } => {
                Cow::Owned(format!("request body is larger than {limit} bytes"))
            }
            Self::NoCandidates => {
                Cow::Borrowed("failed to find endpoint candidates for serving the request")
            }
        }
    }

    /// The answer: `inference error: <Code> - <message>`, with the reason header where a request was dropped.
    pub fn reply(&self) -> ImmediateReply {
        ImmediateReply {
            status: self.status(),
            headers: self
                .dropped_reason()
                .map(|reason| {
                    (
                        Bytes::from_static(names::DROPPED_REASON.as_bytes()),
                        Bytes::from_static(reason.as_bytes()),
                    )
                })
                .into_iter()
                .collect(),
            body: Bytes::from(format!(
                "inference error: {} - {}",
                self.code(),
                self.message()
            )),
        }
    }
}
