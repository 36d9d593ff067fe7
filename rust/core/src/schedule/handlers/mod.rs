//! Plugins that name the profile that runs. One file each.

pub mod data_parallel;
pub mod header_profile;
pub mod single_profile;

pub use data_parallel::DataParallelProfileHandler;
pub use header_profile::HeaderProfileHandler;
pub use single_profile::SingleProfileHandler;

use std::fmt;
use std::sync::Arc;

use super::RequestFacts;

/// Names the profile that runs for a request.
pub trait ProfileHandler: Send + Sync + fmt::Debug {
    /// Position in `profiles`, their names; `None`: none runs, and the request is refused.
    fn pick(&self, request: &RequestFacts, profiles: &[Arc<str>]) -> Option<usize>;

    /// Whether it can work with these profiles.
    ///
    /// # Errors
    /// What is wrong, to follow the handler's name.
    fn check(&self, profiles: &[Arc<str>]) -> Result<(), Box<str>>;
}
