//! Generated traces: the workloads of the policy study (`policy.md`, section 2) and three more, each with its own parameters.

mod adapters;
mod prefixes;
mod random;
mod sessions;
mod single;

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{AFTER_NOTHING, MOST_BLOCKS, Request, Trace};

/// The workloads by name.
pub const WORKLOADS: [&str; 9] = [
    "shared-prefix",
    "zipf",
    "few-groups",
    "no-reuse",
    "sharegpt",
    "skewed",
    "chat",
    "agent",
    "lora-mix",
];

/// Most requests of a generated trace; a longer one is repeated instead.
const MOST_REQUESTS: u32 = 10_000_000;

/// A workload that cannot be generated.
#[derive(Debug)]
pub enum GenerateError {
    /// Not a JSON object of the expected form.
    Json(serde_json::Error),
    /// `workload` is missing or names none.
    Workload(Option<String>),
    /// A parameter out of its range.
    Range {
        /// The parameter.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// More block ids than [`MOST_BLOCKS`].
    TooLong,
}

impl fmt::Display for GenerateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(formatter, "workload: {error}"),
            Self::Workload(found) => {
                let found = found
                    .as_ref()
                    .map_or_else(|| "is missing".to_owned(), |name| format!("is {name:?}"));
                write!(
                    formatter,
                    "`workload` {found}; expected one of {}",
                    WORKLOADS.join(", ")
                )
            }
            Self::Range { field, expected } => {
                write!(formatter, "workload: {field} must be {expected}")
            }
            Self::TooLong => write!(
                formatter,
                "workload: more than {MOST_BLOCKS} block ids; generate fewer requests and repeat them, or raise unit_tokens"
            ),
        }
    }
}

impl std::error::Error for GenerateError {}

/// What every workload has.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Common {
    /// Requests of the trace.
    requests: u32,
    /// Mean requests a second, all turns of sessions counted; with `seconds` or without both: see [`Common::rate`].
    rate: Option<f64>,
    /// Seconds over which sessions begin.
    seconds: Option<f64>,
    /// Tokens that a block id stands for: those of the engines' KV blocks, so that prefixes part where engines see them part.
    unit_tokens: u32,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            requests: 10_000,
            rate: None,
            seconds: None,
            unit_tokens: 16,
        }
    }
}

impl Common {
    /// Requests a second; 10 where nothing is said (a simulation sets its own).
    fn rate(&self) -> f64 {
        match (self.rate, self.seconds) {
            (Some(rate), _) => rate,
            (None, Some(seconds)) => f64::from(self.requests) / seconds,
            (None, None) => 10.0,
        }
    }

    fn check(&self) -> Result<(), GenerateError> {
        in_range(
            (1..=MOST_REQUESTS).contains(&self.requests),
            "requests",
            "from 1 to 10000000",
        )?;
        in_range(
            self.rate.is_none() || self.seconds.is_none(),
            "rate",
            "absent where seconds is given",
        )?;
        in_range(
            self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()),
            "rate",
            "positive",
        )?;
        in_range(
            self.seconds
                .is_none_or(|seconds| seconds > 0.0 && seconds.is_finite()),
            "seconds",
            "positive",
        )?;
        in_range(
            (1..=1 << 20).contains(&self.unit_tokens),
            "unit_tokens",
            "from 1 to 1048576",
        )
    }
}

/// One family of workloads: its parameters, which make a trace.
trait Family: DeserializeOwned {
    /// Checks the parameters.
    fn check(&self) -> Result<(), GenerateError>;
    /// Adds the requests.
    fn fill(&self, build: &mut Build) -> Result<(), GenerateError>;
}

/// Generates a trace. `settings`: a JSON object with `workload` (a name of [`WORKLOADS`]), `requests` (10,000), `rate` (requests a second, 10)
/// or `seconds`, `unit_tokens` (16), and the workload's own parameters. The same settings and seed give the same trace.
///
/// # Errors
/// Unknown workloads and parameters, values out of range.
pub fn generate(settings: &str, seed: u64) -> Result<Trace, GenerateError> {
    let settings: Map<String, Value> =
        serde_json::from_str(settings).map_err(GenerateError::Json)?;
    from_map(settings, seed)
}

