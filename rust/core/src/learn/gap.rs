//! The time between first tokens of one endpoint while prefills are pending: what a queue behind a stalled engine really waits for.

use crate::Nanos;

/// Weight of a new gap.
const GAIN: f64 = 0.05;

/// d of `policy.md`: a moving mean of the gaps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gap {
    seconds: f64,
    /// When the gap began that is not over; `None`: nothing is pending.
    since: Option<Nanos>,
    known: bool,
}

impl Gap {
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The first prefill is pending again.
    pub(super) fn start(&mut self, now: Nanos) {
        self.since = Some(now);
    }

    /// So many first tokens were seen since the last time. `longest`: seconds, a longer gap counts as this one.
    pub(super) fn first_tokens(&mut self, count: f64, longest: f64, pending: bool, now: Nanos) {
        if let Some(since) = self.since
            && now >= since
        {
            let gap = ((now - since).as_secs_f64() / count).min(longest);
            // The first gap is all that is known.
            let gain = if self.known {
                1.0 - (1.0 - GAIN).powf(count)
            } else {
                1.0
            };
            self.seconds += gain * (gap - self.seconds);
            self.known = true;
        }
        self.since = pending.then_some(now);
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these come out exactly")]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn gaps_are_measured_while_prefills_are_pending() {
        let mut gap = Gap::default();
        gap.start(at(10));
        gap.first_tokens(1.0, 100.0, true, at(12));
        assert_eq!(gap.seconds(), 2.0);
        gap.first_tokens(1.0, 100.0, false, at(16));
        assert!((gap.seconds() - 2.1).abs() < 1e-9, "0.95 · 2 + 0.05 · 4");
        // An idle hour is no gap.
        gap.start(at(3600));
        gap.first_tokens(1.0, 100.0, false, at(3602));
        assert!((gap.seconds() - 2.095).abs() < 1e-9);
    }

    #[test]
    fn several_first_tokens_share_the_time_and_a_jump_of_the_clock_is_limited() {
        let mut gap = Gap::default();
        gap.start(at(0));
        gap.first_tokens(4.0, 100.0, true, at(2));
        assert_eq!(gap.seconds(), 0.5);
        gap.first_tokens(1.0, 1.5, true, at(90_000));
        assert!((gap.seconds() - 0.55).abs() < 1e-9);
        gap.first_tokens(1.0, 1.5, true, at(5));
        assert!((gap.seconds() - 0.55).abs() < 1e-9, "a step back is no gap");
    }
}
