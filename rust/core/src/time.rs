//! Time as the engine sees it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds on a monotonic clock that the host owns; its zero is arbitrary but the same for one engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Seconds since the clock's zero.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;

    /// Never beyond the clock's end.
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Nanos {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero when the clock stepped back.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
