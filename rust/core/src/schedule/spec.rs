//! A profile as a configuration writes it.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::parameters::{ParameterError, Parameters};
use super::profile::{NamedFilter, NamedScorer, Profile};
use super::registry::{self, Plugin, Role};

/// Filters, scorers and at most one picker, in order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSpec {
    /// The plugins.
    pub plugins: Vec<PluginSpec>,
}

/// One plugin of a profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSpec {
    /// One of [`super::REGISTRY`].
    #[serde(rename = "type")]
    pub type_name: String,
    /// Unique in the profile; the type when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Of a scorer, at least 0; 1 when absent.
    #[serde(default)]
    pub weight: Option<f64>,
    /// See the type.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
}

/// A profile that cannot be built. `plugin` is the name in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ProfileError {
    /// No such type.
    UnknownType {
        /// Name of the plugin.
        plugin: Box<str>,
        /// The type asked for.
        type_name: Box<str>,
        /// The known type that is spelled most alike.
        nearest: &'static str,
    },
    /// Two plugins of one name.
    DuplicateName {
        /// The name.
        plugin: Box<str>,
    },
    /// A weight on what is no scorer, or one that is negative or no number.
    Weight {
        /// Name of the plugin.
        plugin: Box<str>,
        /// The weight.
        weight: f64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than one picker.
    SecondPicker {
        /// Name of the second one.
        plugin: Box<str>,
    },
    /// A parameter that does not exist or has a wrong value.
    Parameter {
        /// Name of the plugin.
        plugin: Box<str>,
        /// The field and what is wrong.
        error: ParameterError,
    },
}

impl fmt::Display for ProfileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType {
                plugin,
                type_name,
                nearest,
            } => {
                write!(
                    formatter,
                    "plugin `{plugin}`: field `type`: there is no `{type_name}`; did you mean `{nearest}`?"
                )
            }
            Self::DuplicateName { plugin } => write!(
                formatter,
                "plugin `{plugin}`: field `name`: another plugin has this name"
            ),
            Self::Weight {
                plugin,
                weight,
                problem,
            } => write!(
                formatter,
                "plugin `{plugin}`: field `weight`: {weight} {problem}"
            ),
            Self::SecondPicker { plugin } => write!(
                formatter,
                "plugin `{plugin}`: a profile has one picker, this is the second"
            ),
            Self::Parameter { plugin, error } => write!(formatter, "plugin `{plugin}`: {error}"),
        }
    }
}

impl std::error::Error for ProfileError {}

impl PluginSpec {
    fn scorer(type_name: &str, weight: f64) -> Self {
        Self {
            type_name: type_name.to_owned(),
            name: None,
            weight: Some(weight),
            parameters: None,
        }
    }
}

impl ProfileSpec {
    /// What decides when nothing is configured: the marginal latency cost of `policy.md`, token form.
    pub fn default_policy() -> Self {
        Self {
            plugins: vec![PluginSpec::scorer("marginal-latency-scorer", 1.0)],
        }
    }

    /// What the reference does when nothing is configured: queue 2, KV cache utilisation 2, prefix 3.
    pub fn reference_policy() -> Self {
        Self {
            plugins: vec![
                PluginSpec::scorer("queue-scorer", 2.0),
                PluginSpec::scorer("kv-cache-utilization-scorer", 2.0),
                PluginSpec::scorer("prefix-cache-scorer", 3.0),
            ],
        }
    }
}

impl Profile {
    /// Builds the plugins. `max_endpoints`: how many endpoints a decision ranks where the picker has no `maxNumOfEndpoints` of its own; 0 counts as 1.
    ///
    /// Without a picker the best score wins (`max-score-picker`).
    ///
    /// # Errors
    /// The first plugin that cannot be built, by its name, with the field that is wrong.
    pub fn from_spec(spec: &ProfileSpec, max_endpoints: usize) -> Result<Self, ProfileError> {
        let mut filters = Vec::new();
        let mut scorers = Vec::new();
        let mut picker = None;
        let mut names: Vec<&str> = Vec::new();
        for plugin in &spec.plugins {
            let name = plugin.name.as_deref().unwrap_or(&plugin.type_name);
            if names.contains(&name) {
                return Err(ProfileError::DuplicateName {
                    plugin: name.into(),
                });
            }
            names.push(name);
            let (built, weight) = build(plugin, name)?;
            match built {
                Plugin::Filter(filter) => filters.push(NamedFilter {
                    name: name.into(),
                    filter,
                }),
                Plugin::Scorer(scorer) => scorers.push(NamedScorer {
                    name: name.into(),
                    weight,
                    scorer,
                }),
                Plugin::FilterAndScorer(filter, scorer) => {
                    filters.push(NamedFilter {
                        name: name.into(),
                        filter,
                    });
                    scorers.push(NamedScorer {
                        name: name.into(),
                        weight,
                        scorer,
                    });
                }
                Plugin::Picker { .. } if picker.is_some() => {
                    return Err(ProfileError::SecondPicker {
                        plugin: name.into(),
                    });
                }
                Plugin::Picker {
                    picker: chosen,
                    limit,
                } => picker = Some((chosen, limit, name)),
            }
        }
        let (picker, limit, picker_name) = picker.unwrap_or_else(|| {
            (
                Box::new(super::pickers::MaxScorePicker),
                None,
                "max-score-picker",
            )
        });
        Ok(Self {
            filters,
            scorers,
            picker,
            picker_name: picker_name.into(),
            limit: limit.unwrap_or(max_endpoints).max(1),
        })
    }
}

