//! Questions from the threads that decide to the one thread of a plugin, and how long a decision waits for the answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use warmroute_core::plugin::ExternalFailure;

/// Decisions that wait at once for one plugin: more than hosts have threads, so only a plugin that is far too slow reaches it.
const LONGEST_QUEUE: usize = 64;

/// How long a decision looks for the answer before it sleeps. A plugin that was awake has answered by then; one that has to be woken has
/// not, and looking on only keeps the core from it (bench/run.py --only plugin).
const AWAKE: Duration = Duration::from_micros(6);

type Outcome = Result<Vec<f64>, ExternalFailure>;

/// One for each plugin of a configuration. `Q` is what is asked.
pub(super) struct Handoff<Q> {
    budget: Duration,
    state: Mutex<State<Q>>,
    asked: Condvar,
}

struct State<Q> {
    queue: VecDeque<(Arc<Answer>, Q)>,
    /// Whose question the plugin works on.
    current: Option<Arc<Answer>>,
    /// The asker of `current` has given up.
    stuck: bool,
    closed: bool,
}

impl<Q> State<Q> {
    fn takes_questions(&self) -> bool {
        !self.closed && !self.stuck && self.queue.len() < LONGEST_QUEUE
    }
}

#[derive(Debug, Default)]
struct Answer {
    /// So that a waiting thread can look without the lock.
    given: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
    answered: Condvar,
}

impl Answer {
    fn give(&self, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.given.store(true, Ordering::Release);
    }

    fn wait_until(&self, deadline: Instant) -> Option<Outcome> {
        let asleep = Instant::now() + AWAKE;
        while !self.given.load(Ordering::Acquire) && Instant::now() < asleep {
            thread::yield_now();
        }
        let mut outcome = self.outcome.lock();
        while outcome.is_none() {
            if self.answered.wait_until(&mut outcome, deadline).timed_out() {
                break;
            }
        }
        outcome.take()
    }
}

impl<Q> Handoff<Q> {
    pub(super) fn new(budget: Duration) -> Self {
        Self {
            budget,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                current: None,
                stuck: false,
                closed: false,
            }),
            asked: Condvar::new(),
        }
    }

    /// Asks and waits, at most for the budget. `Busy` at once while the plugin works on a question that nobody waits for any more.
    pub(super) fn ask(&self, question: impl FnOnce() -> Q) -> Outcome {
        let deadline = Instant::now() + self.budget;
        if !self.state.lock().takes_questions() {
            return Err(ExternalFailure::Busy);
        }
        let question = question();
        let answer = Arc::new(Answer::default());
        {
            let mut state = self.state.lock();
            if !state.takes_questions() {
                return Err(ExternalFailure::Busy);
            }
            state.queue.push_back((Arc::clone(&answer), question));
        }
        self.asked.notify_one();
        if let Some(outcome) = answer.wait_until(deadline) {
            return outcome;
        }
        let mut state = self.state.lock();
        // Answers are given under this lock: one that came in the last instant is here now.
        if let Some(outcome) = answer.outcome.lock().take() {
            return outcome;
        }
        let waiting = state.queue.len();
        state
            .queue
            .retain(|(waiting, _)| !Arc::ptr_eq(waiting, &answer));
        if state.queue.len() == waiting {
            state.stuck = true;
        }
        Err(ExternalFailure::TimedOut)
    }

    /// Answers the question in hand, then waits for the next one; `None`: there will be none.
    pub(super) fn next(&self, outcome: Option<Outcome>) -> Option<Q> {
        let mut state = self.state.lock();
        state.stuck = false;
        if let (Some(answer), Some(outcome)) = (state.current.take(), outcome) {
            answer.give(outcome);
            answer.answered.notify_one();
        }
        loop {
            if state.closed {
                return None;
            }
            if let Some((answer, question)) = state.queue.pop_front() {
                state.current = Some(answer);
                return Some(question);
            }
            self.asked.wait(&mut state);
        }
    }

    /// Nobody is to wait any more; the plugin's thread ends when its function returns.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for (answer, _) in state.queue.drain(..) {
            answer.give(Err(ExternalFailure::Busy));
            answer.answered.notify_one();
        }
        self.asked.notify_all();
    }
}
