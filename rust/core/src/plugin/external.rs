//! Filters and scorers that are written in another language.

use std::fmt;
use std::sync::Arc;

use crate::pool::Snapshot;
use crate::schedule::Context;

/// A filter or scorer outside of the engine. Called without any of the engine's locks held, so that it may take its time,
/// and bounded in time by itself: a decision waits for the answer.
pub trait External: Send + Sync + fmt::Debug {
    /// One number for each row of the context's candidates: a score, or for a filter 0 to drop the row.
    ///
    /// # Errors
    /// When there is no usable answer; the decision goes on as if the plugin were not configured.
    fn call(
        &self,
        snapshot: &Arc<Snapshot>,
        context: &Context<'_>,
    ) -> Result<Vec<f64>, ExternalFailure>;
}

/// Why an external plugin was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalFailure {
    /// It raised an exception; the text tells which.
    Raised(Box<str>),
    /// It did not answer within its budget.
    TimedOut,
    /// It is still busy with a call that timed out, or has too many calls waiting.
    Busy,
    /// Its answer is not one number a row.
    BadResult(Box<str>),
}

impl ExternalFailure {
    /// As a label of metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Raised(_) => "exception",
            Self::TimedOut => "timeout",
            Self::Busy => "busy",
            Self::BadResult(_) => "bad_result",
        }
    }
}

impl fmt::Display for ExternalFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised(text) | Self::BadResult(text) => formatter.write_str(text),
            Self::TimedOut => formatter.write_str("no answer within its budget"),
            Self::Busy => formatter.write_str("still busy with earlier calls"),
        }
    }
}
