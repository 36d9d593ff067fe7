//! Plugins that make data for others. One file each.

pub mod agent_identity;
pub mod approx_prefix_cache;
pub mod inflight_load;
pub mod mm_embeddings_cache;
pub mod p2p_source;
pub mod precise_prefix_cache;
pub mod session_id;
pub mod tokens;
