//! The plugins that a profile can name: configuration errors, and the documentation, are made from this table.

use super::parameters::{ParameterError, Parameters};
use super::profile::{Filter, Picker, Scorer};
use super::{filters, pickers, scorers};

/// What a plugin does in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Removes candidates.
    Filter,
    /// Removes candidates and rates those left.
    FilterAndScorer,
    /// Rates candidates.
    Scorer,
    /// Chooses.
    Picker,
}

/// A type of plugin.
#[derive(Debug)]
pub struct PluginKind {
    /// `type` in the configuration.
    pub type_name: &'static str,
    /// What it does in a profile.
    pub role: Role,
    /// One line.
    pub summary: &'static str,
    /// Its parameters.
    pub parameters: &'static [ParameterKind],
    /// Makes one.
    pub(super) build: fn(&Parameters<'_>) -> Result<Plugin, ParameterError>,
}

/// One parameter of a type of plugin.
#[derive(Debug)]
pub struct ParameterKind {
    /// Field under `parameters`.
    pub name: &'static str,
    /// Value when it is absent, as JSON.
    pub default: &'static str,
    /// One line, with the range and the unit.
    pub summary: &'static str,
}

/// A plugin that has been built.
#[derive(Debug)]
pub enum Plugin {
    /// Removes candidates.
    Filter(Box<dyn Filter>),
    /// Rates candidates.
    Scorer(Box<dyn Scorer>),
    /// Does both.
    FilterAndScorer(Box<dyn Filter>, Box<dyn Scorer>),
    /// Chooses.
    Picker {
        /// The picker.
        picker: Box<dyn Picker>,
        /// Endpoints to rank; `None`: as many as the engine is set to.
        limit: Option<usize>,
    },
}

/// Every type of plugin.
pub const REGISTRY: &[PluginKind] = &[
    filters::header_based_testing::KIND,
    filters::label_selector::KIND,
    scorers::kv_cache_utilization::KIND,
    scorers::lora_affinity::KIND,
    scorers::marginal_latency::KIND,
    scorers::prefix_cache::KIND,
    scorers::queue::KIND,
    scorers::running_requests_size::KIND,
    scorers::token_load::KIND,
    pickers::max_score::KIND,
    pickers::random::KIND,
    pickers::weighted_random::KIND,
];

/// The type of that name.
pub(super) fn find(type_name: &str) -> Option<&'static PluginKind> {
    REGISTRY.iter().find(|kind| kind.type_name == type_name)
}

/// The known type that is spelled most alike.
pub(super) fn nearest(type_name: &str) -> &'static str {
    let distance =
        |kind: &&PluginKind| edit_distance(type_name.as_bytes(), kind.type_name.as_bytes());
    REGISTRY
        .iter()
        .min_by_key(distance)
        .map_or("", |kind| kind.type_name)
}

/// Levenshtein distance; long inputs are cut, they are no typing errors.
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    let left = &left[..left.len().min(64)];
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, byte) in left.iter().enumerate() {
        let mut diagonal = previous[0];
        previous[0] = row + 1;
        for column in 0..right.len() {
            let replace = diagonal + usize::from(*byte != right[column]);
            diagonal = previous[column + 1];
            previous[column + 1] = replace.min(diagonal + 1).min(previous[column] + 1);
        }
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_unique_and_documented() {
        for (place, kind) in REGISTRY.iter().enumerate() {
            assert!(!kind.summary.is_empty());
            assert!(
                REGISTRY[..place]
                    .iter()
                    .all(|other| other.type_name != kind.type_name),
                "{}",
                kind.type_name
            );
        }
    }

    #[test]
    fn defaults_are_valid_json_and_build_the_plugin() {
        for kind in REGISTRY {
            let fields: serde_json::Map<String, serde_json::Value> = kind
                .parameters
                .iter()
                .map(|parameter| {
                    (
                        parameter.name.to_owned(),
                        serde_json::from_str(parameter.default).expect(parameter.name),
                    )
                })
                .collect();
            let known: Vec<&str> = kind
                .parameters
                .iter()
                .map(|parameter| parameter.name)
                .collect();
            let parameters = Parameters::new(&fields, &known).expect("own names are known");
            let plugin = (kind.build)(&parameters).expect(kind.type_name);
            let (role, name) = match &plugin {
                Plugin::Filter(filter) => (Role::Filter, filter.type_name()),
                Plugin::Scorer(scorer) => (Role::Scorer, scorer.type_name()),
                Plugin::FilterAndScorer(filter, scorer) => {
                    assert_eq!(filter.type_name(), scorer.type_name());
                    (Role::FilterAndScorer, filter.type_name())
                }
                Plugin::Picker { picker, .. } => (Role::Picker, picker.type_name()),
            };
            assert_eq!((role, name), (kind.role, kind.type_name));
        }
    }

    #[test]
    fn a_typing_error_finds_its_name() {
        assert_eq!(nearest("queue-scorrer"), "queue-scorer");
        assert_eq!(
            nearest("kv-cache-utilisation-scorer"),
            "kv-cache-utilization-scorer"
        );
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
    }
}
