//! What scraping costs: CPU of the scraping process alone, against a server in another process.
//!
//! `scrape_cost serve PORT COUNT PAGE` serves the file PAGE on COUNT ports from PORT on (and honours `name[]` as vLLM does);
//! `scrape_cost scrape PORT COUNT INTERVAL_MS SECONDS filter|whole|idle` scrapes them and prints one line. Linux only: CPU is read from `/proc`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use warmroute_core::pool::{EndpointIdentity, EngineSpec, Pool};
use warmroute_scrape::{ScrapeSettings, Scraper, SourceSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port, count, page] => serve(port.parse()?, count.parse()?, &std::fs::read(page)?),
        ["scrape", port, count, interval, seconds, mode] => {
            scrape(port.parse()?, count.parse()?, Duration::from_millis(interval.parse()?), Duration::from_secs(seconds.parse()?), mode)
        }
        _ => Err("usage: serve PORT COUNT PAGE | scrape PORT COUNT INTERVAL_MS SECONDS filter|whole|idle".into()),
    }
}

fn serve(port: u16, count: u16, page: &[u8]) -> Result<(), Box<dyn Error>> {
    let whole = Bytes::copy_from_slice(page);
    let families = EngineSpec::named("vllm")
        .map(EngineSpec::families)
        .unwrap_or_default();
    let wanted = page.split_inclusive(|byte| *byte == b'\n').filter(|line| {
        let name = line
            .strip_prefix(b"# HELP ")
            .or_else(|| line.strip_prefix(b"# TYPE "))
            .unwrap_or(line);
        families
            .iter()
            .any(|family| name.starts_with(family.as_bytes()))
    });
    let filtered = Bytes::from(wanted.flatten().copied().collect::<Vec<u8>>());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut last = None;
        for port in port..port + count {
            let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
            let (whole, filtered) = (whole.clone(), filtered.clone());
            last = Some(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (whole, filtered) = (whole.clone(), filtered.clone());
                    let service = service_fn(move |request: Request<Incoming>| {
                        let page = if request.uri().query().is_some() {
                            filtered.clone()
                        } else {
                            whole.clone()
                        };
                        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(
                            Full::new(page),
                        )))
                    });
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service),
                    );
                }
            }));
        }
        println!(
            "serving pages of {} and {} bytes",
            whole.len(),
            filtered.len()
        );
        if let Some(last) = last {
            last.await?;
        }
        Ok(())
    })
}

fn scrape(
    port: u16,
    count: u16,
    interval: Duration,
    seconds: Duration,
    mode: &str,
) -> Result<(), Box<dyn Error>> {
    let pool = Arc::new(Pool::new());
    for port in port..port + count {
        pool.upsert(EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{port}").into(),
            address: Ipv4Addr::LOCALHOST.into(),
            port,
            metrics_host: None,
            labels: BTreeMap::new(),
        });
    }
    let idle_backoff = if mode == "idle" {
        Duration::from_secs(1)
    } else {
        Duration::ZERO
    };
    let settings = ScrapeSettings {
        interval,
        idle_backoff,
        sources: vec![SourceSettings {
            filter: mode != "whole",
            ..SourceSettings::metrics()
        }],
        ..ScrapeSettings::default()
    };
    let mut scraper = Scraper::start(pool, settings, 1)?;
    // Connecting is not what is measured, and an idle pool needs a few pages to become one.
    std::thread::sleep(Duration::from_secs(3));
    let pages_read = |scraper: &Scraper| {
        scraper
            .states()
            .iter()
            .map(|state| state.scrapes)
            .sum::<u64>()
    };
    let (pages, cpu, started) = (pages_read(&scraper), cpu_seconds()?, Instant::now());
    std::thread::sleep(seconds);
    let (pages, cpu, elapsed) = (
        pages_read(&scraper) - pages,
        cpu_seconds()? - cpu,
        started.elapsed().as_secs_f64(),
    );
    let failures: u64 = scraper.states().iter().map(|state| state.failures).sum();
    let bytes = scraper.states().first().map_or(0, |state| state.bytes);
    println!(
        "{mode}: {count} endpoints every {interval:?}, {bytes} bytes: {:.0} pages/s, {:.3} cores, {:.1} us a page, {failures} failures, {} KiB resident",
        pages as f64 / elapsed,
        cpu / elapsed,
        cpu * 1e6 / pages.max(1) as f64,
        resident_kib()?,
    );
    scraper.stop();
    Ok(())
}

/// User and system time of this process, from `/proc/self/stat` (ticks of 10 ms).
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
