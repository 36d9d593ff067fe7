//! The HTTP load against the stand-in for model servers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::thread;

use clap::Parser;
use warmroute_loadgen::http_load::{self, HttpOptions};
use warmroute_loadgen::report::Report;
use warmroute_loadgen::upstream::{self, UpstreamOptions};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: HttpOptions,
}

#[derive(Parser)]
struct UpstreamLine {
    #[command(flatten)]
    options: UpstreamOptions,
}

fn start(arguments: &str) -> SocketAddr {
    let line = format!("x --servers 2 {arguments}");
    let options = UpstreamLine::parse_from(line.split_whitespace()).options;
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let addresses = upstream::serve(&options, "").await.unwrap();
            assert_eq!(addresses.len(), 2);
            sender.send(addresses[1]).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}

fn load(address: SocketAddr, arguments: &str) -> Report {
    let line = format!(
        "x --target {address} --duration 0.3 --warmup 0 --streams 3 --groups 2 --body-bytes 40000 {arguments}"
    );
    http_load::run(&Line::parse_from(line.split_whitespace()).options).unwrap()
}

#[test]
fn plain_answers_are_counted_and_timed() {
    let report = load(start(""), "");
    assert!(
        report.requests > 0 && report.errors.is_empty(),
        "{:?}",
        report.errors
    );
    assert!(report.latency_ms.is_some() && report.first_byte_ms.is_none());
}

#[test]
fn event_streams_are_counted_to_their_last_event() {
    let report = load(start("--sse-chunks 5 --sse-interval-ms 2"), "--stream");
    assert!(
        report.requests > 0 && report.errors.is_empty(),
        "{:?}",
        report.errors
    );
    assert_eq!(report.events, 6 * report.requests);
    let (first, whole) = (report.first_byte_ms.unwrap(), report.latency_ms.unwrap());
    assert!(whole.p50 >= 8.0 && first.p50 < whole.p50);
}

#[test]
fn an_answer_that_should_have_been_a_stream_is_an_error() {
    let report = load(start(""), "--stream");
    assert_eq!(
        (report.requests, report.errors.keys().collect::<Vec<_>>()),
        (0, vec![&"no_done".to_owned()])
    );
}

#[test]
fn another_status_is_an_error_and_counted_by_code() {
    let report = load(start(""), "--expect-status 201 --rate 100");
    assert_eq!(report.errors.get("http_200"), Some(&30));
}
