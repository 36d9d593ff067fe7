//! Conversations: each turn's prompt is all that was said before and something new, sent a pause after the answer.

use serde::Deserialize;

use super::random::{Length, check_mean, check_spread, exponential, geometric};
use super::{AFTER_NOTHING, Build, Family, GenerateError, Request, in_range};
use crate::trace::NOMINAL_TOKEN_SECONDS;

/// `chat` (chat8 of the study): people with short questions under one of a few system prompts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chat {
    /// Mean turns of a conversation; geometric.
    turns: f64,
    /// Mean pause, exponential.
    think_seconds: f64,
    system_prompts: u32,
    system_tokens: f64,
    question_tokens: f64,
    question_spread: f64,
    output_tokens: f64,
    output_spread: f64,
    /// Longest prompt: a conversation ends before it.
    max_tokens: u32,
}

impl Default for Chat {
    /// Turns, pauses and system prompts: `policy.md`, section 2. It names neither questions nor answers.
    fn default() -> Self {
        Self {
            turns: 6.0,
            think_seconds: 8.0,
            system_prompts: 8,
            system_tokens: 1_024.0,
            question_tokens: 120.0,
            question_spread: 0.8,
            output_tokens: 200.0,
            output_spread: 0.7,
            max_tokens: 110_000,
        }
    }
}

impl Family for Chat {
    fn check(&self) -> Result<(), GenerateError> {
        in_range(
            (1..=100_000).contains(&self.system_prompts),
            "system_prompts",
            "from 1 to 100000",
        )?;
        check_mean("system_tokens", self.system_tokens)?;
        check_mean("question_tokens", self.question_tokens)?;
        check_spread("question_spread", self.question_spread)?;
        check_mean("output_tokens", self.output_tokens)?;
        check_spread("output_spread", self.output_spread)?;
        self.talk().check()
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        self.talk().fill(build)
    }
}

impl Chat {
    fn talk(&self) -> Talk {
        let question = Length {
            mean: self.question_tokens,
            spread: self.question_spread,
        };
        Talk {
            turns: self.turns,
            think_seconds: self.think_seconds,
            beginnings: self.system_prompts,
            beginning_tokens: self.system_tokens.round() as u32,
            first: question,
            question,
            output: Length {
                mean: self.output_tokens,
                spread: self.output_spread,
            },
            max_tokens: self.max_tokens,
        }
    }
}

/// `agent` (agent8 of the study): programs that call tools, over long contexts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agent {
    /// Mean turns of a session; geometric.
    turns: f64,
    /// Mean pause (the tool's run), exponential.
    think_seconds: f64,
    /// Tokens of the first prompt.
    start_tokens: f64,
    /// Tokens that each turn adds, its answer and the tool's result together.
    turn_tokens: f64,
    output_tokens: f64,
    output_spread: f64,
    /// Of `start_tokens`, those that all sessions have in common; 0: none.
    shared_tokens: u32,
    /// Longest prompt: a session ends before it.
    max_tokens: u32,
}

impl Default for Agent {
    /// `policy.md`, section 2; it names no answers, and nothing that sessions share. With answers of 150 tokens eight H100s carry the load that it
    /// names for them; with 250 the sessions that are open at once no longer fit their caches.
    fn default() -> Self {
        Self {
            turns: 20.0,
            think_seconds: 3.0,
            start_tokens: 14_000.0,
            turn_tokens: 1_200.0,
            output_tokens: 150.0,
            output_spread: 0.5,
            shared_tokens: 0,
            max_tokens: 110_000,
        }
    }
}

impl Family for Agent {
    fn check(&self) -> Result<(), GenerateError> {
        check_mean("start_tokens", self.start_tokens)?;
        check_mean("turn_tokens", self.turn_tokens)?;
        check_mean("output_tokens", self.output_tokens)?;
        check_spread("output_spread", self.output_spread)?;
        in_range(
            self.output_tokens < self.turn_tokens,
            "output_tokens",
            "below turn_tokens, of which it is a part",
        )?;
        in_range(
            f64::from(self.shared_tokens) < self.start_tokens,
            "shared_tokens",
            "below start_tokens",
        )?;
        self.talk().check()
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        self.talk().fill(build)
    }
}

