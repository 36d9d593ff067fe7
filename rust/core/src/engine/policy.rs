//! What a configuration says of deciding: plugins and profiles, built once and swapped whole.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::body::Parsers;
use crate::control::{
    Admitter, EndpointProducer, PreRequest, Reporter, RequestProcessor, ResponseReceived,
    SaturationDetector, Screener,
};
use crate::exchange::Header;
use crate::plugin::{
    Data, EstimateSettings, Externals, InFlightSettings, Instance, PluginError, PluginSet,
    PluginSpec, PrefixSettings, Role,
};
use crate::schedule::handlers::{ProfileHandler, SingleProfileHandler};
use crate::schedule::pickers::MaxScorePicker;
use crate::schedule::{FilterPart, Named, Picker, Profile, RequestAttributes, ScorerPart};
use crate::stats::FamilySource;

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

/// What decides, built. Immutable; a reload makes another.
#[derive(Debug)]
pub struct Policy {
    plugins: PluginSet,
    handler: Named<Arc<dyn ProfileHandler>>,
    profile_names: Vec<Arc<str>>,
    profiles: Vec<Profile>,
    pub(crate) parsers: Parsers,
    /// In the order of the configuration, as all that follow.
    pub(crate) requests: Vec<Arc<dyn RequestProcessor>>,
    pub(crate) columns: Vec<Arc<dyn EndpointProducer>>,
    pub(crate) screeners: Vec<Named<Arc<dyn Screener>>>,
    pub(crate) admitters: Vec<Named<Arc<dyn Admitter>>>,
    pub(crate) saturation: Option<Arc<dyn SaturationDetector>>,
    pub(crate) pre_requests: Vec<Arc<dyn PreRequest>>,
    pub(crate) responses: Vec<Arc<dyn ResponseReceived>>,
    pub(crate) reporters: Vec<Named<Arc<dyn Reporter>>>,
    pub(crate) families: Vec<Arc<dyn FamilySource>>,
    /// `None`: nothing consumes prefix matches, so prompts are not indexed.
    pub(crate) prefix: Option<PrefixSettings>,
    pub(crate) in_flight: InFlightSettings,
    in_flight_producer: Option<Arc<str>>,
    /// What media of a prompt count as.
    pub(crate) estimate: EstimateSettings,
    pub(crate) min_block_tokens: u32,
}

