//! What an engine's counters grew by from one page to the next.

/// The counters of a page that tell of first tokens and of decoding. `None`: the page did not carry the series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PageTotals {
    /// First tokens.
    pub first_tokens: Option<f64>,
    /// Seconds to them, summed.
    pub first_token_seconds: Option<f64>,
    /// Gaps between two tokens of a request.
    pub token_gaps: Option<f64>,
    /// Their seconds, summed.
    pub token_gap_seconds: Option<f64>,
    /// Output tokens.
    pub output_tokens: Option<f64>,
    /// Requests that ended.
    pub finished_requests: Option<f64>,
}

impl PageTotals {
    /// What grew since `before`. Nothing did where a series is new, nor anywhere when one fell: the engine was started again.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut restarted = false;
        let mut grown = |now: Option<f64>, before: Option<f64>| {
            let growth = now? - before?;
            // What is no number is no growth either.
            restarted |= growth < 0.0;
            growth.is_finite().then_some(growth)
        };
        let growth = Self {
            first_tokens: grown(self.first_tokens, before.first_tokens),
            first_token_seconds: grown(self.first_token_seconds, before.first_token_seconds),
            token_gaps: grown(self.token_gaps, before.token_gaps),
            token_gap_seconds: grown(self.token_gap_seconds, before.token_gap_seconds),
            output_tokens: grown(self.output_tokens, before.output_tokens),
            finished_requests: grown(self.finished_requests, before.finished_requests),
        };
        if restarted { Self::default() } else { growth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_series_and_restarted_engines_have_no_growth() {
        let page = |first_tokens, output_tokens| PageTotals {
            first_tokens,
            output_tokens,
            ..PageTotals::default()
        };
        for (before, now, growth) in [
            (
                page(None, Some(5.0)),
                page(Some(3.0), Some(9.0)),
                page(None, Some(4.0)),
            ),
            (
                page(Some(1.0), Some(5.0)),
                page(Some(3.0), None),
                page(Some(2.0), None),
            ),
            (
                page(Some(7.0), Some(5.0)),
                page(Some(3.0), Some(9.0)),
                page(None, None),
            ),
            (
                page(Some(f64::NAN), Some(5.0)),
                page(Some(3.0), Some(5.0)),
                page(None, Some(0.0)),
            ),
        ] {
            assert_eq!(now.since(&before), growth);
        }
    }
}
