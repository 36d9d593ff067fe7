//! When requests are sent: one after the other (closed loop), or at a fixed rate whatever the answers do (open loop).
//!
//! In the open loop request `k` is *intended* at `start + k / rate`, and its latency counts from there: a server that stalls
//! is charged for all requests that had to wait (no coordinated omission). A thread of its own releases the tickets,
//! because the runtime's timers only have a resolution of a millisecond.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Longest time after the last intended send that waiting requests may still be sent.
const DRAIN: Duration = Duration::from_secs(5);

/// The times of a run.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The first request.
    pub start: Instant,
    /// From here on requests count.
    pub from: Instant,
    /// Up to here requests count.
    pub until: Instant,
}

impl Window {
    /// Starts now.
    pub fn starting_now(warmup: Duration, duration: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            from: start + warmup,
            until: start + warmup + duration,
        }
    }

    /// Whether `time` counts.
    pub fn contains(&self, time: Instant) -> bool {
        self.from <= time && time < self.until
    }
}

/// Hands out the right to send; shared by all workers of a run.
#[derive(Clone, Debug)]
pub struct Pace {
    window: Window,
    open: Option<Arc<OpenLoop>>,
}

#[derive(Debug)]
struct OpenLoop {
    nanoseconds_between: f64,
    total: u64,
    next: AtomicU64,
    released: Semaphore,
}

impl Pace {
    /// Each worker sends as soon as its last request is answered.
    pub fn closed(window: Window) -> Self {
        Self { window, open: None }
    }

    /// `rate` requests a second together. Starts the thread that releases them; it ends with the window.
    pub fn open(window: Window, rate: f64, workers: usize) -> Self {
        let total = ((window.until - window.start).as_secs_f64() * rate) as u64;
        let open = Arc::new(OpenLoop {
            nanoseconds_between: 1e9 / rate,
            total,
            next: AtomicU64::new(0),
            released: Semaphore::new(0),
        });
        let releaser = Arc::clone(&open);
        thread::spawn(move || releaser.release_all(window.start, workers));
        Self {
            window,
            open: Some(open),
        }
    }

    /// Waits for the next send; returns when it was intended, or `None` when the run is over.
    pub async fn next(&self) -> Option<Instant> {
        let Some(open) = &self.open else {
            let now = Instant::now();
            return (now < self.window.until).then_some(now);
        };
        open.released.acquire().await.ok()?.forget();
        if Instant::now() > self.window.until + DRAIN {
            return None;
        }
        let ticket = open.next.fetch_add(1, Ordering::Relaxed);
        (ticket < open.total).then(|| open.intended(self.window.start, ticket))
    }

    /// Whether a request counts: by its intended time in the open loop, by its end in the closed loop.
    pub fn counts(&self, intended: Instant, finished: Instant) -> bool {
        self.window.contains(if self.open.is_some() {
            intended
        } else {
            finished
        })
    }

    /// Requests of the open loop that were never sent because the workers could not keep up.
    pub fn not_sent(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| {
            open.total.saturating_sub(open.next.load(Ordering::Relaxed))
        })
    }

    /// The times of the run.
    pub fn window(&self) -> Window {
        self.window
    }
}

impl OpenLoop {
    fn intended(&self, start: Instant, ticket: u64) -> Instant {
        start + Duration::from_nanos((ticket as f64 * self.nanoseconds_between) as u64)
    }

    fn release_all(&self, start: Instant, workers: usize) {
        let mut issued = 0;
        while issued < self.total {
            let due = self.intended(start, issued);
            let now = Instant::now();
            if due > now {
                thread::sleep(due - now);
            }
            let passed = start.elapsed().as_nanos() as f64 / self.nanoseconds_between;
            let now_due = (passed as u64 + 1).clamp(issued + 1, self.total);
            self.released.add_permits((now_due - issued) as usize);
            issued = now_due;
        }
        // Every worker wakes once more and finds no ticket.
        self.released.add_permits(workers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_open_loop_hands_out_every_ticket_once_at_its_time_and_then_ends() {
        let window = Window::starting_now(Duration::ZERO, Duration::from_millis(50));
        let pace = Pace::open(window, 1000.0, 2);
        let mut intended = Vec::new();
        while let Some(time) = pace.next().await {
            assert!(Instant::now() >= time);
            intended.push((time - window.start).as_micros());
        }
        assert_eq!(
            intended,
            (0..50).map(|ticket| ticket * 1000).collect::<Vec<u128>>()
        );
        assert!(pace.next().await.is_none());
        assert_eq!(pace.not_sent(), 0);
    }

    #[tokio::test]
    async fn the_closed_loop_ends_with_its_window() {
        let pace = Pace::closed(Window::starting_now(
            Duration::ZERO,
            Duration::from_millis(20),
        ));
        assert!(pace.next().await.is_some());
        tokio::time::sleep_until((pace.window().until + Duration::from_millis(1)).into()).await;
        assert!(pace.next().await.is_none());
    }
}
