//! Which endpoint: filters, scorers and a picker, run as a weighted profile.
//!
//! One plugin a file. A plugin sees the candidates as a structure of arrays, one row an endpoint.

mod candidates;
pub mod filters;
pub mod pickers;
mod profile;
pub mod scorers;

pub use candidates::{Candidates, Context, RequestFacts};
pub use profile::{Choice, Explanation, Filter, Picker, Profile, ProfileSpec, ProfileError, Scorer};
