//! The producers of prefix matches that a policy has.

use std::sync::Arc;

use crate::plugin::{Data, ExactSettings, PluginSet, PrefixLimit, PrefixSettings};

/// A producer, and where its matches come from.
#[derive(Clone, Debug)]
pub(crate) struct PrefixProducer {
    /// Name of the plugin.
    pub(crate) name: Arc<str>,
    /// Its type.
    pub(crate) type_name: Arc<str>,
    /// Where its matches come from while nothing better is known.
    pub(crate) approximate: usize,
    /// It knows what engines tell of their caches.
    pub(crate) exact: Option<Arc<ExactSettings>>,
}

/// An index of what was sent where.
#[derive(Clone, Debug)]
pub(crate) struct Approximate {
    /// Name of the plugin that it belongs to.
    pub(crate) name: Arc<str>,
    /// How it is kept.
    pub(crate) settings: PrefixSettings,
}

/// All of a policy; none where nothing consumes prefix matches, so prompts are not indexed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes {
    /// First the one that plugins mean that name none: the one with the reference's default name, or the first of the configuration.
    pub(crate) producers: Vec<PrefixProducer>,
    pub(crate) approximates: Vec<Approximate>,
}

impl Prefixes {
    /// Those of `plugins`, or the default where plugins consume what none makes.
    pub(super) fn of(plugins: &PluginSet) -> Self {
        let mut prefixes = Self::default();
        for instance in plugins.iter() {
            if let Some(settings) = instance.parts.prefix {
                prefixes.approximates.push(Approximate {
                    name: Arc::clone(&instance.name),
                    settings,
                });
            }
        }
        let mut own = 0..;
        for instance in plugins.iter() {
            let approximate = instance.parts.prefix.and_then(|_| own.next());
            if approximate.is_none() && instance.parts.exact.is_none() {
                continue;
            }
            prefixes.producers.push(PrefixProducer {
                name: Arc::clone(&instance.name),
                type_name: Arc::clone(&instance.type_name),
                approximate: approximate.unwrap_or(0),
                exact: instance.parts.exact.clone(),
            });
        }
        let default: Arc<str> = Data::PrefixMatch.default_producer().into();
        let consumed = || {
            plugins
                .iter()
                .any(|instance| instance.consumes(Data::PrefixMatch))
        };
        if prefixes.producers.is_empty() && consumed() {
            prefixes.producers.push(PrefixProducer {
                name: Arc::clone(&default),
                type_name: Arc::clone(&default),
                approximate: 0,
                exact: None,
            });
        }
        if !prefixes.producers.is_empty() && prefixes.approximates.is_empty() {
            prefixes.approximates.push(Approximate {
                name: Arc::clone(&prefixes.producers[0].name),
                settings: PrefixSettings::default(),
            });
        }
        prefixes
            .producers
            .sort_by_key(|producer| producer.name != default);
        prefixes
    }

    /// The settings by which prompts are cut into blocks.
    fn cutting(&self) -> PrefixSettings {
        self.approximates
            .first()
            .map(|approximate| approximate.settings)
            .unwrap_or_default()
    }

    /// Tokens in a block, where the engines tell `told`.
    pub(crate) fn block_tokens(&self, told: Option<u32>, least: u32) -> u32 {
        let settings = self.cutting();
        let largest = match settings.longest {
            PrefixLimit::Tokens(tokens) => tokens,
            PrefixLimit::Blocks(_) | PrefixLimit::None => u32::MAX,
        };
        told.filter(|_| settings.auto_tune)
            .unwrap_or(settings.block_tokens)
            .min(largest)
            .max(least)
            .max(1)
    }

    /// Longest prompt, in blocks, that any of them matches; 0 where nothing consumes matches.
    pub(crate) fn max_blocks(&self, block_tokens: u32) -> usize {
        let limits = self.approximates.iter();
        limits
            .map(|approximate| approximate.settings.longest.blocks(block_tokens))
            .max()
            .unwrap_or(0)
    }

    /// Position of the producer that knows best what endpoints hold: an exact one, or the first.
    pub(crate) fn best(&self) -> usize {
        let exact = self.producers.iter().position(|one| one.exact.is_some());
        exact.unwrap_or(0)
    }

    /// The exact producer that the subscriptions are made for: there is one index of what the engines tell, however many producers read it.
    pub(crate) fn exact(&self) -> Option<&Arc<ExactSettings>> {
        self.producers
            .iter()
            .find_map(|producer| producer.exact.as_ref())
    }
}
