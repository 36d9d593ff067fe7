//! The clock of the sans-IO engine.

use std::sync::LazyLock;
use std::time::Instant;

use warmroute_core::Nanos;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds on the process's monotonic clock since its first use, never zero, so that zero can mean "never" to the engine.
/// Everything that feeds an engine must take its time from here.
pub fn now() -> Nanos {
    Nanos(
        u64::try_from(EPOCH.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1),
    )
}
