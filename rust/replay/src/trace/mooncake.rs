//! The Mooncake format: one JSON object a line. Recorded decisions are a superset of it.
//!
//! Source: github.com/kvcache-ai/Mooncake, FAST'25 traces: `timestamp` (ms), `input_length`, `output_length`, `hash_ids` of blocks of 512 tokens.
//! Beyond it: `unit_tokens` (or `block_size`) where blocks have another size, `after` (number of the request, from 0, whose end this one waits
//! for; `timestamp` is then the pause), `lora`. Lines without `input_length` are headers of a recording.

use std::fmt::Write as _;

use hashbrown::HashMap;
use serde::Deserialize;

use super::granularity::granularity;
use super::{AFTER_NOTHING, LineProblem, MOST_BLOCKS, Request, Trace, TraceError};

/// Tokens in a block where a file does not say.
pub const UNIT_TOKENS: u32 = 512;

/// A trace as read, and what the reader left out of it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The requests.
    pub trace: Trace,
    /// Header lines of a recording, as they are.
    pub headers: Vec<String>,
    /// Requests left out because their prompt or answer has no tokens. Those that wait for one of them wait for what it waited for.
    pub dropped: u32,
    /// Requests of which nobody knows how long the answer was: they have the mean of the others.
    pub unknown_outputs: u32,
}

#[derive(Deserialize)]
struct Line {
    timestamp: Option<f64>,
    input_length: Option<u32>,
    output_length: Option<u32>,
    hash_ids: Option<Vec<u64>>,
    unit_tokens: Option<u32>,
    block_size: Option<u32>,
    /// Of a recording's header.
    block_tokens: Option<u32>,
    after: Option<u32>,
    lora: Option<String>,
}

/// What was read so far.
struct Reader {
    trace: Trace,
    unit_tokens: Option<u32>,
    headers: Vec<String>,
    /// By the number of a request in the file: its index in the trace, or for one that was left out that of the one it waited for.
    indexes: Vec<u32>,
    adapters: HashMap<String, u16>,
    dropped: u32,
    /// Requests whose answer's length is not known.
    unknown: Vec<u32>,
}

/// Reads a trace.
///
/// # Errors
/// The first line that is no request, by its number; a text without requests.
pub fn read(text: &str, name: &str) -> Result<Reading, TraceError> {
    let mut reader = Reader {
        trace: Trace {
            name: name.to_owned(),
            unit_tokens: UNIT_TOKENS,
            granularity: 0.0,
            requests: Vec::new(),
            blocks: Vec::new(),
            loras: Vec::new(),
        },
        unit_tokens: None,
        headers: Vec::new(),
        indexes: Vec::new(),
        adapters: HashMap::new(),
        dropped: 0,
        unknown: Vec::new(),
    };
    for (number, text) in text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        reader.line(text).map_err(|problem| TraceError::Line {
            line: number + 1,
            problem,
        })?;
        if reader.trace.blocks.len() > MOST_BLOCKS {
            return Err(TraceError::TooLong);
        }
    }
    reader.finish()
}

/// The same trace as text. Times are rounded to a thousandth of a millisecond.
pub fn write(trace: &Trace) -> String {
    let mut text = String::with_capacity(trace.requests.len() * 96);
    for request in &trace.requests {
        let milliseconds = (request.at * 1e6).round() / 1e3;
        let _ = write!(
            text,
            "{{\"timestamp\": {milliseconds}, \"input_length\": {}, \"output_length\": {}, \"hash_ids\": [",
            request.prompt_tokens, request.output_tokens
        );
        for (index, id) in trace.blocks_of(request).iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let _ = write!(text, "{comma}{id}");
        }
        text.push(']');
        if trace.unit_tokens != UNIT_TOKENS {
            let _ = write!(text, ", \"unit_tokens\": {}", trace.unit_tokens);
        }
        if request.after != AFTER_NOTHING {
            let _ = write!(text, ", \"after\": {}", request.after);
        }
        if request.lora > 0 {
            let lora = &trace.loras[usize::from(request.lora) - 1];
            let _ = write!(
                text,
                ", \"lora\": {}",
                serde_json::Value::from(lora.as_str())
            );
        }
        text.push_str("}\n");
    }
    text
}

