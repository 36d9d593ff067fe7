//! Plugins that remove candidates before any profile runs. One file each.

pub mod disaggregatedset_rollout;
