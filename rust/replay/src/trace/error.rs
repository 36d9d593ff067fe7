//! What can be wrong with a trace's text.

use std::fmt;

/// A trace that cannot be read.
#[derive(Debug)]
pub enum TraceError {
    /// A line is wrong.
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// No line is a request.
    Empty,
    /// No request of a recording tells how long its answer was.
    NoOutputs,
    /// More block ids than [`super::MOST_BLOCKS`].
    TooLong,
}

/// What is wrong with a line.
#[derive(Debug)]
pub enum LineProblem {
    /// Not a JSON object of the expected form.
    Json(serde_json::Error),
    /// A field that every request has is missing.
    Missing(&'static str),
    /// Another number of block ids than the prompt has blocks.
    Blocks {
        /// How many there are.
        found: usize,
        /// How many the prompt has.
        expected: usize,
        /// Tokens of the prompt.
        input_length: u32,
        /// Tokens in a block.
        unit_tokens: u32,
    },
    /// The size of blocks is 0, or differs from that of lines before.
    Unit {
        /// What this line says.
        found: u32,
        /// What lines before said.
        before: Option<u32>,
    },
    /// `after` names no request before this one.
    After(u32),
    /// A time that is negative or no number.
    Timestamp(f64),
    /// More adapters than can be told apart.
    Adapters,
}

impl fmt::Display for TraceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, problem } => write!(formatter, "line {line}: {problem}"),
            Self::Empty => formatter.write_str(
                "no requests: expected one JSON object a line with timestamp, input_length, output_length and hash_ids",
            ),
            Self::NoOutputs => formatter.write_str(
                "no request tells its output_length, so nothing says how long answers take; record with --response-usage",
            ),
            Self::TooLong => write!(
                formatter,
                "more than {} block ids; read a part of the trace, or use larger blocks",
                super::MOST_BLOCKS
            ),
        }
    }
}

impl fmt::Display for LineProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(formatter, "not a request: {error}"),
            Self::Missing(field) => write!(formatter, "`{field}` is missing"),
            Self::Blocks {
                found,
                expected,
                input_length,
                unit_tokens,
            } => write!(
                formatter,
                "{found} hash_ids, expected {expected} (input_length {input_length} / {unit_tokens}, rounded up); \
                 where blocks have another size, say so with `unit_tokens`"
            ),
            Self::Unit {
                found,
                before: Some(before),
            } => write!(
                formatter,
                "blocks of {found} tokens, but lines before have blocks of {before}; a trace has one size"
            ),
            Self::Unit { found, .. } => write!(
                formatter,
                "blocks of {found} tokens; `unit_tokens` is at least 1"
            ),
            Self::After(after) => write!(
                formatter,
                "`after` is {after}, expected the number of a request before this one, from 0"
            ),
            Self::Timestamp(at) => write!(
                formatter,
                "`timestamp` is {at}, expected milliseconds, not negative"
            ),
            Self::Adapters => formatter.write_str("more than 65,534 different adapters"),
        }
    }
}

impl std::error::Error for TraceError {}
