//! Which endpoint: filters, scorers and a picker, run as a weighted profile.
//!
//! One plugin a file. A plugin sees the candidates as a structure of arrays, one row an endpoint.

mod candidates;
mod endpoint_attribute;
mod explanation;
pub mod filters;
pub mod handlers;
pub mod pickers;
mod prefix_column;
mod profile;
mod prompt;
pub mod scorers;
mod session;
#[cfg(test)]
pub(crate) mod testing;

pub use candidates::{Attribute, Candidates, Context, RequestAttributes, RequestFacts};
pub use explanation::{
    CandidateExplanation, Explanation, FilterExplanation, ScoreExplanation, ScorerExplanation,
};
pub use handlers::ProfileHandler;
pub use prefix_column::PrefixColumn;
pub(crate) use prefix_column::gather_columns;
pub use profile::{Choice, Filter, NoEndpoint, Picker, Prepared, Profile, Scorer, Scratch};
pub(crate) use profile::{FilterPart, Named, ScorerPart};
pub use prompt::Prompt;