fn from_map(mut settings: Map<String, Value>, seed: u64) -> Result<Trace, GenerateError> {
    let name = match settings.remove("workload") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(GenerateError::Workload(Some(other.to_string()))),
        None => return Err(GenerateError::Workload(None)),
    };
    let mut common = Map::new();
    for field in ["requests", "rate", "seconds", "unit_tokens"] {
        if let Some(value) = settings.remove(field) {
            common.insert(field.to_owned(), value);
        }
    }
    if name == "lora-mix" {
        return adapters::mix(settings, common, seed);
    }
    let common: Common =
        serde_json::from_value(Value::Object(common)).map_err(GenerateError::Json)?;
    common.check()?;
    let mut build = Build {
        common,
        random: fastrand::Rng::with_seed(seed),
        next_id: 0,
        trace: Trace {
            name: name.clone(),
            unit_tokens: common.unit_tokens,
            granularity: 0.0,
            requests: Vec::with_capacity(common.requests as usize),
            blocks: Vec::new(),
            loras: Vec::new(),
        },
    };
    match name.as_str() {
        "shared-prefix" => run::<prefixes::SharedPrefix>(settings, &mut build),
        "zipf" => run::<prefixes::Zipf>(settings, &mut build),
        "few-groups" => run::<prefixes::FewGroups>(settings, &mut build),
        "no-reuse" => run::<single::NoReuse>(settings, &mut build),
        "sharegpt" => run::<single::ShareGpt>(settings, &mut build),
        "skewed" => run::<single::Skewed>(settings, &mut build),
        "chat" => run::<sessions::Chat>(settings, &mut build),
        "agent" => run::<sessions::Agent>(settings, &mut build),
        _ => Err(GenerateError::Workload(Some(name))),
    }?;
    Ok(build.trace)
}

fn run<F: Family>(settings: Map<String, Value>, build: &mut Build) -> Result<(), GenerateError> {
    let family: F = serde_json::from_value(Value::Object(settings)).map_err(GenerateError::Json)?;
    family.check()?;
    family.fill(build)
}

/// A trace that is being made.
struct Build {
    common: Common,
    random: fastrand::Rng,
    next_id: u64,
    trace: Trace,
}

impl Build {
    /// Blocks of so many tokens, the last of which may be partial.
    fn blocks(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.common.unit_tokens)
    }

    /// Appends ids that no other block has.
    fn fresh_blocks(&mut self, count: u32) -> Result<(), GenerateError> {
        if self.trace.blocks.len() + count as usize > MOST_BLOCKS {
            return Err(GenerateError::TooLong);
        }
        let first = self.next_id;
        self.next_id += u64::from(count);
        self.trace.blocks.extend(first..self.next_id);
        Ok(())
    }

    /// Appends the ids of a prompt that begins with whole blocks of `prefix` and then has its own; where they begin.
    fn prompt(&mut self, prefix: &[u64], tokens: u32) -> Result<u32, GenerateError> {
        let first = self.trace.blocks.len() as u32;
        let count = self.blocks(tokens);
        let shared = prefix.len().min(count as usize);
        if self.trace.blocks.len() + shared > MOST_BLOCKS {
            return Err(GenerateError::TooLong);
        }
        self.trace.blocks.extend_from_slice(&prefix[..shared]);
        self.fresh_blocks(count - shared as u32)?;
        Ok(first)
    }

    /// Ids of the whole blocks in a prefix of so many tokens.
    fn prefix(&mut self, tokens: u32) -> Vec<u64> {
        let first = self.next_id;
        self.next_id += u64::from(tokens / self.common.unit_tokens);
        (first..self.next_id).collect()
    }

    fn push(&mut self, at: f64, tokens: (u32, u32), first_block: u32) {
        let (prompt_tokens, output_tokens) = tokens;
        self.trace.requests.push(Request {
            at,
            after: AFTER_NOTHING,
            prompt_tokens,
            output_tokens,
            first_block,
            block_count: self.blocks(prompt_tokens),
            lora: 0,
        });
    }
}

fn in_range(holds: bool, field: &'static str, expected: &'static str) -> Result<(), GenerateError> {
    if holds {
        Ok(())
    } else {
        Err(GenerateError::Range { field, expected })
    }
}

#[cfg(test)]
mod tests;
