//! Plugins that rate candidates. One file each; `relative` holds what several of them share.

pub mod active_request;
pub mod bounded_hash;
pub mod cache_aware;
pub mod context_length_aware;
pub mod endpoint_attribute;
pub mod header_label_affinity;
pub mod kv_cache_utilization;
pub mod lmetric;
pub mod load_aware;
pub mod lora_affinity;
pub mod marginal_latency;
pub mod mm_embeddings_cache;
pub mod no_hit_lru;
pub mod prefix_cache;
pub mod queue;
mod relative;
pub mod running_requests_size;
pub mod session_affinity;
pub mod token_load;

pub use active_request::ActiveRequestScorer;
pub use bounded_hash::BoundedHashScorer;
pub use cache_aware::CacheAwareScorer;
pub use context_length_aware::ContextLengthAware;
pub use endpoint_attribute::EndpointAttributeScorer;
pub use header_label_affinity::HeaderLabelAffinityScorer;
pub use kv_cache_utilization::KvCacheUtilizationScorer;
pub use lmetric::LmetricScorer;
pub use load_aware::LoadAwareScorer;
pub use lora_affinity::LoraAffinityScorer;
pub use marginal_latency::MarginalLatencyScorer;
pub use mm_embeddings_cache::MmEmbeddingsCacheScorer;
pub use no_hit_lru::NoHitLruScorer;
pub use prefix_cache::PrefixCacheScorer;
pub use queue::QueueScorer;
pub use running_requests_size::RunningRequestsSizeScorer;
pub use token_load::TokenLoadScorer;
