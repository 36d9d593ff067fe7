//! Whether a server is asked for the wanted families only.

use std::time::{Duration, Instant};

/// How long a refusal holds: a server that is updated in place gets asked again.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// What is known of one server's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Not wanted.
    Off,
    /// To be found out with the next page.
    Unknown,
    /// It filters.
    Works,
    /// It does not; asked again from then on.
    Refused {
        /// When.
        until: Instant,
    },
}

impl Filter {
    pub(crate) fn new(wanted: bool) -> Self {
        if wanted { Self::Unknown } else { Self::Off }
    }

    /// Whether to ask with the filter now.
    pub(crate) fn applies(self, now: Instant) -> bool {
        match self {
            Self::Off => false,
            Self::Unknown | Self::Works => true,
            Self::Refused { until } => now >= until,
        }
    }

    /// The server does not filter.
    pub(crate) fn refuse(&mut self, now: Instant) {
        *self = Self::Refused {
            until: now + RETRY_AFTER,
        };
    }

    /// The server failed altogether, whatever it was asked: what was known may belong to another process.
    pub(crate) fn forget(&mut self) {
        if *self != Self::Off {
            *self = Self::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_holds_for_a_while() {
        let now = Instant::now();
        let mut filter = Filter::new(true);
        assert!(filter.applies(now));
        filter.refuse(now);
        assert!(!filter.applies(now) && filter.applies(now + RETRY_AFTER));
        filter.forget();
        assert_eq!(filter, Filter::Unknown);
    }

    #[test]
    fn an_unwanted_filter_stays_off() {
        let mut filter = Filter::new(false);
        filter.forget();
        assert!(!filter.applies(Instant::now()));
    }
}
