//! Plugins that rate candidates. One file each; `relative` holds what two of them share.

pub mod kv_cache_utilization;
pub mod lora_affinity;
pub mod marginal_latency;
pub mod mm_embeddings_cache;
pub mod prefix_cache;
pub mod queue;
mod relative;
pub mod running_requests_size;
pub mod token_load;

pub use kv_cache_utilization::KvCacheUtilizationScorer;
pub use lora_affinity::LoraAffinityScorer;
pub use marginal_latency::MarginalLatencyScorer;
pub use mm_embeddings_cache::MmEmbeddingsCacheScorer;
pub use prefix_cache::PrefixCacheScorer;
pub use queue::QueueScorer;
pub use running_requests_size::RunningRequestsSizeScorer;
pub use token_load::TokenLoadScorer;
