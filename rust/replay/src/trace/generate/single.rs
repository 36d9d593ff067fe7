//! Requests that share nothing.

use serde::Deserialize;

use super::random::{Length, check_mean, check_spread, exponential};
use super::{Build, Family, GenerateError, in_range};

/// `no-reuse` (rand8 of the study): short prompts without anything in common.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NoReuse {
    prompt_tokens: f64,
    prompt_spread: f64,
    output_tokens: f64,
    output_spread: f64,
}

impl Default for NoReuse {
    /// Means: `policy.md`, section 2. It names no spread; 1 makes the 90th percentile 2.2 times the mean.
    fn default() -> Self {
        Self {
            prompt_tokens: 220.0,
            prompt_spread: 1.0,
            output_tokens: 180.0,
            output_spread: 1.0,
        }
    }
}

impl Family for NoReuse {
    fn check(&self) -> Result<(), GenerateError> {
        check_mean("prompt_tokens", self.prompt_tokens)?;
        check_spread("prompt_spread", self.prompt_spread)?;
        check_mean("output_tokens", self.output_tokens)?;
        check_spread("output_spread", self.output_spread)
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        let prompt = Length {
            mean: self.prompt_tokens,
            spread: self.prompt_spread,
        };
        let output = Length {
            mean: self.output_tokens,
            spread: self.output_spread,
        };
        let gap = 1.0 / build.common.rate();
        let mut at = 0.0;
        for _ in 0..build.common.requests {
            at += exponential(&mut build.random, gap);
            let tokens = (
                prompt.draw(&mut build.random),
                output.draw(&mut build.random),
            );
            let first = build.prompt(&[], tokens.0)?;
            build.push(at, tokens, first);
        }
        Ok(())
    }
}

/// `sharegpt`: single turns of people's chats.
///
/// Means 220 and 180 tokens as rand8 of `policy.md`; the prompt's spread makes its median 80, as short questions beside long pasted texts do.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct ShareGpt(ShareGptLengths);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ShareGptLengths {
    prompt_tokens: f64,
    prompt_spread: f64,
    output_tokens: f64,
    output_spread: f64,
}

impl Default for ShareGptLengths {
    fn default() -> Self {
        Self {
            prompt_tokens: 220.0,
            prompt_spread: 1.42,
            output_tokens: 180.0,
            output_spread: 1.0,
        }
    }
}

impl ShareGpt {
    fn lengths(&self) -> NoReuse {
        NoReuse {
            prompt_tokens: self.0.prompt_tokens,
            prompt_spread: self.0.prompt_spread,
            output_tokens: self.0.output_tokens,
            output_spread: self.0.output_spread,
        }
    }
}

impl Family for ShareGpt {
    fn check(&self) -> Result<(), GenerateError> {
        self.lengths().check()
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        self.lengths().fill(build)
    }
}

/// `skewed` (skew8 of the study): a few very long prompts among short ones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Skewed {
    short_tokens: f64,
    long_tokens: f64,
    /// Of the requests, 0 to 1.
    long_share: f64,
    prompt_spread: f64,
    output_tokens: f64,
    output_spread: f64,
}

impl Default for Skewed {
    /// Prompts: `policy.md`, section 2. It names no outputs.
    fn default() -> Self {
        Self {
            short_tokens: 500.0,
            long_tokens: 60_000.0,
            long_share: 0.1,
            prompt_spread: 0.1,
            output_tokens: 200.0,
            output_spread: 0.5,
        }
    }
}

impl Family for Skewed {
    fn check(&self) -> Result<(), GenerateError> {
        check_mean("short_tokens", self.short_tokens)?;
        check_mean("long_tokens", self.long_tokens)?;
        in_range(
            (0.0..=1.0).contains(&self.long_share),
            "long_share",
            "from 0 to 1",
        )?;
        check_spread("prompt_spread", self.prompt_spread)?;
        check_mean("output_tokens", self.output_tokens)?;
        check_spread("output_spread", self.output_spread)
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        let output = Length {
            mean: self.output_tokens,
            spread: self.output_spread,
        };
        let gap = 1.0 / build.common.rate();
        let mut at = 0.0;
        for _ in 0..build.common.requests {
            at += exponential(&mut build.random, gap);
            let long = build.random.f64() < self.long_share;
            let prompt = Length {
                mean: if long {
                    self.long_tokens
                } else {
                    self.short_tokens
                },
                spread: self.prompt_spread,
            };
            let tokens = (
                prompt.draw(&mut build.random),
                output.draw(&mut build.random),
            );
            let first = build.prompt(&[], tokens.0)?;
            build.push(at, tokens, first);
        }
        Ok(())
    }
}
