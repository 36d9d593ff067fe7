//! Plugins that refuse requests before any profile runs. One file each.

pub mod probabilistic;
