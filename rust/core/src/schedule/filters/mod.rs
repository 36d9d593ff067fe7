//! Plugins that remove candidates. One file each; `narrow` holds what several share.

pub mod by_label;
pub mod endpoint_attribute;
pub mod header_based_testing;
pub mod label_selector;
mod narrow;
pub mod prefix_cache_affinity;
pub mod role;
pub mod utilization;

pub use by_label::ByLabelFilter;
pub use endpoint_attribute::EndpointAttributeFilter;
pub use header_based_testing::HeaderBasedTestingFilter;
pub use label_selector::LabelSelectorFilter;
pub(crate) use narrow::narrow;
pub use prefix_cache_affinity::PrefixCacheAffinityFilter;
pub use utilization::UtilizationFilter;
