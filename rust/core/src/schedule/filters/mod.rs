//! Plugins that remove candidates. One file each.

pub mod header_based_testing;
pub mod label_selector;
pub mod session_affinity;

pub use header_based_testing::HeaderBasedTestingFilter;
pub use label_selector::LabelSelectorFilter;
