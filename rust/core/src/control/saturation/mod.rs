//! Plugins that tell how loaded the pool is, and as filters drop loaded endpoints. One file each; `duration` reads a parameter of one.

pub mod concurrency;
mod duration;
pub mod stages;
pub mod utilization;

use crate::schedule::Context;

/// The mean over the candidates of what `of_endpoint` gives for a row; 1 without candidates, as an empty pool is saturated.
fn mean(context: &Context<'_>, of_endpoint: impl Fn(usize) -> f64) -> f64 {
    let count = context.candidates.len();
    if count == 0 {
        return 1.0;
    }
    (0..count).map(of_endpoint).sum::<f64>() / count as f64
}
