//! What of an answer passes by here, and so what its exchange can teach of the endpoint that gave it.

use super::message::{BodyMode, ProtocolConfig};
use super::reply::can_override;

/// Whether the bytes of an answer come here as the model server sends them: only then is the first of them a first token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sight {
    /// They do not, or all at once at the end.
    #[default]
    Hidden,
    /// They do, as this answer was drawn (`response_sample`).
    Sampled,
    /// They do, as those of all answers.
    Every,
}

/// An answer whose headers have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) protocol: ProtocolConfig,
    /// Envoy was told with the request not to send the body; where it may not be told, it does all the same.
    pub(super) declined: bool,
    /// It is streamed, and not an error.
    pub(super) streams: bool,
    /// A body follows the headers.
    pub(super) has_body: bool,
}

impl Answer {
    /// The body comes here without being asked for, as far as Envoy's configuration goes.
    pub(super) fn body_follows(self) -> bool {
        self.protocol.response_body_mode != BodyMode::None
    }
}

/// What is asked of Envoy for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its body, though it would not come here, to read its usage.
    pub(super) usage: bool,
    /// Its body, though it would not come here, as it was drawn.
    pub(super) sample: bool,
    /// Its body in pieces instead of all at once.
    pub(super) pieces: bool,
}

impl Asked {
    /// `draw`: whether this answer is one of the share that is watched; called only where it could be.
    pub(super) fn of(answer: Answer, wants_usage: bool, draw: impl FnOnce() -> bool) -> Self {
        if !answer.has_body || !can_override(answer.protocol) {
            return Self::default();
        }
        let mode = answer.protocol.response_body_mode;
        let buffered = matches!(mode, BodyMode::Buffered | BodyMode::BufferedPartial);
        let hidden = answer.declined || !answer.body_follows();
        let usage = wants_usage && !answer.body_follows();
        Self {
            usage,
            sample: answer.streams && hidden && !usage && draw(),
            // Events that Envoy collects to the end are no stream any more.
            pieces: answer.streams && buffered && !answer.declined,
        }
    }

    /// Whether anything is.
    pub(super) fn any(self) -> bool {
        self.usage || self.sample || self.pieces
    }
}

impl Sight {
    /// What is seen of an answer, once Envoy was asked.
    pub(super) fn of(answer: Answer, asked: Asked) -> Self {
        let in_pieces = matches!(
            answer.protocol.response_body_mode,
            BodyMode::Streamed | BodyMode::FullDuplexStreamed
        );
        if !answer.streams {
            Self::Hidden
        } else if asked.sample {
            Self::Sampled
        } else if asked.usage || asked.pieces || in_pieces {
            Self::Every
        } else {
            Self::Hidden
        }
    }
}
