//! Dynamo's `PositionalIndexer` and its compressed concurrent tree.
//!
//! Their stores are public only as the loop of a writer thread that owns the look-up of its workers: the bench runs that loop and reads the thread's CPU clock.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dynamo_kv_router::indexer::WorkerTask;
use dynamo_kv_router::protocols::{LocalBlockHash, RouterEvent};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, PositionalIndexer, SyncIndexer};
use tokio::sync::oneshot;

use super::dynamo::router_event;
use crate::clock::CpuClock;
use crate::subject::Subject;
use crate::workload::{Arena, Event};

/// How far `PositionalIndexer` jumps: the figure that its documentation names.
const JUMP: usize = 32;

/// One of the two, with its column on the page.
pub trait Kind: SyncIndexer + Sized {
    /// As [`Subject::NAME`].
    const NAME: &'static str;
    /// Whether it wants its sweep to be called.
    const SWEEPS: bool;
    /// An empty one.
    fn empty() -> Self;
}

impl Kind for PositionalIndexer {
    const NAME: &'static str = "dynamo-positional";
    const SWEEPS: bool = false;

    fn empty() -> Self {
        Self::new(JUMP)
    }
}

impl Kind for ConcurrentRadixTreeCompressed {
    const NAME: &'static str = "dynamo-compressed";
    const SWEEPS: bool = true;

    fn empty() -> Self {
        Self::new()
    }
}

/// The index and its one writer thread.
pub struct Threaded<I>(Arc<I>);

/// The way to the writer thread, which ends with this.
pub struct Thread {
    tasks: flume::Sender<WorkerTask>,
    clock: CpuClock,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    fn send(&self, task: WorkerTask) {
        assert!(self.tasks.send(task).is_ok(), "the writer thread has ended");
    }

    /// Waits until everything sent is done.
    fn flush(&self) {
        let (done, answer) = oneshot::channel();
        self.send(WorkerTask::Flush(done));
        answer.blocking_recv().expect("the writer thread has ended");
    }

    fn spent(&self, work: impl FnOnce()) -> Duration {
        self.flush();
        let before = self.clock.now();
        work();
        self.flush();
        self.clock.since(before)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The receiver is gone when the loop has ended by itself; joining tells.
        let _ = self.tasks.send(WorkerTask::Terminate);
        if let Some(handle) = self.handle.take() {
            let ended = handle.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the writer thread panicked"
            );
        }
    }
}

impl<I: Kind> Subject for Threaded<I> {
    const NAME: &'static str = I::NAME;
    type Change = RouterEvent;
    type Writer = Thread;
    type Asked = Vec<LocalBlockHash>;

    fn create(_: u32) -> (Self, Thread) {
        let index = Arc::new(I::empty());
        let (tasks, received) = flume::unbounded();
        let of_thread = Arc::clone(&index);
        let handle = std::thread::spawn(move || {
            of_thread
                .worker(received, None)
                .expect("the loop ends by its own task");
        });
        let clock = CpuClock::of(&handle);
        (
            Self(index),
            Thread {
                tasks,
                clock,
                handle: Some(handle),
            },
        )
    }

    fn prepare(arena: &Arena, event: &Event) -> RouterEvent {
        router_event(arena, event)
    }

    fn apply(&self, thread: &mut Thread, batch: Vec<RouterEvent>) -> Duration {
        thread.spent(|| {
            for event in batch {
                thread.send(WorkerTask::Event(event));
            }
        })
    }

    fn ask(&self, contents: &[u64], asked: &mut Self::Asked) {
        asked.clear();
        asked.extend(contents.iter().copied().map(LocalBlockHash));
    }

    fn answer(&self, asked: &mut Self::Asked) -> usize {
        self.0.find_matches(asked, false).scores.len()
    }

    fn depths(&self, contents: &[u64]) -> Vec<(u32, u32)> {
        let contents: Vec<_> = contents.iter().copied().map(LocalBlockHash).collect();
        self.0
            .find_matches(&contents, false)
            .scores
            .into_iter()
            .map(|(worker, depth)| (worker.worker_id as u32, depth))
            .collect()
    }

    fn upkeep(&self, thread: &mut Thread) -> Option<Duration> {
        I::SWEEPS.then(|| thread.spent(|| thread.send(WorkerTask::CleanupStaleChildren)))
    }
}