impl Reader {
    fn line(&mut self, text: &str) -> Result<(), LineProblem> {
        let line: Line = serde_json::from_str(text).map_err(LineProblem::Json)?;
        let told = line.unit_tokens.or(line.block_size).or(line.block_tokens);
        if let Some(found) = told {
            let before = self.unit_tokens;
            // What no line said so far was taken for the default.
            let taken = before.or((!self.indexes.is_empty()).then_some(UNIT_TOKENS));
            if found == 0 || taken.is_some_and(|taken| taken != found) {
                return Err(LineProblem::Unit {
                    found,
                    before: taken,
                });
            }
            self.unit_tokens = told;
        }
        if line.input_length.is_none() && line.hash_ids.is_none() && line.timestamp.is_none() {
            self.headers.push(text.to_owned());
            return Ok(());
        }
        self.request(line)
    }

    fn request(&mut self, line: Line) -> Result<(), LineProblem> {
        let input_length = line
            .input_length
            .ok_or(LineProblem::Missing("input_length"))?;
        let hash_ids = line.hash_ids.ok_or(LineProblem::Missing("hash_ids"))?;
        let timestamp = line.timestamp.ok_or(LineProblem::Missing("timestamp"))?;
        if !timestamp.is_finite() || timestamp < 0.0 {
            return Err(LineProblem::Timestamp(timestamp));
        }
        let after = match line.after {
            None => AFTER_NOTHING,
            Some(after) => *self
                .indexes
                .get(after as usize)
                .ok_or(LineProblem::After(after))?,
        };
        let unit_tokens = self.unit_tokens.unwrap_or(UNIT_TOKENS);
        let expected = input_length.div_ceil(unit_tokens) as usize;
        if hash_ids.len() != expected {
            return Err(LineProblem::Blocks {
                found: hash_ids.len(),
                expected,
                input_length,
                unit_tokens,
            });
        }
        if input_length == 0 || line.output_length == Some(0) {
            self.indexes.push(after);
            self.dropped += 1;
            return Ok(());
        }
        let index = self.trace.requests.len() as u32;
        self.indexes.push(index);
        if line.output_length.is_none() {
            self.unknown.push(index);
        }
        let lora = line.lora.map_or(Ok(0), |lora| self.adapter(lora))?;
        self.trace.requests.push(Request {
            at: timestamp / 1e3,
            after,
            prompt_tokens: input_length,
            output_tokens: line.output_length.unwrap_or(0),
            first_block: self.trace.blocks.len() as u32,
            block_count: expected as u32,
            lora,
        });
        self.trace.blocks.extend_from_slice(&hash_ids);
        Ok(())
    }

    fn adapter(&mut self, name: String) -> Result<u16, LineProblem> {
        if let Some(number) = self.adapters.get(&name) {
            return Ok(*number);
        }
        let number =
            u16::try_from(self.trace.loras.len() + 1).map_err(|_| LineProblem::Adapters)?;
        self.trace.loras.push(name.clone());
        self.adapters.insert(name, number);
        Ok(number)
    }

    fn finish(mut self) -> Result<Reading, TraceError> {
        let requests = &mut self.trace.requests;
        if requests.is_empty() {
            return Err(TraceError::Empty);
        }
        let known = requests.len() - self.unknown.len();
        if !self.unknown.is_empty() {
            if known == 0 {
                return Err(TraceError::NoOutputs);
            }
            let sum: u64 = requests
                .iter()
                .map(|request| u64::from(request.output_tokens))
                .sum();
            let mean = (sum as f64 / known as f64).round() as u32;
            for index in &self.unknown {
                requests[*index as usize].output_tokens = mean.max(1);
            }
        }
        let open = requests
            .iter()
            .filter(|request| request.after == AFTER_NOTHING);
        self.trace.granularity = granularity(open.map(|request| request.at).collect());
        self.trace.unit_tokens = self.unit_tokens.unwrap_or(UNIT_TOKENS);
        Ok(Reading {
            trace: self.trace,
            headers: self.headers,
            dropped: self.dropped,
            unknown_outputs: self.unknown.len() as u32,
        })
    }
}

#[cfg(test)]
mod tests;
