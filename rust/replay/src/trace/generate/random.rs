//! Chance of generated traces: gaps, lengths, popularity.

use std::f64::consts::TAU;

use fastrand::Rng;

use super::{GenerateError, in_range};

/// An exponential time with that mean.
pub(super) fn exponential(random: &mut Rng, mean: f64) -> f64 {
    // 1 - x is never 0.
    -(1.0 - random.f64()).ln() * mean
}

/// Lengths in tokens, lognormal; `spread` 0: all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    pub(super) mean: f64,
    /// Standard deviation of the logarithm.
    pub(super) spread: f64,
}

impl Length {
    /// At least 1.
    pub(super) fn draw(self, random: &mut Rng) -> u32 {
        if self.spread <= 0.0 {
            return (self.mean.round() as u32).max(1);
        }
        let normal = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (TAU * random.f64()).cos();
        let location = self.mean.ln() - self.spread * self.spread / 2.0;
        // Ten million tokens are more than any model has: a bound, so that no sum overflows.
        let tokens = (location + self.spread * normal).exp().round().min(1e7);
        (tokens as u32).max(1)
    }
}

/// A mean length that may be drawn from.
pub(super) fn check_mean(field: &'static str, mean: f64) -> Result<(), GenerateError> {
    in_range(
        (1.0..=1e6).contains(&mean),
        field,
        "from 1 to 1000000 tokens",
    )
}

/// A spread of lengths.
pub(super) fn check_spread(field: &'static str, spread: f64) -> Result<(), GenerateError> {
    in_range((0.0..=3.0).contains(&spread), field, "from 0 to 3")
}

/// Numbers from 0 to `count - 1`, number k with a weight of 1/(k+1)^exponent.
#[derive(Debug)]
pub(super) struct Popularity {
    cumulative: Vec<f64>,
}

impl Popularity {
    pub(super) fn zipf(count: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=count).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self {
            cumulative: weights.collect(),
        }
    }

    pub(super) fn draw(&self, random: &mut Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let place = random.f64() * total;
        let found = self.cumulative.partition_point(|sum| *sum <= place);
        found.min(self.cumulative.len() - 1)
    }
}

/// How many there are in a row, at least 1, geometric with that mean.
pub(super) fn geometric(random: &mut Rng, mean: f64) -> u32 {
    if mean <= 1.0 {
        return 1;
    }
    let more = (1.0 - random.f64()).ln() / (1.0 - 1.0 / mean).ln();
    1 + more.min(1e6) as u32
}
