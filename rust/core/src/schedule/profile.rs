//! The weighted profile: filters in order, scores clamped and summed by weight, a picker that ranks.

use super::Context;

/// Removes candidates. Called once per decision, before any scorer, with the rows that earlier filters kept.
pub trait Filter: Send + Sync + std::fmt::Debug {
    /// Type name as in the configuration.
    fn type_name(&self) -> &'static str;
    /// Sets `keep[row] = false` for each row to drop; never sets a `false` back to `true`.
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]);
}

/// Rates candidates. Called once per decision.
pub trait Scorer: Send + Sync + std::fmt::Debug {
    /// Type name as in the configuration.
    fn type_name(&self) -> &'static str;
    /// Writes one score per row; the profile clamps each to 0..=1 (NaN counts 0) and multiplies it by the weight.
    fn score(&self, context: &Context<'_>, scores: &mut [f64]);
}

/// Chooses among scored candidates. Called once per decision.
pub trait Picker: Send + Sync + std::fmt::Debug {
    /// Type name as in the configuration.
    fn type_name(&self) -> &'static str;
    /// Writes into `ranked` up to `limit` distinct rows, best first. `scores` has one total per row and is not empty.
    fn pick(&self, scores: &[f64], limit: usize, random: &mut fastrand::Rng, ranked: &mut Vec<u32>);
}
