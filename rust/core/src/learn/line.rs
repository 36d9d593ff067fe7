//! A straight line through samples, of which old ones are forgotten.

/// Weight with which the line is drawn towards the origin, against the square of the samples' relative spread.
///
/// Samples that all lie at one place do not tell base from slope. What they took is then laid on the slope; with a relative spread of 10 %
/// this changes the slope by 1 %, with the spread of real prompts by nothing.
const TOWARDS_ORIGIN: f64 = 1e-4;

/// Least part of the mean that the slope explains: work is never free, whatever noise says.
const LEAST_SLOPE: f64 = 0.01;

/// Weighted least squares of `took = base + slope · at`, with both never below zero.
///
/// Kept as weight, means and central sums, which lose nothing to cancellation where samples lie close together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    weight: f64,
    mean_at: f64,
    mean_took: f64,
    /// Σ weight · (at - mean)².
    spread: f64,
    /// Σ weight · (at - mean) · (took - mean).
    together: f64,
}

impl Line {
    /// Adds a sample. `kept`: the share of their weight that all earlier samples keep, 0 to 1.
    pub(super) fn add(&mut self, at: f64, took: f64, weight: f64, kept: f64) {
        self.weight = self.weight * kept + weight;
        let share = weight / self.weight;
        let (far, long) = (at - self.mean_at, took - self.mean_took);
        self.mean_at += far * share;
        self.mean_took += long * share;
        self.spread = self.spread * kept + weight * far * (at - self.mean_at);
        self.together = self.together * kept + weight * far * (took - self.mean_took);
    }

    /// Mean of where the samples lie.
    pub(super) fn mean_at(&self) -> f64 {
        self.mean_at
    }

    /// Mean of what they took.
    pub(super) fn mean_took(&self) -> f64 {
        self.mean_took
    }

    /// (base, slope); `None` without samples away from 0 that took any time.
    pub(super) fn fit(&self) -> Option<(f64, f64)> {
        if self.mean_at <= 0.0 || self.mean_took <= 0.0 {
            return None;
        }
        let pull = TOWARDS_ORIGIN * self.weight * self.mean_at;
        let slope = (self.together + pull * self.mean_took) / (self.spread + pull * self.mean_at);
        // The steepest line that is never negative goes through the origin and the mean; rounding aside, no fit with a positive base is steeper.
        let steepest = self.mean_took / self.mean_at;
        let base_of = |slope: f64| self.mean_took - slope * self.mean_at;
        if slope >= steepest {
            let square = self.spread + self.weight * self.mean_at * self.mean_at;
            let product = self.together + self.weight * self.mean_at * self.mean_took;
            return Some((0.0, product / square));
        }
        let slope = slope.max(steepest * LEAST_SLOPE);
        Some((base_of(slope).max(0.0), slope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(samples: &[(f64, f64)]) -> Line {
        let mut line = Line::default();
        for (at, took) in samples {
            line.add(*at, *took, 1.0, 1.0);
        }
        line
    }

    #[test]
    fn the_fit_goes_through_samples_on_a_line_and_never_below_zero() {
        for (samples, base, slope) in [
            // On a line.
            (&[(1.0, 5.0), (2.0, 7.0), (9.0, 21.0)][..], 3.0, 2.0),
            // Falling: all is base but the least slope.
            (&[(1.0, 7.0), (3.0, 5.0)], 6.0 - 0.06, 0.03),
            // The base would be -1: through the origin, Σxy/Σx².
            (&[(1.0, 1.0), (2.0, 3.0)], 0.0, 1.4),
            // One place only: all is slope.
            (&[(4.0, 8.0), (4.0, 8.0)], 0.0, 2.0),
        ] {
            let (told_base, told_slope) = line(samples).fit().expect("samples");
            assert!((told_base - base).abs() < 0.01, "{samples:?} {told_base}");
            assert!(
                (told_slope - slope).abs() < 0.01,
                "{samples:?} {told_slope}"
            );
        }
        assert_eq!(line(&[]).fit(), None);
        assert_eq!(line(&[(0.0, 1.0)]).fit(), None);
    }

    #[test]
    fn old_samples_are_forgotten() {
        let mut line = line(&[(1.0, 10.0), (2.0, 20.0)]);
        for turn in 0..100 {
            line.add(f64::from(1 + turn % 2), f64::from(1 + turn % 2), 1.0, 0.9);
        }
        let (base, slope) = line.fit().expect("samples");
        assert!(
            (base + slope - 1.0).abs() < 1e-2 && (slope - 1.0).abs() < 1e-2,
            "{base} {slope}"
        );
    }

    #[test]
    fn one_heavy_sample_is_as_many_light_ones() {
        let mut heavy = line(&[(1.0, 1.0)]);
        heavy.add(3.0, 9.0, 5.0, 1.0);
        let light = line(&[
            (1.0, 1.0),
            (3.0, 9.0),
            (3.0, 9.0),
            (3.0, 9.0),
            (3.0, 9.0),
            (3.0, 9.0),
        ]);
        let (heavy, light) = (heavy.fit().expect("samples"), light.fit().expect("samples"));
        assert!((heavy.0 - light.0).abs() < 1e-9 && (heavy.1 - light.1).abs() < 1e-9);
    }
}
