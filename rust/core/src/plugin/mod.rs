//! What a plugin is: its type with parameters and documentation, the parts that it takes in a request, and the set that a configuration names.

mod check;
mod duration;
mod estimate;
mod external;
mod kind;
mod label_selector;
mod parameters;
mod parts;
mod registry;
mod set;
mod settings;
mod spelling;
#[cfg(test)]
pub(crate) mod testing;

pub use check::{Checked, Problem, Reference, Step, check, expected, render};
pub use duration::parse_duration;
pub(crate) use estimate::tokens_of;
pub use estimate::{EstimateSettings, FrameTokens, Frames};
pub use external::{External, ExternalFailure};
pub use kind::{Data, ParameterKind, PluginKind, Role, Shape, Stability};
pub use label_selector::LabelSelector;
pub use parameters::{ParameterError, Parameters};
pub use parts::Parts;
pub use registry::{ALIASES, REGISTRY, find, nearest};
pub use set::{
    Externals, Instance, OpenTokenizer, PluginError, PluginSet, PluginSpec, check_plugin,
};
pub use settings::{
    ExactSettings, InFlightSettings, PrefixLimit, PrefixSettings, TokenizerSettings,
};
