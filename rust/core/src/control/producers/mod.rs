//! Plugins that make data for others. One file each.

pub mod approx_prefix_cache;
pub mod inflight_load;
pub mod mm_embeddings_cache;
