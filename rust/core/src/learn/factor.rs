//! How much slower than the pool's curve one endpoint is.

use crate::Nanos;

/// Wall time in which a sample loses half of its weight.
const HALF_LIFE_SECONDS: f64 = 30.0;
/// The pool's curve counts as so many samples: an endpoint of which little is known is like the others.
const CURVE_SAMPLES: f64 = 5.0;
/// No endpoint is faster or slower than the pool's curve by more.
const LIMIT: f64 = 10.0;

/// Sums of what samples of an endpoint took and of what the pool's curve expected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Factor {
    took: f64,
    expected: f64,
    at: Nanos,
}

impl Factor {
    pub(super) fn add(&mut self, took: f64, expected: f64, weight: f64, now: Nanos) {
        self.age(now);
        self.took += took * weight;
        self.expected += expected * weight;
    }

    /// 1: like the pool's curve, 2: half as fast. `scale`: seconds that a sample of the pool usually is expected to take.
    pub(super) fn value(&mut self, scale: f64, now: Nanos) -> f64 {
        self.age(now);
        let own = CURVE_SAMPLES * scale;
        let factor = (own + self.took) / (own + self.expected);
        if factor.is_finite() {
            factor.clamp(1.0 / LIMIT, LIMIT)
        } else {
            1.0
        }
    }

    fn age(&mut self, now: Nanos) {
        // A clock that stepped back ages nothing, and is followed.
        let kept = (-(now - self.at).as_secs_f64() / HALF_LIFE_SECONDS).exp2();
        self.took *= kept;
        self.expected *= kept;
        self.at = now;
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these come out exactly")]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Nanos {
        Nanos((seconds * 1e9) as u64)
    }

    #[test]
    fn the_factor_is_what_samples_took_over_what_was_expected_and_drifts_back() {
        let mut factor = Factor::default();
        assert_eq!(factor.value(0.2, at(0.0)), 1.0);
        factor.add(3.0, 1.0, 1.0, at(1.0));
        // (5 · 0.2 + 3) / (5 · 0.2 + 1).
        assert_eq!(factor.value(0.2, at(1.0)), 2.0);
        // Half of both sums a half-life later.
        assert!((factor.value(0.2, at(31.0)) - 2.5 / 1.5).abs() < 1e-9);
        assert!((factor.value(0.2, at(631.0)) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn the_factor_is_limited_and_survives_the_clock() {
        let mut factor = Factor::default();
        factor.add(1e6, 1.0, 100.0, at(100.0));
        assert_eq!(factor.value(0.2, at(100.0)), 10.0);
        assert_eq!(factor.value(0.2, at(1.0)), 10.0, "a step back");
        assert!(factor.value(0.2, at(1e9)) <= 1.01, "a jump forward");
        factor.add(0.0, 1e6, 100.0, at(1.0));
        assert_eq!(factor.value(0.2, at(1.0)), 0.1);
        assert_eq!(Factor::default().value(0.0, at(0.0)), 1.0);
    }
}
