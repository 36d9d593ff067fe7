//! What a configuration says of deciding: plugins and profiles, built once and swapped whole.

pub(crate) mod prefixes;
mod profiles;
mod spec;

use std::sync::Arc;

use prefixes::Prefixes;
use profiles::{build_profile, find_handler};
pub use spec::{PolicyError, PolicySpec, ProfilePlugin, ProfileSpec};

use crate::body::Parsers;
use crate::control::{
    Admitter, EndpointProducer, PreRequest, Reporter, RequestProcessor, ResponseReceived,
    SaturationDetector, Screener,
};
use crate::exchange::Header;
use crate::plugin::{
    Data, EstimateSettings, Externals, InFlightSettings, Instance, Parts, PluginSet,
    TokenizerSettings,
};
use crate::schedule::handlers::ProfileHandler;
use crate::schedule::{Named, Profile, RequestAttributes};
use crate::stats::{FamilySource, PluginLabels};
use crate::tokens::Tokenizer;

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
    pub(crate) prefixes: Prefixes,
    pub(crate) in_flight: InFlightSettings,
    in_flight_producer: Option<Arc<str>>,
    /// What media of a prompt count as.
    pub(crate) estimate: EstimateSettings,
    pub(crate) min_block_tokens: u32,
    /// Turns prompts into the model's own tokens before a decision; `None`: requests are decided at once, without.
    pub(crate) tokenizer: Option<Arc<dyn Tokenizer>>,
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
        let profile_names = unique_names(&profiles)?;
        let handler = find_handler(&plugins)?;
        handler.part.check(&profile_names).map_err(|problem| {
            PolicyError::Other(format!("plugin `{}`: {problem}", handler.name).into())
        })?;
        let saturation = find_detector(spec.saturation_detector.as_deref(), &plugins)?;
        let parsers = build_parsers(spec.parsers.as_deref())?;
        let consumes = |data| plugins.iter().any(|instance| instance.consumes(data));
        let estimate = plugins
            .iter()
            .find_map(|instance| instance.parts.estimate)
            .unwrap_or_default();
        let counted = plugins.iter().find_map(|instance| {
            let in_flight = instance.parts.in_flight.clone()?;
            Some((in_flight, Arc::clone(&instance.name)))
        });
        let (in_flight, in_flight_producer) = if let Some((in_flight, name)) = counted {
            (in_flight, Some(name))
        } else {
            let default = || Data::InFlightLoad.default_producer().into();
            let producer = consumes(Data::InFlightLoad).then(default);
            (InFlightSettings::default(), producer)
        };
        Ok(Self {
            handler,
            profile_names,
            profiles,
            parsers,
            requests: collect(&plugins, |instance| instance.parts.request.clone()),
            columns: collect(&plugins, |instance| instance.parts.columns.clone()),
            screeners: collect_named(&plugins, |parts| parts.screener.clone()),
            admitters: collect_named(&plugins, |parts| parts.admitter.clone()),
            saturation,
            pre_requests: collect(&plugins, |instance| instance.parts.pre_request.clone()),
            responses: collect(&plugins, |instance| instance.parts.response.clone()),
            reporters: collect_named(&plugins, |parts| parts.reporter.clone()),
            families: collect(&plugins, |instance| instance.parts.families.clone()),
            prefixes: Prefixes::of(&plugins),
            in_flight,
            in_flight_producer,
            estimate,
            min_block_tokens: spec.min_block_tokens,
            tokenizer: open_tokenizer(&plugins, externals, previous)?,
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

    /// What stands before the profiles: screeners, then admitters, in the order in which they are asked.
    pub(crate) fn gate_plugins(&self) -> impl Iterator<Item = PluginLabels<'_>> {
        let screeners = self.screeners.iter().map(|named| named.labels("Screener"));
        let admitters = self.admitters.iter();
        screeners.chain(admitters.map(|named| named.labels("Admission")))
    }

    /// Name of the plugin that counts requests in flight; `None`: nobody asked for that.
    pub(crate) fn in_flight_producer(&self) -> Option<&Arc<str>> {
        self.in_flight_producer.as_ref()
    }
}

/// The tokenizer of the first plugin that has one; what `previous` opened for the same plugin goes on, with what it remembers. Where engines' blocks
/// are to be matched without one, prompts that are token ids already can be.
fn open_tokenizer(
    plugins: &PluginSet,
    externals: &Externals,
    previous: Option<&Policy>,
) -> Result<Option<Arc<dyn Tokenizer>>, PolicyError> {
    let mut instances = plugins.iter();
    let found = instances.find_map(|instance| Some((instance, instance.parts.tokenizer.as_ref()?)));
    let Some((instance, settings)) = found else {
        let matched = plugins
            .iter()
            .any(|instance| instance.parts.exact.is_some());
        let open = externals.open_tokenizer.filter(|_| matched);
        let opened = open.map(|open| open(&TokenizerSettings::TokenIds));
        return opened
            .transpose()
            .map_err(|problem| PolicyError::Other(format!("token ids: {problem}").into()));
    };
    if let Some(previous) = previous
        && let Some(known) = previous.plugins.find(&instance.name)
        && Arc::ptr_eq(known, instance)
        && let Some(tokenizer) = &previous.tokenizer
    {
        return Ok(Some(Arc::clone(tokenizer)));
    }
    let Some(open) = externals.open_tokenizer else {
        return Ok(None);
    };
    let named = |problem| format!("plugin `{}`: {problem}", instance.name);
    open(settings)
        .map(Some)
        .map_err(|problem| PolicyError::Other(named(problem).into()))
}

fn unique_names(profiles: &[Profile]) -> Result<Vec<Arc<str>>, PolicyError> {
    let mut names: Vec<Arc<str>> = Vec::with_capacity(profiles.len());
    for profile in profiles {
        if names.contains(profile.name()) {
            return Err(PolicyError::Profile {
                profile: profile.name().as_ref().into(),
                problem: "another profile has this name".into(),
            });
        }
        names.push(Arc::clone(profile.name()));
    }
    Ok(names)
}

fn find_detector(
    name: Option<&str>,
    plugins: &PluginSet,
) -> Result<Option<Arc<dyn SaturationDetector>>, PolicyError> {
    let Some(name) = name else {
        return Ok(None);
    };
    let instance = plugins.find(name);
    let detector = instance.and_then(|instance| instance.parts.saturation.clone());
    let missing = || PolicyError::Other(format!("there is no saturation detector `{name}`").into());
    detector.ok_or_else(missing).map(Some)
}

fn build_parsers(types: Option<&[String]>) -> Result<Parsers, PolicyError> {
    let Some(types) = types else {
        return Ok(Parsers::default());
    };
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    Parsers::from_types(&types).map_err(|error| PolicyError::Other(error.to_string().into()))
}

fn named<T>(instance: &Instance, part: T) -> Named<T> {
    Named {
        name: Arc::clone(&instance.name),
        type_name: Arc::clone(&instance.type_name),
        part,
    }
}

fn collect_named<T>(plugins: &PluginSet, part: impl Fn(&Parts) -> Option<T>) -> Vec<Named<T>> {
    collect(plugins, |instance| {
        part(&instance.parts).map(|part| named(instance, part))
    })
}

fn collect<T>(plugins: &PluginSet, part: impl Fn(&Instance) -> Option<T>) -> Vec<T> {
    plugins
        .iter()
        .filter_map(|instance| part(instance))
        .collect()
}

#[cfg(test)]
mod tests;
