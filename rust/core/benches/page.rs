//! Scanning a recorded 52 KB page of vLLM 0.32, and what a decision does to a pool of 100 endpoints.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use warmroute_core::pool::{EndpointIdentity, EngineSpec, MetricsPage, Pool, Reservation};
use warmroute_core::schedule::{Candidates, PrefixColumn};

const RECORDED: &[u8] = include_bytes!("../tests/data/vllm-0.32-metrics-loaded.txt");

fn scan(criterion: &mut Criterion) {
    let Some(spec) = EngineSpec::named("vllm") else {
        return;
    };
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Bytes(RECORDED.len() as u64));
    group.bench_function("scan_52_kb", |bencher| {
        bencher.iter(|| MetricsPage::scan(black_box(RECORDED), spec));
    });
    group.finish();
}

fn pool(criterion: &mut Criterion) {
    let pool = Pool::new();
    for number in 0..100 {
        pool.upsert(EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{number}").into(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
            port: 8000,
            metrics_host: None,
            labels: BTreeMap::new(),
        });
    }
    let prefixes = [PrefixColumn {
        blocks: vec![3; 100],
        ..PrefixColumn::default()
    }];
    let mut candidates = Candidates::default();
    let mut group = criterion.benchmark_group("pool");
    group.bench_function("gather_100", |bencher| {
        bencher.iter(|| {
            pool.load()
                .gather(None, black_box(&prefixes), false, &mut candidates);
        });
    });
    let snapshot = pool.snapshot();
    let endpoint = &snapshot.endpoints[7];
    group.bench_function("reserve_and_drop", |bencher| {
        bencher
            .iter(|| Reservation::reserve(black_box(endpoint), 700, 0, warmroute_core::Nanos(0)));
    });
    let hint: Vec<Box<str>> = vec![
        "10.0.0.3:8000".into(),
        "10.0.0.9:8000".into(),
        "10.0.0.50".into(),
    ];
    group.bench_function("subset_of_3", |bencher| {
        bencher.iter(|| snapshot.subset(black_box(&hint)));
    });
    group.finish();
}

criterion_group!(benches, scan, pool);
criterion_main!(benches);
