//! Plugins that tell how loaded the pool is, and as filters drop loaded endpoints. One file each; `duration` reads a parameter of one.

pub mod concurrency;
mod duration;
pub mod stages;
pub mod utilization;
