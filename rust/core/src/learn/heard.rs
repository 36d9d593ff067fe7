//! Which signals flow at one endpoint.

use std::time::Duration;

use super::Signal;
use crate::Nanos;

/// A signal that was silent for longer does not flow any more.
pub(super) const ALIVE: Duration = Duration::from_secs(60);

/// When something was last seen; survives a clock that steps back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastSeen(Option<Nanos>);

impl LastSeen {
    pub(super) fn see(&mut self, now: Nanos) {
        self.0 = Some(now);
    }

    pub(super) fn is_alive(&mut self, now: Nanos) -> bool {
        // What was seen in the future was seen before the clock stepped back, and ages from here.
        self.0 = self.0.map(|seen| seen.min(now));
        self.0.is_some_and(|seen| now - seen <= ALIVE)
    }
}

/// When each signal was last heard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    first_token: LastSeen,
    /// That of an answer that was drawn to be watched, so others are not.
    drawn_first_token: LastSeen,
    /// An answer ended whose first token was not seen.
    blind_end: LastSeen,
    kv_events: LastSeen,
    counters: LastSeen,
}

impl Heard {
    pub(super) fn first_token(&mut self, now: Nanos) {
        self.first_token.see(now);
    }

    pub(super) fn drawn_first_token(&mut self, now: Nanos) {
        self.drawn_first_token.see(now);
    }

    pub(super) fn blind_end(&mut self, now: Nanos) {
        self.blind_end.see(now);
    }

    pub(super) fn kv_event(&mut self, now: Nanos) {
        self.kv_events.see(now);
    }

    pub(super) fn counters(&mut self, now: Nanos) {
        self.counters.see(now);
    }

    pub(super) fn has_counters(&mut self, now: Nanos) -> bool {
        self.counters.is_alive(now)
    }

    /// The best signal of the last minute.
    pub(super) fn best(&mut self, now: Nanos) -> Signal {
        let blind = self.blind_end.is_alive(now);
        // Where some are drawn, others are not: their ends may be minutes away.
        let drawn = self.drawn_first_token.is_alive(now);
        let seen = self.first_token.is_alive(now);
        if seen && !blind && !drawn {
            Signal::FirstToken
        } else if seen || drawn {
            Signal::Sampled
        } else if self.kv_events.is_alive(now) {
            Signal::KvEvents
        } else if self.counters.is_alive(now) {
            Signal::Counters
        } else if blind {
            Signal::Ends
        } else {
            Signal::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_best_signal_of_the_last_minute_counts() {
        let mut heard = Heard::default();
        assert_eq!(heard.best(at(1)), Signal::None);
        heard.blind_end(at(10));
        assert_eq!(heard.best(at(10)), Signal::Ends);
        heard.counters(at(20));
        assert_eq!(heard.best(at(20)), Signal::Counters);
        heard.kv_event(at(30));
        assert_eq!(heard.best(at(30)), Signal::KvEvents);
        heard.first_token(at(40));
        assert_eq!(heard.best(at(40)), Signal::Sampled);
        heard.first_token(at(80));
        assert_eq!(
            heard.best(at(80)),
            Signal::FirstToken,
            "nothing was missed for a minute"
        );
        heard.counters(at(100));
        assert_eq!(heard.best(at(141)), Signal::Counters);
        assert_eq!(heard.best(at(161)), Signal::None);
    }

    #[test]
    fn first_tokens_of_drawn_answers_are_never_those_of_all() {
        let mut heard = Heard::default();
        heard.drawn_first_token(at(10));
        assert_eq!(heard.best(at(10)), Signal::Sampled, "no other has ended");
        heard.first_token(at(20));
        assert_eq!(heard.best(at(20)), Signal::Sampled);
        assert_eq!(heard.best(at(71)), Signal::FirstToken);
    }

    #[test]
    fn a_clock_that_steps_back_keeps_no_signal_alive_for_longer() {
        let mut heard = Heard::default();
        heard.counters(at(100_000));
        assert_eq!(heard.best(at(10)), Signal::Counters);
        assert_eq!(heard.best(at(71)), Signal::None);
    }
}
