//! Threads for what a stream waits for: prompts that become tokens take longer than a thread that serves connections may be held up.
//!
//! The threads start with the first jobs, so a host without a tokenizer has none of them, and end with the host.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use parking_lot::{Condvar, Mutex};
use warmroute_core::tokens::{TokenAnswer, TokenJob};

/// Jobs that wait for a thread. One tokenises in milliseconds: what would wait behind more than these is better decided without tokens.
const CAPACITY: usize = 1024;

/// The fewest threads: one long prompt must not hold up all others.
const MIN_THREADS: usize = 2;

/// Runs jobs. Dropping it is as [`Pool::close`].
#[derive(Debug)]
pub(super) struct Pool {
    queue: Arc<Queue>,
    threads: usize,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first; also those whose stream is gone, until they are taken out.
    tickets: VecDeque<Arc<Ticket>>,
    /// Jobs in the queue whose stream is there.
    live: usize,
    /// Threads that run, and those of them that have nothing to do.
    threads: usize,
    idle: usize,
    closed: bool,
}

/// What a stream and the pool share of one job.
#[derive(Debug, Default)]
struct Ticket(Mutex<Stage>);

#[derive(Debug, Default)]
enum Stage {
    /// In the queue; `Waker`: of the stream, once it has asked.
    Queued(TokenJob, Option<Waker>),
    Running(Option<Waker>),
    Answered(TokenAnswer),
    /// The stream has its answer, or wants none any more.
    #[default]
    Over,
}

/// An answer to come. Dropped, the job is not run any more, if it is not running yet, and what it holds is given back at once.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Arc<Ticket>,
    queue: Arc<Queue>,
}

impl Pool {
    /// A pool with a thread for each core.
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(MIN_THREADS, usize::from);
        Self {
            queue: Arc::default(),
            threads: cores.max(MIN_THREADS),
        }
    }

    /// Takes a job; `Err` with the answer of a pool that is full or closed.
    pub(super) fn submit(&self, job: TokenJob) -> Result<Pending, TokenAnswer> {
        let ticket = Arc::new(Ticket(Mutex::new(Stage::Queued(job, None))));
        let mut state = self.queue.state.lock();
        if state.closed || state.live >= CAPACITY {
            return Err(TokenAnswer::busy());
        }
        // As many as wait are spoken for, those included that have not woken yet.
        if state.live >= state.idle && state.threads < self.threads {
            let queue = Arc::clone(&self.queue);
            let started = thread::Builder::new()
                .name("warmroute-tokens".to_owned())
                .spawn(move || queue.work());
            match started {
                Ok(_) => state.threads += 1,
                // Nobody would ever take it.
                Err(_) if state.threads == 0 => return Err(TokenAnswer::busy()),
                Err(_) => {}
            }
        }
        if state.tickets.len() >= 2 * CAPACITY {
            // At least half of them have no stream any more, so this is done once for many.
            state.tickets.retain(|ticket| !ticket.is_over());
        }
        state.tickets.push_back(Arc::clone(&ticket));
        state.live += 1;
        drop(state);
        self.queue.arrived.notify_one();
        Ok(Pending {
            ticket,
            queue: Arc::clone(&self.queue),
        })
    }

    /// Takes no more jobs, drops those that wait, and ends each thread once it is done with what it runs.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.queue.state.lock();
            state.closed = true;
            std::mem::take(&mut state.tickets)
        };
        self.queue.arrived.notify_all();
        for ticket in waiting {
            ticket.answer(|_| TokenAnswer::busy(), || {});
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(ticket) = state.tickets.pop_front() {
                drop(state);
                ticket.answer(TokenJob::run, || self.state.lock().live -= 1);
                // What the stream has left behind is dropped here, without the lock.
                drop(ticket);
                state = self.state.lock();
                continue;
            }
            if state.closed {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            self.arrived.wait(&mut state);
            state.idle -= 1;
        }
    }
}

impl Ticket {
    fn is_over(&self) -> bool {
        matches!(*self.0.lock(), Stage::Over)
    }

