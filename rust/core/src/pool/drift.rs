//! Whether the prefix index is right: what engines say that they found in their caches, against what was expected of them.

use super::Picks;
use crate::Nanos;

/// How far back it looks, in seconds: what is older counts for less than a third.
const WINDOW_SECONDS: f64 = 60.0;
/// Tokens on either side below which nothing can be told.
const LEAST_TOKENS: f64 = 1000.0;

/// Sums over the last minute of (cached, all) prompt tokens: as the engine counted them, and as they were expected when requests were sent.
///
/// Shares are compared, not sums: an engine also counts the requests of other routers, and counts each later than it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CacheDrift {
    last: Option<Totals>,
    reported: (f64, f64),
    expected: (f64, f64),
}

#[derive(Clone, Copy, Debug)]
struct Totals {
    reported: (f64, f64),
    expected: (f64, f64),
    at: Nanos,
}

impl CacheDrift {
    /// `reported`: the engine's counters of (cached, all) prompt tokens.
    pub(super) fn observe(&mut self, reported: (f64, f64), picks: Picks, now: Nanos) {
        let totals = Totals {
            reported,
            expected: (picks.matched_tokens as f64, picks.prompt_tokens as f64),
            at: now,
        };
        let Some(last) = self.last.replace(totals) else {
            return;
        };
        let kept = (-(now - last.at).as_secs_f64() / WINDOW_SECONDS).exp();
        let add = |sums: &mut (f64, f64), now: (f64, f64), last: (f64, f64)| {
            // A counter that fell belongs to an engine that was started again: it counts from zero.
            let growth = if now.1 < last.1 {
                now
            } else {
                (now.0 - last.0, now.1 - last.1)
            };
            *sums = (
                sums.0 * kept + growth.0.max(0.0),
                sums.1 * kept + growth.1.max(0.0),
            );
        };
        add(&mut self.reported, totals.reported, last.reported);
        add(&mut self.expected, totals.expected, last.expected);
    }

    pub(super) fn drift(&self) -> Option<f64> {
        let share = |(cached, all): (f64, f64)| {
            (all >= LEAST_TOKENS).then(|| (cached / all).clamp(0.0, 1.0))
        };
        Some(share(self.reported)? - share(self.expected)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(matched_tokens: u64, prompt_tokens: u64) -> Picks {
        Picks {
            requests: 1,
            prompt_tokens,
            matched_tokens,
        }
    }

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_drift_is_the_difference_of_the_shares() {
        let mut drift = CacheDrift::default();
        drift.observe((500.0, 9000.0), picks(0, 0), at(1));
        assert_eq!(drift.drift(), None, "nothing to compare with yet");
        // Another router's requests are in the engine's counters too.
        drift.observe((2500.0, 13_000.0), picks(1600, 2000), at(2));
        let told = drift.drift().expect("enough");
        assert!((told - (0.5 - 0.8)).abs() < 1e-9, "{told}");
        drift.observe((2500.0, 13_000.0), picks(1600, 2000), at(2));
        assert_eq!(drift.drift(), Some(told), "nothing new");
    }

    #[test]
    fn what_is_old_is_forgotten_and_too_little_tells_nothing() {
        let mut drift = CacheDrift::default();
        drift.observe((0.0, 0.0), picks(0, 0), at(0));
        drift.observe((0.0, 2000.0), picks(2000, 2000), at(1));
        assert_eq!(drift.drift(), Some(-1.0));
        drift.observe(
            (2_000_000.0, 2_002_000.0),
            picks(2_002_000, 2_002_000),
            at(120),
        );
        assert!(drift.drift().expect("enough") > -0.01);
        drift.observe(
            (2_000_000.0, 2_002_000.0),
            picks(2_002_000, 2_002_000),
            at(1200),
        );
        assert_eq!(drift.drift(), None, "long silent");
    }

    #[test]
    fn an_engine_that_starts_again_counts_from_zero() {
        let mut drift = CacheDrift::default();
        drift.observe((90_000.0, 100_000.0), picks(0, 0), at(0));
        drift.observe((1000.0, 2000.0), picks(1000, 2000), at(1));
        assert_eq!(drift.drift(), Some(0.0));
    }
}
