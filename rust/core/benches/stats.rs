//! What one request costs in counters.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use warmroute_core::stats::Stats;

fn request(criterion: &mut Criterion) {
    let stats = Stats::new();
    let name: std::sync::Arc<str> = "approx-prefix-cache-producer".into();
    let prefixes = stats.prefix_producers([(&name, &name)].into_iter());
    let pause = Duration::from_millis(120);
    criterion.bench_function("stats/one_request", |bencher| {
        bencher.iter(|| {
            let running = stats
                .series(
                    black_box("meta/llama-3-8b"),
                    "meta/llama-3-8b",
                    "default",
                    0,
                )
                .started(8192);
            running.input_tokens(2048);
            running.output_tokens(100);
            running.cached_tokens(512);
            running.response_size(4000);
            running.ttft(pause, true);
            running.tpot(pause);
            running.ntpot(pause);
            running.duration(pause);
            stats.request_processing(pause);
            stats.response_processing(pause);
            stats.scheduler_e2e(pause);
            stats.scheduler_attempt("meta/llama-3-8b", None);
            prefixes[0].hit(0.25, 2048);
        });
    });
    for number in 0..1000 {
        drop(
            stats
                .series("m", "m", &format!("tenant-{number}"), 0)
                .started(1),
        );
    }
    criterion.bench_function("stats/export_1000_label_sets", |bencher| {
        bencher.iter(|| stats.export());
    });
}

criterion_group!(benches, request);
criterion_main!(benches);
