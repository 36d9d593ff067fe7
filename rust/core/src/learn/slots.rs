//! How many requests an engine runs at once, as far as its pages have shown.

use std::time::Duration;

use crate::Nanos;

/// Below this many nothing is taken for a limit: a few long prompts wait for their prefill, not for a place.
const FEW: f64 = 8.0;
/// Share of the most that ran at which the engine counts as running that many.
const NEARLY: f64 = 0.98;
/// Seconds in which what was seen counts only 1/e any more, of the time in which requests waited.
const MEMORY_SECONDS: f64 = 3.0;
/// Share of that time in which the most ran, from which on it is the limit: after three seconds at the earliest.
const SHOWN: f64 = 0.6;
/// A page speaks for no more seconds than these.
const LONGEST_PAGE: f64 = 1.0;
/// A limit that has not shown for so long is none any more, and the most that ran so long ago is not the most.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A KV cache as full as this makes requests wait without any limit.
const FULL: f64 = 0.9;

/// What a page says of places.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queue {
    pub running: f64,
    pub waiting: f64,
    /// 0 to 1.
    pub kv_usage: f64,
    /// Requests wait for a place for their adapter.
    pub for_adapters: bool,
}

/// The limit that an engine keeps (`max_num_seqs` in vLLM) and tells nobody: where requests wait, it runs as many as it ever did, and does so for
/// seconds. Those that wait for their prefill wait at any number of running ones, which also changes all the time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    most: f64,
    /// When the last page was read.
    page: Nanos,
    /// When nearly the most ran.
    ran: Nanos,
    /// When nearly the most ran and others waited.
    waited: Nanos,
    /// Share of the time with requests waiting in which nearly the most ran.
    share: f64,
    shown: bool,
}

impl Slots {
    /// A page was read. Gauges that are no numbers are passed over.
    pub(crate) fn page(&mut self, queue: &Queue, now: Nanos) {
        let Queue {
            running, waiting, ..
        } = *queue;
        if !running.is_finite() || !waiting.is_finite() {
            return;
        }
        let seconds = (now - self.page).as_secs_f64().min(LONGEST_PAGE);
        // What was seen in the future was seen before the clock stepped back, and ages from here.
        self.page = now;
        self.ran = self.ran.min(now);
        self.waited = self.waited.min(now);
        if running > self.most || now - self.ran > FORGOTTEN {
            // What was a limit was none, or is one no longer.
            *self = Self {
                most: running,
                page: now,
                ran: now,
                ..Self::default()
            };
        }
        if now - self.waited > FORGOTTEN {
            self.shown = false;
        }
        let most_run = running >= FEW && running >= NEARLY * self.most;
        if most_run {
            self.ran = now;
        }
        // Usage that is no number is none.
        if waiting <= 0.0 || running < FEW || queue.kv_usage >= FULL || queue.for_adapters {
            return;
        }
        let gain = 1.0 - (-seconds / MEMORY_SECONDS).exp();
        self.share += gain * (f64::from(u8::from(most_run)) - self.share);
        if most_run {
            self.waited = now;
            self.shown |= self.share >= SHOWN;
        }
    }

    /// Requests that run at once; infinite while no limit has shown.
    pub(crate) fn limit(&self) -> f64 {
        if self.shown { self.most } else { f64::INFINITY }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "limits are counts")]
mod tests {
    use super::*;

    const PAGES_A_SECOND: u64 = 20;

    struct Engine {
        slots: Slots,
        now: Nanos,
    }

    impl Engine {
        fn new() -> Self {
            Self {
                slots: Slots::default(),
                now: Nanos(1_000_000_000_000),
            }
        }

        /// Pages for so many seconds, of which `queue` gives each by its number; the limit afterwards.
        fn run(&mut self, seconds: u64, queue: impl Fn(u64) -> Queue) -> f64 {
            for page in 0..seconds * PAGES_A_SECOND {
                self.now = Nanos(self.now.0 + 1_000_000_000 / PAGES_A_SECOND);
                self.slots.page(&queue(page), self.now);
            }
            self.slots.limit()
        }
    }

