//! Prefix indexes: which endpoint holds which blocks of a prompt.

mod approximate;
pub mod exact;
mod hash;

pub use approximate::{ApproximateIndex, IndexUsage};
pub use hash::{BYTES_PER_TOKEN, BlockHasher, chain, seed};
