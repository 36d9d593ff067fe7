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
    /// 429: filters left nothing.
    Exhausted(String),
}

impl Refusal {
    /// Name of the error in metrics (`error_code`) and in the body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::TooLarge { .. } => "PayloadTooLarge",
            Self::NoCandidates => "ServiceUnavailable",
            Self::Exhausted(_) => "ResourceExhausted",
        }
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::TooLarge { .. } => 413,
            Self::NoCandidates => 503,
            Self::Exhausted(_) => 429,
        }
    }

    /// Value of the header that says why a request was dropped.
    pub fn dropped_reason(&self) -> Option<&'static str> {
        match self {
            Self::NoCandidates => Some("rejected-no-endpoints"),
            Self::Exhausted(_) => Some("rejected-saturated"),
            Self::BadRequest(_) | Self::TooLarge { .. } => None,
        }
    }

    /// What is wrong, without the code.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::BadRequest(message) | Self::Exhausted(message) => Cow::Borrowed(message),
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
