//! The clock of the sans-IO engine.

use std::time::Instant;

use warmroute_core::Nanos;

/// Monotonic time since an epoch. Everything that feeds one engine must use copies of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock whose epoch is now.
    pub fn new() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Nanoseconds since the epoch, never zero, so that zero can mean "never" to the engine.
    pub fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
