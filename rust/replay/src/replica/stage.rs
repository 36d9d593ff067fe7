//! Where a replica is: in a step, which may be the first of many alike.

use super::work::{Pace, Work};

/// What stopped the queue at the beginning of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Nothing: all that waits has been passed over for want of an adapter slot, and what arrives now is considered.
    Open,
    /// No room, no seat or no budget: it moves when a sequence ends.
    Stopped,
    /// The step preempted, so it admits nothing; the next may.
    Preempted,
}

/// A step that has begun, with the steps that repeat it if nothing changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    /// When the first step began.
    pub(super) start: f64,
    /// What the first step computes.
    pub(super) work: Work,
    pub(super) pace: Pace,
    /// Steps until something else has to be decided; at least 1.
    pub(super) limit: u32,
    /// Of these, steps that have ended. The next one has begun.
    pub(super) done: u32,
    /// Whether every running sequence does nothing but decode; only then is `limit` above 1.
    pub(super) decodes: bool,
    pub(super) queue: Queue,
    /// Tokens that the first step could still compute.
    pub(super) budget: u32,
    /// Sum over the running sequences of the seconds since their last token, at `start` (of the decoding ones).
    pub(super) token_age: f64,
}

impl Stage {
    /// When its last step ends.
    pub(super) fn end(&self) -> f64 {
        self.start + self.pace.seconds(self.limit)
    }

    /// When the step that runs began.
    pub(super) fn step_start(&self) -> f64 {
        self.start + self.pace.seconds(self.done)
    }

    /// Lets time pass to `until`, before the end.
    pub(super) fn pass(&mut self, until: f64) {
        if self.limit > 1 {
            // The last step has not ended, whatever rounding says.
            self.done = self.pace.steps_until(self.start, until, self.limit - 1);
        }
    }

    /// The step that runs is the last one of the stage.
    pub(super) fn cut(&mut self) {
        self.limit = self.done + 1;
    }
}
