//! Keeps requests from waiting for a server that does not answer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row after which the server is left alone.
const FAILURES: u32 = 5;

/// How long it is left alone at first; doubled each time it fails again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long it is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Closed while the server answers, open for a while when it does not; then one request tries whether it does again.
#[derive(Debug, Default)]
pub(crate) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    pause: Duration,
    open_until: Option<Instant>,
}

impl Circuit {
    /// Whether a request may be sent; else how long it will not be.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.0.lock();
        match state.open_until {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                // This request tries; the others wait for what comes of it.
                state.open_until = Some(now + state.pause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The server answered.
    pub(crate) fn answered(&self) {
        *self.0.lock() = State::default();
    }

    /// The server did not answer.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.failures += 1;
        if state.failures >= FAILURES {
            state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            state.open_until = Some(now + state.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_open_the_circuit_for_pauses_that_double_up_to_thirty_seconds() {
        let circuit = Circuit::default();
        let mut now = Instant::now();
        for _ in 0..4 {
            assert_eq!(circuit.admit(now), Ok(()));
            circuit.failed(now);
        }
        assert_eq!(circuit.admit(now), Ok(()));
        circuit.failed(now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(circuit.admit(now), Err(pause));
            now += pause;
            assert_eq!(circuit.admit(now), Ok(()), "one request tries");
            assert!(circuit.admit(now).is_err(), "the others wait");
            circuit.failed(now);
        }
        now += Duration::from_secs(30);
        assert_eq!(circuit.admit(now), Ok(()));
        circuit.answered();
        assert_eq!(circuit.admit(now), Ok(()));
        circuit.failed(now);
        assert_eq!(circuit.admit(now), Ok(()), "one failure is forgiven again");
    }
}
