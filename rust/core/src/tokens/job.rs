//! Tokenisation as work for the host: what it is given, and what it gives back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};
use crate::Nanos;
use crate::body::Dialect;
use crate::stats::{QueuedJob, TokenizeStats};

/// A prompt that is to become tokens, on whatever thread the host has for it. Dropped unrun, it has no effect.
#[derive(Debug)]
pub struct TokenJob {
    tokenizer: Arc<dyn Tokenizer>,
    dialect: Dialect,
    body: Vec<Bytes>,
    target_model: Box<str>,
    clock: fn() -> Nanos,
    /// Counts as queued as long as it lives.
    queued: QueuedJob,
}

/// Somebody waits for a [`TokenJob`]; dropped before its answer came, the request counts as `abandoned`.
#[derive(Debug)]
pub struct Awaited {
    /// `None` once it is counted.
    stats: Option<Arc<TokenizeStats>>,
    since: Nanos,
    clock: fn() -> Nanos,
}

impl Awaited {
    /// Counts what came.
    pub fn answered(mut self, answer: &TokenAnswer) {
        let Some(stats) = self.stats.take() else {
            return;
        };
        stats.answered(answer.outcome(), answer.took());
        if let Some(error) = answer.error() {
            stats.failed(answer.outcome(), &error.to_string());
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let Some(stats) = self.stats.take() else {
            return;
        };
        let waited = (self.clock)() - self.since;
        stats.answered("abandoned", waited);
        let text = format!(
            "the gateway or its client waited no longer than {:.1} s",
            waited.as_secs_f64()
        );
        stats.failed("abandoned", &text);
    }
}

/// What came of a [`TokenJob`].
#[derive(Debug)]
pub struct TokenAnswer {
    tokens: Result<Vec<TokenSequence>, TokenizeError>,
    took: Duration,
    panicked: bool,
}

impl TokenJob {
    /// A job for a `body` as the engine will get it; shares its bytes. Counts in `stats` as queued until it runs or is dropped.
    pub fn new(
        tokenizer: Arc<dyn Tokenizer>,
        dialect: Dialect,
        body: Vec<Bytes>,
        target_model: &str,
        clock: fn() -> Nanos,
        stats: &Arc<TokenizeStats>,
    ) -> Self {
        Self {
            tokenizer,
            dialect,
            body,
            target_model: target_model.into(),
            clock,
            queued: stats.enqueue(),
        }
    }

    /// Who waits for it.
    pub fn awaited(&self) -> Awaited {
        Awaited {
            stats: Some(Arc::clone(self.queued.stats())),
            since: (self.clock)(),
            clock: self.clock,
        }
    }

    /// Asks the tokenizer: may take milliseconds, or as long as a model server takes. A tokenizer that panics is told in the answer.
    pub fn run(self) -> TokenAnswer {
        let Self {
            tokenizer,
            dialect,
            body,
            target_model,
            clock,
            queued,
        } = self;
        drop(queued);
        let begun = clock();
        let request = TokenRequest {
            dialect,
            body: &body,
            target_model: &target_model,
        };
        // Moved inside: the last one to know a tokenizer ends it, which may fail as well.
        let outcome = catch_unwind(AssertUnwindSafe(move || tokenizer.tokenize(&request)));
        let panicked = outcome.is_err();
        TokenAnswer {
            tokens: outcome
                .unwrap_or_else(|_| Err(TokenizeError::Unavailable("the tokenizer failed".into()))),
            took: clock() - begun,
            panicked,
        }
    }
}

impl TokenAnswer {
    /// Of a job that no thread had room for.
    pub fn busy() -> Self {
        Self::failed(TokenizeError::Busy)
    }

    /// Of a job that was not run.
    pub fn failed(error: TokenizeError) -> Self {
        Self {
            tokens: Err(error),
            took: Duration::ZERO,
            panicked: false,
        }
    }

    /// The tokenizer panicked, so this is no answer of its own.
    pub fn panicked(&self) -> bool {
        self.panicked
    }

    /// How long the tokenizer took; zero for a job that was not run.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// As a label of metrics: `ok`, `panicked`, or the reason of the error.
    pub fn outcome(&self) -> &'static str {
        match &self.tokens {
            Err(_) if self.panicked => "panicked",
            Err(error) => error.reason(),
            Ok(_) => "ok",
        }
    }

    /// Why there are no tokens.
    pub fn error(&self) -> Option<&TokenizeError> {
        self.tokens.as_ref().err()
    }

    /// The tokens of each prompt.
    ///
    /// # Errors
    /// Why there are none.
    pub fn into_tokens(self) -> Result<Vec<TokenSequence>, TokenizeError> {
        self.tokens
    }
}
