//! A policy as a configuration writes it, and what can be wrong with it.

use std::fmt;

use serde::Deserialize;

use crate::plugin::{PluginError, PluginSpec};

/// Plugins and profiles as a configuration writes them, complete; the JSON form is what `warmroute.config` writes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Every plugin.
    pub plugins: Vec<PluginSpec>,
    /// The profiles; at least one.
    pub profiles: Vec<ProfileSpec>,
    /// Name of the saturation detector by which sheddable requests are refused; `None`: none are.
    #[serde(default)]
    pub saturation_detector: Option<String>,
    /// Types of the parsers, in order; `None`: those that read the HTTP APIs, and the fallback.
    #[serde(default)]
    pub parsers: Option<Vec<String>>,
    /// Smallest block of the prefix index in tokens; smaller ones are raised to it. Engines use 16; larger blocks cost a fraction and
    /// lose at most one block of a match. The reference's approximate index raises to 64.
    #[serde(default = "default_min_block_tokens")]
    pub min_block_tokens: u32,
}

/// One scheduling profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSpec {
    /// Unique.
    pub name: String,
    /// Filters, scorers and at most one picker, in order.
    pub plugins: Vec<ProfilePlugin>,
}

/// A plugin's place in a profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilePlugin {
    /// Its name.
    pub plugin: String,
    /// Of a scorer, at least 0; 1 when absent.
    #[serde(default)]
    pub weight: Option<f64>,
}

fn default_min_block_tokens() -> u32 {
    64
}

impl PolicySpec {
    /// One profile of scorers without parameters.
    pub fn of_scorers(scorers: &[(&str, f64)]) -> Self {
        Self {
            plugins: scorers
                .iter()
                .map(|(name, _)| PluginSpec::of_type(name))
                .collect(),
            profiles: vec![ProfileSpec {
                name: "default".to_owned(),
                plugins: scorers
                    .iter()
                    .map(|(name, weight)| ProfilePlugin {
                        plugin: (*name).to_owned(),
                        weight: Some(*weight),
                    })
                    .collect(),
            }],
            saturation_detector: None,
            parsers: None,
            min_block_tokens: default_min_block_tokens(),
        }
    }

    /// What decides when nothing is configured: the marginal latency cost of `policy.md`, token form.
    pub fn default_policy() -> Self {
        Self::of_scorers(&[("marginal-latency-scorer", 1.0)])
    }

    /// What the reference does when nothing is configured: queue 2, KV cache utilisation 2, prefix 3.
    pub fn reference_policy() -> Self {
        Self::of_scorers(&[
            ("queue-scorer", 2.0),
            ("kv-cache-utilization-scorer", 2.0),
            ("prefix-cache-scorer", 3.0),
        ])
    }
}

/// A policy that cannot be built.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyError {
    /// A plugin cannot be built.
    Plugin(PluginError),
    /// A profile is wrong.
    Profile {
        /// Its name.
        profile: Box<str>,
        /// What is wrong.
        problem: Box<str>,
    },
    /// What is wrong is said of no profile.
    Other(Box<str>),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin(error) => error.fmt(formatter),
            Self::Profile { profile, problem } => {
                write!(formatter, "profile `{profile}`: {problem}")
            }
            Self::Other(problem) => formatter.write_str(problem),
        }
    }
}

impl std::error::Error for PolicyError {}

impl From<PluginError> for PolicyError {
    fn from(error: PluginError) -> Self {
        Self::Plugin(error)
    }
}