impl Policy {
    /// Builds it. `max_endpoints`: how many endpoints a decision ranks where the picker has no `maxNumOfEndpoints` of its own.
    /// Plugins that are the same in `previous` keep their state.
    ///
    /// # Errors
    /// The first thing that is wrong, by the name of the plugin or profile.
    pub fn build(
        spec: &PolicySpec,
        externals: &Externals,
        max_endpoints: usize,
        previous: Option<&Self>,
    ) -> Result<Self, PolicyError> {
        let plugins = PluginSet::build(
            &spec.plugins,
            externals,
            previous.map(|previous| &previous.plugins),
        )?;
        let profiles = spec
            .profiles
            .iter()
            .map(|profile| build_profile(profile, &plugins, max_endpoints))
            .collect::<Result<Vec<_>, _>>()?;
        let profile_names: Vec<Arc<str>> = profiles
            .iter()
            .map(|profile| Arc::clone(profile.name()))
            .collect();
        for (number, name) in profile_names.iter().enumerate() {
            if profile_names[..number].contains(name) {
                return Err(PolicyError::Profile {
                    profile: name.as_ref().into(),
                    problem: "another profile has this name".into(),
                });
            }
        }
        let handler = find_handler(&plugins)?;
        handler.part.check(&profile_names).map_err(|problem| {
            PolicyError::Other(format!("plugin `{}`: {problem}", handler.name).into())
        })?;
        let saturation = match &spec.saturation_detector {
            None => None,
            Some(name) => Some(
                plugins
                    .find(name)
                    .and_then(|instance| instance.parts.saturation.clone())
                    .ok_or_else(|| {
                        PolicyError::Other(
                            format!("there is no saturation detector `{name}`").into(),
                        )
                    })?,
            ),
        };
        let parsers = spec.parsers.as_ref().map_or_else(
            || Ok(Parsers::default()),
            |types| {
                let types: Vec<&str> = types.iter().map(String::as_str).collect();
                Parsers::from_types(&types)
                    .map_err(|error| PolicyError::Other(error.to_string().into()))
            },
        )?;
        let consumes = |data| plugins.iter().any(|instance| instance.consumes(data));
        let prefix = plugins
            .iter()
            .find_map(|instance| instance.parts.prefix)
            .or_else(|| consumes(Data::PrefixMatch).then(PrefixSettings::default));
        let estimate = plugins
            .iter()
            .find_map(|instance| instance.parts.estimate)
            .unwrap_or_default();
        let in_flight_producer = plugins
            .iter()
            .find(|instance| instance.parts.in_flight.is_some())
            .map(|instance| Arc::clone(&instance.name))
            .or_else(|| {
                consumes(Data::InFlightLoad).then(|| Data::InFlightLoad.default_producer().into())
            });
        let in_flight = plugins
            .iter()
            .find_map(|instance| instance.parts.in_flight)
            .unwrap_or_default();
        Ok(Self {
            handler,
            profile_names,
            profiles,
            parsers,
            requests: collect(&plugins, |instance| instance.parts.request.clone()),
            columns: collect(&plugins, |instance| instance.parts.columns.clone()),
            screeners: collect(&plugins, |instance| {
                instance
                    .parts
                    .screener
                    .clone()
                    .map(|part| named(instance, part))
            }),
            admitters: collect(&plugins, |instance| {
                instance
                    .parts
                    .admitter
                    .clone()
                    .map(|part| named(instance, part))
            }),
            saturation,
            pre_requests: collect(&plugins, |instance| instance.parts.pre_request.clone()),
            responses: collect(&plugins, |instance| instance.parts.response.clone()),
            reporters: collect(&plugins, |instance| {
                instance
                    .parts
                    .reporter
                    .clone()
                    .map(|part| named(instance, part))
            }),
            families: collect(&plugins, |instance| instance.parts.families.clone()),
            prefix,
            in_flight,
            in_flight_producer,
            estimate,
            min_block_tokens: spec.min_block_tokens,
            plugins,
        })
    }

    /// The profiles, in the order of the configuration.
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The profile that runs for a request; `None`: the handler names none.
    pub(crate) fn profile_for(&self, request: &crate::schedule::RequestFacts) -> Option<usize> {
        self.handler
            .part
            .pick(request, &self.profile_names)
            .filter(|position| *position < self.profiles.len())
    }

    /// What plugins find in the request's headers.
    pub(crate) fn attributes(&self, headers: &[Header]) -> RequestAttributes {
        let mut attributes = RequestAttributes::default();
        for processor in &self.requests {
            processor.process(headers, &mut attributes);
        }
        attributes
    }

    /// True when plugins have to do with the response.
    pub(crate) fn follows_responses(&self) -> bool {
        !self.responses.is_empty() || !self.reporters.is_empty()
    }

    /// Name and type of the plugin that keeps the prefix index, where one is configured.
    pub(crate) fn prefix_producer(&self) -> Option<(&Arc<str>, &Arc<str>)> {
        let mut plugins = self.plugins.iter();
        let producer = plugins.find(|instance| instance.parts.prefix.is_some())?;
        Some((&producer.name, &producer.type_name))
    }

    /// Name of the plugin that counts requests in flight; `None`: nobody asked for that.
    pub(crate) fn in_flight_producer(&self) -> Option<&Arc<str>> {
        self.in_flight_producer.as_ref()
    }