/// The plugin and its weight.
fn build(spec: &PluginSpec, name: &str) -> Result<(Plugin, f64), ProfileError> {
    let Some(kind) = registry::find(&spec.type_name) else {
        let nearest = registry::nearest(&spec.type_name);
        return Err(ProfileError::UnknownType {
            plugin: name.into(),
            type_name: spec.type_name.as_str().into(),
            nearest,
        });
    };
    if let Some(weight) = spec.weight {
        let problem = match kind.role {
            Role::Filter | Role::Picker => Some("on a plugin that gives no scores"),
            _ if !weight.is_finite() || weight < 0.0 => {
                Some("is not a finite number of at least 0")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(ProfileError::Weight {
                plugin: name.into(),
                weight,
                problem,
            });
        }
    }
    let none = Map::new();
    let known: Vec<&str> = kind
        .parameters
        .iter()
        .map(|parameter| parameter.name)
        .collect();
    let built = Parameters::new(spec.parameters.as_ref().unwrap_or(&none), &known)
        .and_then(|parameters| (kind.build)(&parameters));
    match built {
        Ok(plugin) => Ok((plugin, spec.weight.unwrap_or(1.0))),
        Err(error) => Err(ProfileError::Parameter {
            plugin: name.into(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        match serde_json::from_str::<ProfileSpec>(json) {
            Err(error) => error.to_string(),
            Ok(spec) => Profile::from_spec(&spec, 1)
                .expect_err("must be refused")
                .to_string(),
        }
    }

    #[test]
    fn errors_name_the_plugin_and_the_field() {
        assert_eq!(
            refused(r#"{"plugins":[{"type":"queue-scorrer","name":"mine"}]}"#),
            "plugin `mine`: field `type`: there is no `queue-scorrer`; did you mean `queue-scorer`?"
        );
        assert_eq!(
            refused(
                r#"{"plugins":[{"type":"token-load-scorer","parameters":{"queueThresholdTokens":"many"}}]}"#
            ),
            "plugin `token-load-scorer`: parameter `queueThresholdTokens` must be a number of at least 1, not \"many\""
        );
        assert_eq!(
            refused(
                r#"{"plugins":[{"type":"prefix-cache-scorer","parameters":{"matchLengthWeight":1.5}}]}"#
            ),
            "plugin `prefix-cache-scorer`: parameter `matchLengthWeight` must be a number from 0 to 1, not 1.5"
        );
        assert_eq!(
            refused(r#"{"plugins":[{"type":"queue-scorer","parameters":{"depth":1}}]}"#),
            "plugin `queue-scorer`: parameter `depth` does not exist (this plugin has no parameters)"
        );
        assert_eq!(
            refused(r#"{"plugins":[{"type":"queue-scorer","weight":-1}]}"#),
            "plugin `queue-scorer`: field `weight`: -1 is not a finite number of at least 0"
        );
        assert_eq!(
            refused(r#"{"plugins":[{"type":"random-picker","weight":1}]}"#),
            "plugin `random-picker`: field `weight`: 1 on a plugin that gives no scores"
        );
        assert!(
            refused(r#"{"plugins":[{"type":"queue-scorer"},{"type":"queue-scorer"}]}"#)
                .contains("another plugin has this name")
        );
        assert!(
            refused(r#"{"plugins":[{"type":"random-picker"},{"type":"max-score-picker"}]}"#)
                .contains("this is the second")
        );
        assert!(refused(r#"{"plugins":[{"type":"queue-scorer","wieght":1}]}"#).contains("wieght"));
        assert!(refused(r#"{"plugin":[]}"#).contains("plugin"));
    }

    #[test]
    fn the_policies_build() {
        for (spec, scorers) in [
            (ProfileSpec::default_policy(), 1),
            (ProfileSpec::reference_policy(), 3),
        ] {
            let profile = Profile::from_spec(&spec, 0).expect("built-in");
            assert_eq!(
                (
                    profile.scorers.len(),
                    profile.picker.type_name(),
                    profile.limit
                ),
                (scorers, "max-score-picker", 1)
            );
        }
    }

    #[test]
    fn the_same_type_may_be_used_twice_under_two_names() {
        let json = r#"{"plugins":[{"type":"queue-scorer"},{"type":"queue-scorer","name":"again","weight":3}]}"#;
        let spec: ProfileSpec = serde_json::from_str(json).expect("valid");
        assert_eq!(
            Profile::from_spec(&spec, 1).expect("valid").scorers.len(),
            2
        );
    }

    #[test]
    fn the_pickers_own_number_of_endpoints_wins() {
        for (count, limit) in [("3", 3), ("0", 1), ("-4", 1), ("null", 7)] {
            let json = format!(
                r#"{{"plugins":[{{"type":"max-score-picker","parameters":{{"maxNumOfEndpoints":{count}}}}}]}}"#
            );
            let spec: ProfileSpec = serde_json::from_str(&json).expect("valid");
            assert_eq!(Profile::from_spec(&spec, 7).expect("valid").limit, limit);
        }
    }

    #[test]
    fn every_registered_type_can_be_named() {
        for kind in super::super::REGISTRY {
            assert!(registry::find(kind.type_name).is_some());
        }
    }
}