    /// Takes the job out, if it still waits, and leaves what `run` makes of it to the stream.
    fn answer(&self, run: impl FnOnce(TokenJob) -> TokenAnswer, taken: impl FnOnce()) {
        let job = {
            let mut stage = self.0.lock();
            match std::mem::take(&mut *stage) {
                Stage::Queued(job, waker) => {
                    *stage = Stage::Running(waker);
                    job
                }
                other => {
                    *stage = other;
                    return;
                }
            }
        };
        taken();
        let answer = run(job);
        let waker = {
            let mut stage = self.0.lock();
            match std::mem::take(&mut *stage) {
                Stage::Running(waker) => {
                    *stage = Stage::Answered(answer);
                    waker
                }
                // The stream is gone, and the answer goes with it.
                other => {
                    *stage = other;
                    None
                }
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Pending {
    type Output = TokenAnswer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TokenAnswer> {
        let mut stage = self.ticket.0.lock();
        match &mut *stage {
            Stage::Queued(_, waker) | Stage::Running(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Stage::Answered(_) | Stage::Over => match std::mem::take(&mut *stage) {
                Stage::Answered(answer) => Poll::Ready(answer),
                // Asked again after it had answered.
                _ => Poll::Ready(TokenAnswer::busy()),
            },
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.ticket.0.lock());
        if let Stage::Queued(..) = left {
            self.queue.state.lock().live -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;
    use warmroute_core::Nanos;
    use warmroute_core::body::Dialect;
    use warmroute_core::stats::TokenizeStats;
    use warmroute_core::tokens::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};

    use super::*;

    /// Tokenizes when it is told to.
    #[derive(Debug, Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        entered: AtomicUsize,
    }

    impl Gate {
        fn open(&self) {
            *self.open.lock() = true;
            self.opened.notify_all();
        }

        fn entered(&self) -> usize {
            self.entered.load(Ordering::SeqCst)
        }
    }

    impl Tokenizer for Gate {
        fn tokenize(&self, _: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
            self.entered.fetch_add(1, Ordering::SeqCst);
            let mut open = self.open.lock();
            self.opened.wait_while(&mut open, |open| !*open);
            Ok(Vec::new())
        }
    }

    struct Unparker(thread::Thread);

    impl Wake for Unparker {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait_for(mut pending: Pending) -> TokenAnswer {
        let waker = Arc::new(Unparker(thread::current())).into();
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut pending).poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn until(reached: impl Fn() -> bool) {
        while !reached() {
            thread::yield_now();
        }
    }

    struct Fixture {
        pool: Pool,
        gate: Arc<Gate>,
        stats: Arc<TokenizeStats>,
        body: Bytes,
    }

    impl Fixture {
        fn new(threads: usize) -> Self {
            Self {
                pool: Pool {
                    queue: Arc::default(),
                    threads,
                },
                gate: Arc::default(),
                stats: Arc::default(),
                body: Bytes::from(vec![0; 64]),
            }
        }

        fn submit(&self) -> Result<Pending, TokenAnswer> {
            self.pool.submit(TokenJob::new(
                Arc::clone(&self.gate) as _,
                Dialect::OpenAiCompletions,
                vec![self.body.clone()],
                "m",
                || Nanos(0),
                &self.stats,
            ))
        }

        fn submit_many(&self, count: usize) -> Vec<Pending> {
            let accepted = |_| self.submit().expect("room");
            (0..count).map(accepted).collect()
        }

        fn threads(&self) -> usize {
            self.pool.queue.state.lock().threads
        }
    }

    #[test]
    fn threads_start_with_the_jobs_up_to_the_limit_and_end_with_the_pool() {
        let fixture = Fixture::new(3);
        assert_eq!(fixture.threads(), 0);
        let mut answers = fixture.submit_many(1);
        until(|| fixture.gate.entered() == 1);
        assert_eq!(fixture.threads(), 1);
        answers.extend(fixture.submit_many(20));
        until(|| fixture.gate.entered() == 3);
        assert_eq!(fixture.threads(), 3);
        assert_eq!(fixture.stats.queued(), 18);
        fixture.gate.open();
        for pending in answers {
            assert_eq!(wait_for(pending).outcome(), "ok");
        }
        assert_eq!(fixture.stats.queued(), 0);
        fixture.pool.close();
        until(|| fixture.threads() == 0);
        let refused = fixture.submit().expect_err("the pool is closed");
        assert_eq!(refused.outcome(), "busy");
    }

    #[test]
    fn a_full_queue_refuses_and_a_stream_that_goes_gives_its_place_and_body_back_at_once() {
        let fixture = Fixture::new(1);
        let running = fixture.submit().expect("room");
        until(|| fixture.gate.entered() == 1);
        let mut waiting = fixture.submit_many(CAPACITY);
        assert_eq!(fixture.submit().expect_err("no room").outcome(), "busy");
        // The one whose stream leaves while it runs has nothing to take out of the queue.
        drop(running);
        assert!(fixture.submit().is_err());
        // Streams that come and go leave no trail, however long the thread is held up.
        for _ in 0..4 {
            waiting.clear();
            assert_eq!(fixture.stats.queued(), 0);
            waiting = fixture.submit_many(CAPACITY);
        }
        assert!(fixture.pool.queue.state.lock().tickets.len() <= 2 * CAPACITY);
        waiting.clear();
        fixture.gate.open();
        let last = fixture.submit().expect("room");
        assert_eq!(wait_for(last).outcome(), "ok");
        assert_eq!(fixture.gate.entered(), 2, "nothing was run for nobody");
        assert!(fixture.body.is_unique(), "no body is kept");
    }

    #[test]
    fn closing_answers_what_waits_and_lets_what_runs_come_to_its_end() {
        let fixture = Fixture::new(1);
        let running = fixture.submit().expect("room");
        until(|| fixture.gate.entered() == 1);
        let waiting = fixture.submit().expect("room");
        fixture.pool.close();
        assert_eq!(wait_for(waiting).outcome(), "busy");
        fixture.gate.open();
        assert_eq!(wait_for(running).outcome(), "ok");
        until(|| fixture.threads() == 0);
    }
}
