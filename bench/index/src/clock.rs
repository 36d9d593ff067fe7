//! CPU time of threads: the machine is shared, wall time is not the index's own.

use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;
use std::time::Duration;

/// The CPU clock of a thread.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// Of the calling thread, wherever it is read from.
    pub fn own() -> Self {
        Self(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    /// Of another thread.
    ///
    /// # Panics
    ///
    /// When the thread has ended.
    pub fn of<T>(thread: &JoinHandle<T>) -> Self {
        let mut clock = 0;
        // SAFETY: the handle keeps the thread's id valid; `clock` is written before it is read.
        let error = unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) };
        assert_eq!(error, 0, "the thread has ended: it has no CPU clock");
        Self(clock)
    }

    /// CPU time that the thread has used.
    ///
    /// # Panics
    ///
    /// When the thread has ended.
    pub fn now(self) -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid place for the answer.
        let error = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        assert_eq!(error, 0, "a thread's CPU clock cannot be read");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    /// CPU time that the thread has used since the clock said `before`.
    pub fn since(self, before: Duration) -> Duration {
        self.now().saturating_sub(before)
    }
}

/// CPU time that the calling thread spends in `work`.
pub fn spent(work: impl FnOnce()) -> Duration {
    let before = CpuClock::own().now();
    work();
    CpuClock::own().since(before)
}
