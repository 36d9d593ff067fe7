//! The plugins of a configuration, built, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::{self, Problem};
use super::external::External;
use super::kind::{Data, PluginKind, Role};
use super::parameters::{ParameterError, Parameters};
use super::parts::Parts;
use super::registry;
use super::settings::TokenizerSettings;
use crate::tokens::Tokenizer;

/// One plugin of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSpec {
    /// One of [`super::REGISTRY`], or anything for a name among the external plugins.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Unique; the type when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// See the type.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
}

impl PluginSpec {
    /// A plugin without parameters, named as its type.
    pub fn of_type(type_name: &str) -> Self {
        Self {
            type_name: type_name.to_owned(),
            ..Self::default()
        }
    }

    /// The same with one parameter more.
    #[must_use]
    pub fn with(mut self, parameter: &str, value: impl Into<Value>) -> Self {
        self.parameters
            .get_or_insert_default()
            .insert(parameter.to_owned(), value.into());
        self
    }

    /// The name that other sections refer to.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.type_name)
    }
}

/// Opens a tokenizer, or says why it cannot.
pub type OpenTokenizer = fn(&TokenizerSettings) -> Result<Arc<dyn Tokenizer>, Box<str>>;

/// What a host adds to the engine's own plugins.
#[derive(Clone, Debug, Default)]
pub struct Externals {
    /// Filters and scorers in another language, by name.
    pub plugins: HashMap<String, (Role, Arc<dyn External>)>,
    /// Opens what `token-producer` asks for; `None`: the host has no tokenizers, and prompts are estimated.
    pub open_tokenizer: Option<OpenTokenizer>,
}

