//! Prefix indexes: which endpoint holds which blocks of a prompt.

mod approximate;
mod hash;

pub use approximate::{ApproximateIndex, IndexUsage};
pub use hash::{BlockHasher, chain, seed};