    /// Tokens in a block where the engines do not tell.
    pub(crate) fn block_tokens(&self, told: Option<u32>) -> u32 {
        let prefix = self.prefix.unwrap_or_default();
        told.filter(|_| prefix.auto_tune)
            .unwrap_or(prefix.block_tokens)
            .min(prefix.max_prefix_tokens)
            .max(self.min_block_tokens)
            .max(1)
    }
}

fn named<T>(instance: &Instance, part: T) -> Named<T> {
    Named {
        name: Arc::clone(&instance.name),
        type_name: Arc::clone(&instance.type_name),
        part,
    }
}

fn collect<T>(plugins: &PluginSet, part: impl Fn(&Instance) -> Option<T>) -> Vec<T> {
    plugins
        .iter()
        .filter_map(|instance| part(instance))
        .collect()
}

fn find_handler(plugins: &PluginSet) -> Result<Named<Arc<dyn ProfileHandler>>, PolicyError> {
    let mut handlers = collect(plugins, |instance| {
        instance
            .parts
            .handler
            .clone()
            .map(|part| named(instance, part))
    });
    match handlers.len() {
        0 => Ok(Named {
            name: "single-profile-handler".into(),
            type_name: "single-profile-handler".into(),
            part: Arc::new(SingleProfileHandler),
        }),
        1 => Ok(handlers.remove(0)),
        _ => Err(PolicyError::Other(
            format!(
                "profile handlers `{}` and `{}`: exactly one is expected",
                handlers[0].name, handlers[1].name
            )
            .into(),
        )),
    }
}

/// A picker, and how many endpoints it ranks where it says so itself.
type ChosenPicker = (Named<Arc<dyn Picker>>, Option<usize>);