impl Externals {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A plugin that was built.
#[derive(Debug)]
pub struct Instance {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Type in the configuration.
    pub type_name: Arc<str>,
    /// `None` for an external one.
    pub kind: Option<&'static PluginKind>,
    /// What it does.
    pub parts: Parts,
    /// As configured, completed.
    values: Map<String, Value>,
}

impl Instance {
    /// What it needs of others.
    pub fn consumes(&self, data: Data) -> bool {
        self.kind.is_some_and(|kind| kind.consumes.contains(&data))
    }
}

/// A plugin that cannot be built. `plugin` is its name in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum PluginError {
    /// No such type.
    UnknownType {
        /// Name of the plugin.
        plugin: Box<str>,
        /// The type asked for.
        type_name: Box<str>,
        /// The known type that is spelled most alike.
        nearest: Option<&'static str>,
    },
    /// Two plugins of one name.
    DuplicateName {
        /// The name.
        plugin: Box<str>,
    },
    /// Parameters that are unknown, missing or malformed; at least one.
    Parameters {
        /// Name of the plugin.
        plugin: Box<str>,
        /// What is wrong.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for PluginError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType {
                plugin,
                type_name,
                nearest,
            } => {
                write!(
                    formatter,
                    "plugin `{plugin}`: field `type`: there is no `{type_name}`"
                )?;
                match nearest {
                    Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
                    None => Ok(()),
                }
            }
            Self::DuplicateName { plugin } => write!(
                formatter,
                "plugin `{plugin}`: field `name`: another plugin has this name"
            ),
            Self::Parameters { plugin, problems } => {
                for (number, problem) in problems.iter().enumerate() {
                    let separator = if number > 0 { "; " } else { "" };
                    let path = check::render(&problem.path);
                    write!(
                        formatter,
                        "{separator}plugin `{plugin}`: parameter `{path}`: {}",
                        problem.message
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for PluginError {}

/// The plugins of a configuration, in its order.
#[derive(Debug, Default)]
pub struct PluginSet {
    instances: Vec<Arc<Instance>>,
}

impl PluginSet {
    /// Builds every plugin. One that `previous` has with the same name, type and parameters is taken over with its state.
    ///
    /// # Errors
    /// The first plugin that cannot be built.
    pub fn build(
        specs: &[PluginSpec],
        externals: &Externals,
        previous: Option<&Self>,
    ) -> Result<Self, PluginError> {
        let mut set = Self::default();
        for spec in specs {
            let name = spec.name();
            if set.find(name).is_some() {
                return Err(PluginError::DuplicateName {
                    plugin: name.into(),
                });
            }
            let instance = match externals.plugins.get(name) {
                Some((role, external)) => Instance {
                    name: name.into(),
                    type_name: spec.type_name.as_str().into(),
                    kind: None,
                    parts: Parts {
                        external: Some((*role, Arc::clone(external))),
                        ..Parts::default()
                    },
                    values: Map::new(),
                },
                None => build(spec)?,
            };
            let known = previous
                .and_then(|previous| previous.find(name))
                .filter(|known| {
                    // External ones are new objects; what they remember is theirs to keep.
                    known.kind.is_some()
                        && known.type_name == instance.type_name
                        && known.values == instance.values
                });
            set.instances
                .push(known.map_or_else(|| Arc::new(instance), Arc::clone));
        }
        Ok(set)
    }

    /// The plugin of that name.
    pub fn find(&self, name: &str) -> Option<&Arc<Instance>> {
        self.instances
            .iter()
            .find(|instance| &*instance.name == name)
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter()
    }
}

/// Builds a plugin of a registered type, and tells nothing of its surroundings.
///
/// # Errors
/// When the type does not exist or the parameters cannot be used.
fn build(spec: &PluginSpec) -> Result<Instance, PluginError> {
    let name = spec.name();
    let Some(kind) = registry::find(&spec.type_name) else {
        return Err(PluginError::UnknownType {
            plugin: name.into(),
            type_name: spec.type_name.as_str().into(),
            nearest: registry::nearest(&spec.type_name),
        });
    };
    let given = spec.parameters.as_ref();
    let refuse = |problems| PluginError::Parameters {
        plugin: name.into(),
        problems,
    };
    let checked = check::check(kind.parameters, given).map_err(refuse)?;
    let parts = (kind.build)(&Parameters::new(&checked.values, name)).map_err(
        |ParameterError { path, problem }| {
            refuse(vec![Problem {
                path,
                message: problem.into(),
            }])
        },
    )?;
    Ok(Instance {
        name: name.into(),
        type_name: kind.type_name.into(),
        kind: Some(kind),
        parts,
        values: checked.values,
    })
}

/// Checks the parameters of a plugin without keeping it: what `warmroute check` and the configuration loader ask.
///
/// # Errors
/// As [`PluginSet::build`].
pub fn check_plugin(spec: &PluginSpec) -> Result<check::Checked, PluginError> {
    let instance = build(spec)?;
    let given = spec.parameters.as_ref();
    let parameters = instance.kind.map_or(&[][..], |kind| kind.parameters);
    let mut checked =
        check::check(parameters, given).map_err(|problems| PluginError::Parameters {
            plugin: spec.name().into(),
            problems,
        })?;
    checked.references.extend(instance.parts.needs);
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn specs(value: Value) -> Vec<PluginSpec> {
        serde_json::from_value(value).expect("plugin specs")
    }

    fn refused(value: Value) -> String {
        PluginSet::build(&specs(value), &Externals::new(), None)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn errors_name_the_plugin_and_the_field() {
        assert_eq!(
            refused(json!([{"type": "queue-scorrer", "name": "mine"}])),
            "plugin `mine`: field `type`: there is no `queue-scorrer`; did you mean `queue-scorer`?"
        );
        assert_eq!(
            refused(
                json!([{"type": "token-load-scorer", "parameters": {"queueThresholdTokens": "many"}}])
            ),
            "plugin `token-load-scorer`: parameter `queueThresholdTokens`: must be a whole number of at least 1, not \"many\""
        );
        assert_eq!(
            refused(json!([{"type": "queue-scorer", "parameters": {"depth": 1}}])),
            "plugin `queue-scorer`: parameter `depth`: unknown field \"depth\" (nothing can be set here)"
        );
        assert!(
            refused(json!([{"type": "queue-scorer"}, {"type": "queue-scorer"}]))
                .contains("another plugin has this name")
        );
    }

    #[test]
    fn an_unchanged_plugin_is_taken_over_and_a_changed_one_is_not() {
        let old = specs(
            json!([{"type": "token-load-scorer"}, {"type": "prefix-cache-scorer"}, {"type": "queue-scorer"}]),
        );
        let new = specs(
            json!([{"type": "token-load-scorer", "parameters": {"queueThresholdTokens": 7}}, {"type": "queue-scorer", "name": "queue"},
                {"type": "prefix-cache-scorer", "parameters": {"matchLengthWeight": 0}}]),
        );
        let none = Externals::new();
        let before = PluginSet::build(&old, &none, None).expect("valid");
        let after = PluginSet::build(&new, &none, Some(&before)).expect("valid");
        let same = |name: &str| match (before.find(name), after.find(name)) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            _ => false,
        };
        assert!(!same("token-load-scorer"));
        assert!(!same("queue"));
        assert!(same("prefix-cache-scorer"));
    }
}
