//! The profiles of a policy and the handler that names the one to run, put together from its plugins.

use std::sync::Arc;

use super::spec::{PolicyError, ProfileSpec};
use super::{collect_named, named};
use crate::plugin::{PluginSet, Role};
use crate::schedule::handlers::{ProfileHandler, SingleProfileHandler};
use crate::schedule::pickers::MaxScorePicker;
use crate::schedule::{FilterPart, Named, Picker, Profile, ScorerPart};

/// The one handler; without any, the one that runs a single profile.
pub(super) fn find_handler(
    plugins: &PluginSet,
) -> Result<Named<Arc<dyn ProfileHandler>>, PolicyError> {
    let mut handlers = collect_named(plugins, |parts| parts.handler.clone());
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

/// Puts one profile together.
pub(super) fn build_profile(
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
        let weight = entry.weight.unwrap_or(1.0);
        if !weight.is_finite() || weight < 0.0 {
            return Err(refuse(format!(
                "plugin `{name}`: weight {weight} is not a finite number of at least 0"
            )));
        }
        // Like the reference, a profile may list plugins that have no part in it: they are active by being configured.
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