impl Agent {
    fn talk(&self) -> Talk {
        Talk {
            turns: self.turns,
            think_seconds: self.think_seconds,
            beginnings: 1,
            beginning_tokens: self.shared_tokens,
            first: Length {
                mean: self.start_tokens - f64::from(self.shared_tokens),
                spread: 0.3,
            },
            question: Length {
                mean: self.turn_tokens - self.output_tokens,
                spread: 0.5,
            },
            output: Length {
                mean: self.output_tokens,
                spread: self.output_spread,
            },
            max_tokens: self.max_tokens,
        }
    }
}

/// What both families come to.
struct Talk {
    turns: f64,
    think_seconds: f64,
    beginnings: u32,
    beginning_tokens: u32,
    first: Length,
    question: Length,
    output: Length,
    max_tokens: u32,
}

/// A turn before it has its place in the trace.
struct Turn {
    /// When it would come were every answer to take its nominal time.
    nominal: f64,
    /// Number of the turn before, in the order in which turns were made.
    before: u32,
    /// Seconds; see [`Request::at`].
    at: f64,
    tokens: (u32, u32),
    first_block: u32,
}

impl Talk {
    fn check(&self) -> Result<(), GenerateError> {
        in_range(
            (1.0..=10_000.0).contains(&self.turns),
            "turns",
            "from 1 to 10000",
        )?;
        in_range(
            (0.0..=1e6).contains(&self.think_seconds),
            "think_seconds",
            "from 0 to 1000000",
        )?;
        in_range(
            (1..=1 << 24).contains(&self.max_tokens),
            "max_tokens",
            "from 1 to 16777216",
        )
    }

    fn fill(&self, build: &mut Build) -> Result<(), GenerateError> {
        let beginnings: Vec<Vec<u64>> = (0..self.beginnings)
            .map(|_| build.prefix(self.beginning_tokens))
            .collect();
        let requests = build.common.requests as usize;
        let gap = self.turns / build.common.rate();
        let mut start = 0.0;
        let mut turns: Vec<Turn> = Vec::with_capacity(requests);
        while turns.len() < requests {
            start += exponential(&mut build.random, gap);
            let beginning = build.random.usize(..beginnings.len());
            self.session(build, &beginnings[beginning], start, &mut turns)?;
        }
        let mut order: Vec<u32> = (0..turns.len() as u32).collect();
        // A turn comes after the one before it also where both have the same time: it was made later.
        order.sort_by(|left, right| {
            let nominal = |number: u32| turns[number as usize].nominal;
            nominal(*left)
                .total_cmp(&nominal(*right))
                .then(left.cmp(right))
        });
        let mut places = vec![AFTER_NOTHING; turns.len()];
        for (place, number) in order.iter().take(requests).enumerate() {
            places[*number as usize] = place as u32;
            let turn = &turns[*number as usize];
            let (prompt_tokens, output_tokens) = turn.tokens;
            let after = places.get(turn.before as usize).copied();
            build.trace.requests.push(Request {
                at: turn.at,
                after: after.unwrap_or(AFTER_NOTHING),
                prompt_tokens,
                output_tokens,
                first_block: turn.first_block,
                block_count: build.blocks(prompt_tokens),
                lora: 0,
            });
        }
        Ok(())
    }

    /// All turns of a conversation; their prompts are beginnings of one run of blocks.
    fn session(
        &self,
        build: &mut Build,
        beginning: &[u64],
        start: f64,
        turns: &mut Vec<Turn>,
    ) -> Result<(), GenerateError> {
        let count = geometric(&mut build.random, self.turns);
        let first_turn = turns.len();
        let first_block = build.trace.blocks.len() as u32;
        let (mut context, mut nominal) = (self.beginning_tokens, start);
        for number in 0..count {
            let question = if number == 0 {
                self.first
            } else {
                self.question
            };
            let prompt = context + question.draw(&mut build.random);
            let output = self.output.draw(&mut build.random);
            if number > 0 && prompt > self.max_tokens {
                break;
            }
            let prompt = prompt.min(self.max_tokens);
            let at = if number == 0 {
                start
            } else {
                exponential(&mut build.random, self.think_seconds)
            };
            if number > 0 {
                nominal += at;
            }
            let before = if number == 0 {
                AFTER_NOTHING
            } else {
                turns.len() as u32 - 1
            };
            turns.push(Turn {
                nominal,
                before,
                at,
                tokens: (prompt, output),
                first_block,
            });
            nominal += f64::from(output) * NOMINAL_TOKEN_SECONDS;
            context = prompt + output;
        }
        let longest = turns[first_turn..].last().map_or(0, |turn| turn.tokens.0);
        build.prompt(beginning, longest)?;
        Ok(())
    }
}
