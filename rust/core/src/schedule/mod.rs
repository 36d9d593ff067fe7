//! Which endpoint: filters, scorers and a picker, run as a weighted profile.
//!
//! One plugin a file. A plugin sees the candidates as a structure of arrays, one row an endpoint.

mod candidates;
mod explanation;
pub mod filters;
mod parameters;
pub mod pickers;
mod profile;
mod registry;
pub mod scorers;
mod spec;
#[cfg(test)]
mod testing;

pub use candidates::{Candidates, Context, RequestFacts};
pub use explanation::{
    CandidateExplanation, Explanation, FilterExplanation, ScoreExplanation, ScorerExplanation,
};
pub use parameters::{ParameterError, Parameters};
pub use profile::{Choice, Filter, NoEndpoint, Picker, Profile, Scorer, Scratch};
pub use registry::{ParameterKind, Plugin, PluginKind, REGISTRY, Role};
pub use spec::{PluginSpec, ProfileError, ProfileSpec};
