//! How many requests an engine runs at once, as far as its pages have shown.

/// Pages on which requests waited while the engine ran as many as it ever did, before that is taken for its limit.
const PAGES: u32 = 20;
/// Below this many nothing is taken for a limit: a few long prompts wait for their prefill, not for a place.
const FEW: f64 = 8.0;
/// Share of the most that ran at which the engine counts as running that many.
const NEARLY: f64 = 0.98;

/// The limit that an engine keeps (`max_num_seqs` in vLLM) and tells nobody: where it runs as many requests as it ever did, again and again, and
/// others wait. Requests that wait for their prefill wait at any number of running ones, so at the most that ever ran they wait seldom.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    most: f64,
    pages: u32,
    waited: u32,
}

impl Slots {
    /// A page was read. Gauges that are no numbers are passed over.
    pub(crate) fn page(&mut self, running: f64, waiting: f64) {
        if !running.is_finite() || !waiting.is_finite() {
            return;
        }
        if running > self.most {
            // What was a limit was none.
            *self = Self {
                most: running,
                ..Self::default()
            };
        }
        if running >= FEW && running >= NEARLY * self.most {
            self.pages = self.pages.saturating_add(1);
            self.waited = self.waited.saturating_add(u32::from(waiting > 0.0));
        }
    }

    /// Requests that run at once; infinite while no limit has shown.
    pub(crate) fn limit(&self) -> f64 {
        if self.waited >= PAGES && self.waited >= self.pages / 2 {
            self.most
        } else {
            f64::INFINITY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pages: impl IntoIterator<Item = (f64, f64)>) -> f64 {
        let mut slots = Slots::default();
        for (running, waiting) in pages {
            slots.page(running, waiting);
        }
        slots.limit()
    }

    #[test]
    fn an_engine_that_runs_its_most_while_others_wait_has_shown_its_limit() {
        let busy = (0..30).map(|page| (256.0 - f64::from(page % 3), f64::from(page % 4)));
        assert_eq!(after(busy), 256.0);
    }

    #[test]
    fn requests_that_wait_for_their_prefill_show_no_limit() {
        let few = (0..100).map(|page| (f64::from(page % 5), 3.0));
        assert_eq!(after(few), f64::INFINITY);
        // Now and then the most run; then others seldom wait.
        let many = (0..1000).map(|page| match page % 10 {
            0 => (60.0, f64::from(u8::from(page % 40 == 0))),
            rest => (20.0 + f64::from(rest), 2.0),
        });
        assert_eq!(after(many), f64::INFINITY);
    }

    #[test]
    fn a_limit_that_is_exceeded_was_none() {
        let pages = (0..30).map(|_| (64.0, 5.0)).chain([(65.0, 0.0)]);
        assert_eq!(after(pages), f64::INFINITY);
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        let pages = (0..30).flat_map(|_| [(f64::NAN, 5.0), (64.0, 5.0), (f64::INFINITY, 1.0)]);
        assert_eq!(after(pages), 64.0);
    }
}
