//! How long to wait for the next page.

use std::time::Duration;

/// Longest wait after failures.
const FAILURE_LIMIT: Duration = Duration::from_secs(5);

/// The interval of one endpoint: the base while something happens, longer when idle or failing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    base: Duration,
    idle_limit: Duration,
    interval: Duration,
    failing: bool,
}

impl Pace {
    pub(crate) fn new(base: Duration, idle_limit: Duration) -> Self {
        Self {
            base,
            idle_limit: idle_limit.max(base),
            interval: base,
            failing: false,
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// A page was read. `idle`: it said the same as the one before, and no request of this picker is in flight there.
    pub(crate) fn page(&mut self, idle: bool) {
        self.interval = if idle && !self.failing {
            (self.interval * 2).min(self.idle_limit)
        } else {
            self.base
        };
        self.failing = false;
    }

    /// No page could be read.
    pub(crate) fn failure(&mut self) {
        let from = if self.failing {
            self.interval
        } else {
            self.base
        };
        self.interval = (from * 2).min(FAILURE_LIMIT.max(self.base));
        self.failing = true;
    }

    /// Whether a reservation should end the present wait: in the pause of an idle endpoint, not in that of a failing one.
    pub(crate) fn wakes_for_requests(&self) -> bool {
        !self.failing && self.interval > self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_idle_endpoint_is_asked_less_often_up_to_the_limit() {
        let mut pace = Pace::new(millis(50), millis(300));
        let intervals = [true, true, true, true, false, true].map(|idle| {
            pace.page(idle);
            pace.interval()
        });
        assert_eq!(intervals, [100, 200, 300, 300, 50, 100].map(millis));
        assert!(pace.wakes_for_requests());
    }

    #[test]
    fn failures_back_off_to_five_seconds_and_one_page_ends_that() {
        let mut pace = Pace::new(millis(50), millis(300));
        pace.failure();
        assert_eq!(pace.interval(), millis(100));
        (0..20).for_each(|_| pace.failure());
        assert_eq!(pace.interval(), millis(5000));
        assert!(!pace.wakes_for_requests());
        pace.page(true);
        assert_eq!(pace.interval(), millis(50));
    }

    #[test]
    fn without_an_idle_limit_the_interval_stays() {
        let mut pace = Pace::new(millis(50), Duration::ZERO);
        pace.page(true);
        assert_eq!(pace.interval(), millis(50));
        assert!(!pace.wakes_for_requests());
    }
}