fn build_profile(
    spec: &ProfileSpec,
    plugins: &PluginSet,
    max_endpoints: usize,
) -> Result<Profile, PolicyError> {
    let refuse = |problem: String| PolicyError::Profile {
        profile: spec.name.as_str().into(),
        problem: problem.into(),
    };
    let mut filters = Vec::new();
    let mut scorers = Vec::new();
    let mut picker: Option<ChosenPicker> = None;
    for entry in &spec.plugins {
        let name = &entry.plugin;
        let Some(instance) = plugins.find(name) else {
            return Err(refuse(format!("there is no plugin `{name}`")));
        };
        let parts = &instance.parts;
        let external = parts.external.as_ref();
        let of = |role| {
            external
                .filter(|(other, _)| *other == role)
                .map(|(_, external)| Arc::clone(external))
        };
        let filter = parts.filter.clone().map(FilterPart::Own);
        let filter = filter.or_else(|| of(Role::Filter).map(FilterPart::External));
        let scorer = parts.scorer.clone().map(ScorerPart::Own);
        let scorer = scorer.or_else(|| of(Role::Scorer).map(ScorerPart::External));
        let weight = match (entry.weight, &scorer) {
            (Some(weight), None) => {
                return Err(refuse(format!(
                    "plugin `{name}`: weight {weight} on a plugin that gives no scores"
                )));
            }
            (Some(weight), _) if !weight.is_finite() || weight < 0.0 => {
                return Err(refuse(format!(
                    "plugin `{name}`: weight {weight} is not a finite number of at least 0"
                )));
            }
            (weight, _) => weight.unwrap_or(1.0),
        };
        if filter.is_none() && scorer.is_none() && parts.picker.is_none() {
            return Err(refuse(format!(
                "plugin `{name}` is no filter, scorer or picker"
            )));
        }
        filters.extend(filter.map(|part| named(instance, part)));
        scorers.extend(scorer.map(|part| (named(instance, part), weight)));
        if let Some((part, limit)) = parts.picker.clone() {
            if let Some((first, _)) = &picker {
                return Err(refuse(format!(
                    "plugins `{}` and `{name}` are pickers; a profile has one",
                    first.name
                )));
            }
            picker = Some((named(instance, part), limit));
        }
    }
    let (picker, limit) = picker.unwrap_or_else(|| {
        let picker = Named {
            name: "max-score-picker".into(),
            type_name: "max-score-picker".into(),
            part: Arc::new(MaxScorePicker) as Arc<dyn Picker>,
        };
        (picker, None)
    });
    Ok(Profile {
        name: spec.name.as_str().into(),
        filters,
        scorers,
        picker,
        limit: limit.unwrap_or(max_endpoints).max(1),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn build(value: serde_json::Value) -> Result<Policy, PolicyError> {
        let spec: PolicySpec = serde_json::from_value(value).expect("a policy");
        Policy::build(&spec, &Externals::new(), 7, None)
    }

    fn refused(value: serde_json::Value) -> String {
        build(value).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_policies_build() {
        for (spec, scorers) in [
            (PolicySpec::default_policy(), 1),
            (PolicySpec::reference_policy(), 3),
        ] {
            let policy = Policy::build(&spec, &Externals::new(), 0, None).expect("built-in");
            let profile = &policy.profiles()[0];
            assert_eq!((profile.scorers.len(), profile.limit), (scorers, 1));
            assert_eq!(&*profile.picker.name, "max-score-picker");
        }
    }

    #[test]
    fn errors_name_profile_and_plugin() {
        let one = |plugins: serde_json::Value, entries: serde_json::Value| {
            refused(json!({"plugins": plugins, "profiles": [{"name": "p", "plugins": entries}]}))
        };
        assert_eq!(
            one(
                json!([{"type": "queue-scorer"}]),
                json!([{"plugin": "queue-scorer", "weight": -1}])
            ),
            "profile `p`: plugin `queue-scorer`: weight -1 is not a finite number of at least 0"
        );
        assert_eq!(
            one(
                json!([{"type": "random-picker"}]),
                json!([{"plugin": "random-picker", "weight": 1}])
            ),
            "profile `p`: plugin `random-picker`: weight 1 on a plugin that gives no scores"
        );
        assert_eq!(
            one(
                json!([{"type": "random-picker"}, {"type": "max-score-picker"}]),
                json!([{"plugin": "random-picker"}, {"plugin": "max-score-picker"}])
            ),
            "profile `p`: plugins `random-picker` and `max-score-picker` are pickers; a profile has one"
        );
        assert_eq!(
            one(json!([]), json!([{"plugin": "ghost"}])),
            "profile `p`: there is no plugin `ghost`"
        );
        assert_eq!(
            one(
                json!([{"type": "single-profile-handler"}]),
                json!([{"plugin": "single-profile-handler"}])
            ),
            "profile `p`: plugin `single-profile-handler` is no filter, scorer or picker"
        );
        let twice = json!({"plugins": [], "profiles": [{"name": "p", "plugins": []}, {"name": "p", "plugins": []}]});
        assert_eq!(refused(twice), "profile `p`: another profile has this name");
        let two = json!({"plugins": [], "profiles": [{"name": "p", "plugins": []}, {"name": "q", "plugins": []}]});
        assert!(refused(two).starts_with("plugin `single-profile-handler`: runs one profile"));
    }

    #[test]
    fn the_pickers_own_number_of_endpoints_wins() {
        for (count, limit) in [
            (json!(3), 3),
            (json!(0), 1),
            (json!(-4), 1),
            (json!(null), 7),
        ] {
            let policy = build(json!({
                "plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": count}}],
                "profiles": [{"name": "p", "plugins": [{"plugin": "max-score-picker"}]}],
            }));
            assert_eq!(policy.expect("valid").profiles()[0].limit, limit);
        }
    }

    #[test]
    fn prompts_are_indexed_only_where_matches_are_consumed() {
        let with = |name: &str| {
            build(json!({"plugins": [{"type": name}], "profiles": [{"name": "p", "plugins": [{"plugin": name}]}]}))
                .expect("valid")
                .prefix
                .is_some()
        };
        assert!(with("prefix-cache-scorer"));
        assert!(!with("queue-scorer"));
    }
}
