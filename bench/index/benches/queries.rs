//! The queries of all indexes in one criterion run: throughput of queries one after the other, where `measure` times single ones.

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use fastrand::Rng;
use index_bench::measure::{SEED, apply};
use index_bench::queries::{Kind, of_shared_prefixes, of_single_holders};
use index_bench::roster::{Visit, visit_all};
use index_bench::subject::Subject;
use index_bench::workload::{Workload, shared_prefixes, single_holders};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const QUERIES: usize = 8_192;
/// Queries prepared and then timed together: enough that the clock does not count, few enough for the first-level cache.
const TOGETHER: usize = 16;

struct Bench {
    criterion: Criterion,
    /// Of each workload: its letter, itself, its queries.
    workloads: Vec<(&'static str, Workload, Vec<Kind>)>,
}

impl Visit for Bench {
    fn visit<S: Subject>(&mut self) {
        for (letter, workload, kinds) in &self.workloads {
            let (subject, mut writer) = S::create(workload.workers);
            apply(&subject, &mut writer, &workload.arena, &workload.load);
            for kind in kinds {
                let mut group = self
                    .criterion
                    .benchmark_group(format!("{letter} {}", kind.name));
                group.sampling_mode(SamplingMode::Flat);
                group.bench_function(S::NAME, |bencher| {
                    bencher.iter_custom(|rounds| rounds_of(&subject, &kind.queries, rounds));
                });
                group.finish();
            }
        }
    }
}

/// Time of `rounds` queries.
fn rounds_of<S: Subject>(subject: &S, queries: &[Vec<u64>], rounds: u64) -> Duration {
    let mut asked: Vec<S::Asked> = (0..TOGETHER).map(|_| S::Asked::default()).collect();
    let mut left = rounds as usize;
    let mut time = Duration::ZERO;
    for batch in queries.chunks_exact(TOGETHER).cycle() {
        if left == 0 {
            break;
        }
        let now = left.min(TOGETHER);
        for (asked, query) in asked.iter_mut().zip(&batch[..now]) {
            subject.ask(query, asked);
        }
        let start = Instant::now();
        for asked in &mut asked[..now] {
            std::hint::black_box(subject.answer(asked));
        }
        time += start.elapsed();
        left -= now;
    }
    time
}

fn main() {
    let mut rng = Rng::with_seed(SEED);
    let (a, b) = (shared_prefixes(SEED), single_holders(SEED));
    let (kinds_a, kinds_b) = (
        of_shared_prefixes(&a, &mut rng, QUERIES),
        of_single_holders(&b, &mut rng, QUERIES),
    );
    let criterion = Criterion::default()
        .sample_size(20)
        .nresamples(2_000)
        .without_plots();
    let criterion = criterion
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let mut bench = Bench {
        criterion,
        workloads: vec![("A", a, kinds_a), ("B", b, kinds_b)],
    };
    visit_all(&mut bench);
    bench.criterion.final_summary();
}
