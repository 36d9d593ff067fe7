//! A reader on one core beside a writer on the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::clock::CpuClock;
use crate::subject::Subject;
use crate::timing::{Times, answer};
use crate::workload::{Arena, Event};

/// Events the writer is given at once, and queries the reader prepares at once.
const BATCH: usize = 512;
const ASKED: usize = 32;

/// What the two achieved.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// Million queries per CPU-second of the reader.
    pub million_queries_per_cpu_s: f64,
    /// Wall times of its queries.
    pub queries: Times,
    /// Million blocks stored and removed per CPU-second of the writer.
    pub million_blocks_per_cpu_s: f64,
}

/// Lets a writer apply `events` while a reader asks `queries` over and over until it is done.
///
/// # Panics
///
/// When the writer panics.
pub fn run<S: Subject>(
    subject: &S,
    writer: &mut S::Writer,
    arena: &Arena,
    events: &[Event],
    queries: &[&Vec<u64>],
) -> Beside {
    let batches: Vec<Vec<S::Change>> = events
        .chunks(BATCH)
        .map(|batch| batch.iter().map(|event| S::prepare(arena, event)).collect())
        .collect();
    let blocks: usize = events.iter().map(Event::blocks).sum();
    let done = AtomicBool::new(false);
    let (spent, (cpu, samples)) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let spent: Duration = batches
                .into_iter()
                .map(|batch| subject.apply(writer, batch))
                .sum();
            done.store(true, Ordering::Release);
            spent
        });
        let read = read_until(subject, queries, &done);
        (writing.join().expect("the writer panicked"), read)
    });
    Beside {
        million_queries_per_cpu_s: samples.len() as f64 / cpu.as_secs_f64() / 1e6,
        million_blocks_per_cpu_s: blocks as f64 / spent.as_secs_f64() / 1e6,
        queries: Times::of(samples),
    }
}

fn read_until<S: Subject>(
    subject: &S,
    queries: &[&Vec<u64>],
    done: &AtomicBool,
) -> (Duration, Vec<u64>) {
    let mut asked: Vec<S::Asked> = (0..ASKED).map(|_| S::Asked::default()).collect();
    let (mut cpu, mut samples) = (Duration::ZERO, Vec::new());
    for batch in queries.chunks_exact(ASKED).cycle() {
        for (asked, query) in asked.iter_mut().zip(batch) {
            subject.ask(query, asked);
        }
        let before = CpuClock::own().now();
        samples.extend(asked.iter_mut().map(|asked| answer(subject, asked)));
        cpu += CpuClock::own().since(before);
        if done.load(Ordering::Acquire) {
            break;
        }
    }
    (cpu, samples)
}
