//! What a simulation is told, and what can be wrong with it.

use std::fmt;

use serde::Deserialize;
use warmroute_core::engine::PolicyError;

use crate::hardware::Hardware;

/// How the picker learns what became of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signals {
    /// It sees the first token and the end of every answer, at once.
    #[default]
    FirstToken,
    /// It sees ends, and the engines' counters in the scraped pages.
    Counters,
    /// It sees ends; the pages have no counters.
    Ends,
}

/// A simulation; the JSON form is what `_core.simulate` takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The pool; at least one.
    pub replicas: Vec<Hardware>,
    /// Requests a second that arrivals are compressed or stretched to (all turns of conversations counted); `None`: as recorded.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Only so many requests from the trace's beginning.
    #[serde(default)]
    pub limit: Option<u32>,
    /// How often the trace is played, each time with blocks of its own.
    #[serde(default = "once")]
    pub repeat: u32,
    /// Start of all chance.
    #[serde(default)]
    pub seed: u64,
    /// Between two metrics pages of a replica; 0: only the one at the beginning.
    #[serde(default = "scrape_seconds")]
    pub scrape_seconds: f64,
    /// How the picker learns what became of its requests.
    #[serde(default)]
    pub signals: Signals,
    /// Share of the requests, by arrival, that are left out of the statistics.
    #[serde(default = "warm_up")]
    pub warm_up: f64,
    /// Budget of the picker's prefix index; `None`: a gibibyte, so that the replicas' sizes bound it.
    #[serde(default)]
    pub index_bytes: Option<usize>,
    /// Keep what became of every request.
    #[serde(default)]
    pub details: bool,
    /// Simulated seconds after which it ends, whatever is unfinished.
    #[serde(default)]
    pub stop_after_seconds: Option<f64>,
}

fn once() -> u32 {
    1
}

fn scrape_seconds() -> f64 {
    0.05
}

fn warm_up() -> f64 {
    0.15
}

/// Largest pool: what is found by looking at every replica stays cheap.
const MOST_REPLICAS: usize = 10_000;

/// Most requests of a simulation.
pub(super) const MOST_REQUESTS: u64 = 1 << 30;

/// A simulation that cannot be made, or did not come to its end.
#[derive(Debug)]
pub enum SimulationError {
    /// Settings that are not the JSON expected.
    Settings(serde_json::Error),
    /// A policy that is not the JSON expected.
    PolicyJson(serde_json::Error),
    /// A policy that cannot be built.
    Policy(PolicyError),
    /// A value of the settings out of its range.
    Range {
        /// The field.
        field: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A replica cannot be made.
    Replica {
        /// Its number, from 0.
        replica: usize,
        /// Why.
        problem: String,
    },
    /// It was cancelled.
    Cancelled,
}

impl fmt::Display for SimulationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => write!(formatter, "simulation: {error}"),
            Self::PolicyJson(error) => write!(formatter, "policy: {error}"),
            Self::Policy(error) => error.fmt(formatter),
            Self::Range { field, expected } => {
                write!(formatter, "simulation: {field} must be {expected}")
            }
            Self::Replica { replica, problem } => {
                write!(formatter, "simulation: replicas[{replica}]: {problem}")
            }
            Self::Cancelled => formatter.write_str("simulation: cancelled"),
        }
    }
}

impl std::error::Error for SimulationError {}

impl Settings {
    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// Unknown or ill-typed fields, values out of range.
    pub fn from_json(text: &str) -> Result<Self, SimulationError> {
        let settings: Self = serde_json::from_str(text).map_err(SimulationError::Settings)?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// The first field out of its range.
    pub fn check(&self) -> Result<(), SimulationError> {
        let range = |holds: bool, field: &str, expected: &'static str| {
            if holds {
                Ok(())
            } else {
                Err(SimulationError::Range {
                    field: field.to_owned(),
                    expected,
                })
            }
        };
        let positive = |number: f64| number.is_finite() && number > 0.0;
        range(
            (1..=MOST_REPLICAS).contains(&self.replicas.len()),
            "replicas",
            "from 1 to 10000",
        )?;
        range(self.rate.is_none_or(positive), "rate", "positive or null")?;
        range(self.limit != Some(0), "limit", "at least 1 or null")?;
        range(self.repeat > 0, "repeat", "at least 1")?;
        range(
            self.scrape_seconds.abs() < f64::EPSILON || (1e-3..=1e6).contains(&self.scrape_seconds),
            "scrape_seconds",
            "from 0.001 to 1000000, or 0 for none",
        )?;
        range(
            (0.0..=0.9).contains(&self.warm_up),
            "warm_up",
            "from 0 to 0.9",
        )?;
        range(
            self.stop_after_seconds.is_none_or(positive),
            "stop_after_seconds",
            "positive or null",
        )
    }
}
