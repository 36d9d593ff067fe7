//! Requests in groups that begin with the same long prompt.

use serde::Deserialize;

use super::random::{Length, Popularity, check_mean, check_spread, exponential};
use super::{Build, Family, GenerateError, in_range};

/// `shared-prefix` (shared8 of the study): a fixed set of prompts, each sent again and again in a shuffled order, as inference-perf does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SharedPrefix {
    groups: u32,
    prompts_per_group: u32,
    prefix_tokens: f64,
    question_tokens: f64,
    output_tokens: f64,
}

impl Default for SharedPrefix {
    /// `policy.md`, section 2.
    fn default() -> Self {
        Self {
            groups: 150,
            prompts_per_group: 5,
            prefix_tokens: 6_000.0,
            question_tokens: 1_200.0,
            output_tokens: 1_000.0,
        }
    }
}

impl Family for SharedPrefix {
    fn check(&self) -> Result<(), GenerateError> {
        check_groups(self.groups)?;
        in_range(
            (1..=100_000).contains(&self.prompts_per_group),
            "prompts_per_group",
            "from 1 to 100000",
        )?;
        check_mean("prefix_tokens", self.prefix_tokens)?;
        check_mean("question_tokens", self.question_tokens)?;
        check_mean("output_tokens", self.output_tokens)
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        let prefix_tokens = self.prefix_tokens.round() as u32;
        let prompt_tokens = prefix_tokens + self.question_tokens.round() as u32;
        let output_tokens = self.output_tokens.round() as u32;
        let mut prompts = Vec::new();
        for _ in 0..self.groups {
            let prefix = build.prefix(prefix_tokens);
            for _ in 0..self.prompts_per_group {
                prompts.push(build.prompt(&prefix, prompt_tokens)?);
            }
        }
        build.random.shuffle(&mut prompts);
        let gap = 1.0 / build.common.rate();
        let mut at = 0.0;
        for number in 0..build.common.requests as usize {
            at += exponential(&mut build.random, gap);
            let first = prompts[number % prompts.len()];
            build.push(at, (prompt_tokens, output_tokens), first);
        }
        Ok(())
    }
}

/// `zipf` (zipf8 of the study): many groups, a few of them popular, each request with a question of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Zipf {
    groups: u32,
    exponent: f64,
    prefix_tokens: f64,
    question_tokens: f64,
    question_spread: f64,
    output_tokens: f64,
    output_spread: f64,
}

impl Default for Zipf {
    /// `policy.md`, section 2: "unique ~400, out ~250"; the spreads are ours.
    fn default() -> Self {
        Self {
            groups: 150,
            exponent: 1.0,
            prefix_tokens: 6_000.0,
            question_tokens: 400.0,
            question_spread: 0.5,
            output_tokens: 250.0,
            output_spread: 0.5,
        }
    }
}

impl Family for Zipf {
    fn check(&self) -> Result<(), GenerateError> {
        check_groups(self.groups)?;
        in_range(
            (0.0..=5.0).contains(&self.exponent),
            "exponent",
            "from 0 to 5",
        )?;
        check_mean("prefix_tokens", self.prefix_tokens)?;
        check_mean("question_tokens", self.question_tokens)?;
        check_spread("question_spread", self.question_spread)?;
        check_mean("output_tokens", self.output_tokens)?;
        check_spread("output_spread", self.output_spread)
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        let prefix_tokens = self.prefix_tokens.round() as u32;
        let prefixes: Vec<Vec<u64>> = (0..self.groups)
            .map(|_| build.prefix(prefix_tokens))
            .collect();
        let popularity = Popularity::zipf(self.groups, self.exponent);
        let question = Length {
            mean: self.question_tokens,
            spread: self.question_spread,
        };
        let output = Length {
            mean: self.output_tokens,
            spread: self.output_spread,
        };
        let gap = 1.0 / build.common.rate();
        let mut at = 0.0;
        for _ in 0..build.common.requests {
            at += exponential(&mut build.random, gap);
            let group = popularity.draw(&mut build.random);
            let tokens = (
                prefix_tokens + question.draw(&mut build.random),
                output.draw(&mut build.random),
            );
            let first = build.prompt(&prefixes[group], tokens.0)?;
            build.push(at, tokens, first);
        }
        Ok(())
    }
}

/// `few-groups` (few16 of the study): fewer groups than replicas, all equally popular.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FewGroups {
    groups: u32,
    prefix_tokens: f64,
    question_tokens: f64,
    question_spread: f64,
    output_tokens: f64,
    output_spread: f64,
}

impl Default for FewGroups {
    /// `policy.md`, section 2: "unique ~1,200, out ~300"; the spreads are ours.
    fn default() -> Self {
        Self {
            groups: 4,
            prefix_tokens: 6_000.0,
            question_tokens: 1_200.0,
            question_spread: 0.5,
            output_tokens: 300.0,
            output_spread: 0.5,
        }
    }
}

impl FewGroups {
    fn as_zipf(&self) -> Zipf {
        Zipf {
            groups: self.groups,
            exponent: 0.0,
            prefix_tokens: self.prefix_tokens,
            question_tokens: self.question_tokens,
            question_spread: self.question_spread,
            output_tokens: self.output_tokens,
            output_spread: self.output_spread,
        }
    }
}

impl Family for FewGroups {
    fn check(&self) -> Result<(), GenerateError> {
        self.as_zipf().check()
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        self.as_zipf().fill(build)
    }
}

fn check_groups(groups: u32) -> Result<(), GenerateError> {
    in_range(
        (1..=100_000).contains(&groups),
        "groups",
        "from 1 to 100000",
    )
}
