//! Which streamed answers are watched: a share of them, by chance, so that no pattern in the traffic decides which.

use std::sync::atomic::{AtomicU64, Ordering};

/// Draws without a lock; the same answers for the same seed and order.
#[derive(Debug)]
pub(super) struct ResponseSample {
    /// Numbers below it are drawn.
    below: u64,
    state: AtomicU64,
}

/// What is added for each draw: an odd number, so that all states come up before one does again (Weyl sequence of `SplitMix64`, Steele et al. 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl ResponseSample {
    /// `share`: 0 to 1.
    pub(super) fn new(share: f64, seed: Option<u64>) -> Self {
        Self {
            // A float to integer cast saturates, so all of them is all but one in 2^64.
            below: (share * 2.0_f64.powi(64)) as u64,
            state: AtomicU64::new(seed.unwrap_or_else(|| fastrand::u64(..))),
        }
    }

    /// Whether the next answer is one of the share.
    pub(super) fn draw(&self) -> bool {
        if self.below == 0 {
            return false;
        }
        let state = self.state.fetch_add(STEP, Ordering::Relaxed);
        mixed(state.wrapping_add(STEP)) < self.below
    }
}

/// The output function of `SplitMix64`.
fn mixed(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_drawn_and_repeats_for_its_seed() {
        let drawn = |share, seed| -> Vec<bool> {
            let sample = ResponseSample::new(share, Some(seed));
            (0..20_000).map(|_| sample.draw()).collect()
        };
        let count = |drawn: &[bool]| drawn.iter().filter(|one| **one).count();
        assert_eq!((count(&drawn(0.0, 1)), count(&drawn(1.0, 1))), (0, 20_000));
        let some = drawn(0.02, 7);
        assert_eq!(some, drawn(0.02, 7));
        assert_ne!(some, drawn(0.02, 8));
        // 400 expected, with a standard deviation of 20; also among any every-other of them.
        assert!((320..=480).contains(&count(&some)), "{}", count(&some));
        let odd: Vec<bool> = some.iter().copied().skip(1).step_by(2).collect();
        assert!((140..=260).contains(&count(&odd)), "{}", count(&odd));
    }
}