    fn queue(running: u64, waiting: u64) -> Queue {
        Queue {
            running: running as f64,
            waiting: waiting as f64,
            ..Queue::default()
        }
    }

    /// Full as it can be, with and without requests waiting.
    fn busy(page: u64) -> Queue {
        queue(256 - page % 3, page % 4)
    }

    #[test]
    fn an_engine_that_runs_its_most_while_others_wait_has_shown_its_limit() {
        let mut engine = Engine::new();
        assert_eq!(engine.run(2, busy), f64::INFINITY, "not so soon");
        assert_eq!(engine.run(3, busy), 256.0);
        // It stays while there is less to do, also while some wait for their prefill.
        assert_eq!(engine.run(300, |page| queue(20 + page % 70, 1)), 256.0);
        assert_eq!(engine.run(2, busy), 256.0);
        assert_eq!(engine.run(590, |_| queue(100, 0)), 256.0);
        assert_eq!(engine.run(20, |_| queue(100, 0)), f64::INFINITY);
    }

    #[test]
    fn requests_that_wait_for_their_prefill_show_no_limit() {
        let few = |page| queue(page % 5, 3);
        assert_eq!(Engine::new().run(100, few), f64::INFINITY);
        // Some always wait, and the number that runs goes up and down within 10 seconds.
        let waves = |page: u64| queue(40 + (page % 200).abs_diff(100) / 5, 2);
        assert_eq!(Engine::new().run(600, waves), f64::INFINITY);
        // All come at once, and run one after the other.
        let burst = |page: u64| queue(page.min(100), 100_u64.saturating_sub(page));
        assert_eq!(Engine::new().run(60, burst), f64::INFINITY);
    }

    #[test]
    fn requests_that_wait_for_memory_or_adapters_show_no_limit() {
        for (kv_usage, for_adapters) in [(0.95, false), (0.5, true)] {
            let waits = |_| Queue {
                kv_usage,
                for_adapters,
                ..queue(60, 5)
            };
            assert_eq!(Engine::new().run(60, waits), f64::INFINITY);
        }
        let unknown = |_| Queue {
            kv_usage: f64::NAN,
            ..queue(60, 5)
        };
        assert_eq!(Engine::new().run(60, unknown), 60.0);
    }

    #[test]
    fn a_limit_that_is_exceeded_was_none() {
        let mut engine = Engine::new();
        assert_eq!(engine.run(30, |_| queue(64, 5)), 64.0);
        assert_eq!(engine.run(1, |_| queue(65, 0)), f64::INFINITY);
    }

    #[test]
    fn an_absurd_page_hides_the_limit_for_ten_minutes_and_not_for_ever() {
        let mut engine = Engine::new();
        engine.run(30, |_| queue(64, 5));
        engine.run(1, |page| queue(if page == 3 { 1 << 50 } else { 64 }, 5));
        assert_eq!(engine.run(590, |_| queue(64, 5)), f64::INFINITY);
        assert_eq!(engine.run(30, |_| queue(64, 5)), 64.0);
    }

    #[test]
    fn what_is_no_number_and_a_clock_that_steps_change_nothing() {
        let mut engine = Engine::new();
        let pages = |page: u64| match page % 3 {
            0 => queue(64, 5),
            1 => Queue {
                running: f64::NAN,
                ..queue(0, 5)
            },
            _ => Queue {
                waiting: f64::INFINITY,
                ..queue(90, 0)
            },
        };
        assert_eq!(engine.run(30, pages), 64.0);
        engine.now = Nanos(1_000_000_000);
        assert_eq!(engine.run(30, |_| queue(64, 5)), 64.0);
        engine.now = Nanos(engine.now.0 + 300_000_000_000);
        assert_eq!(engine.run(1, |_| queue(50, 0)), 64.0);
        assert_eq!(engine.run(310, |_| queue(50, 0)), f64::INFINITY);
    }
}
