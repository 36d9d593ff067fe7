//! The `ext_proc` load against a small server that answers rightly, or wrongly in one chosen way.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use clap::Parser;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use warmroute_loadgen::extproc::{self, ExtprocOptions};
use warmroute_loadgen::report::Report;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Echo,
    /// Echo that names a destination.
    Decide,
    LosesAByte,
    NeverSaysTheEnd,
    SaysTheEndTwice,
    SkipsTheHeaderReply,
    Refuses,
    FailsWithStatus,
    Resets,
    NeverAnswers,
    SendsGarbage,
    EndsAfterTheRequest,
    SkipsTheBody,
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: ExtprocOptions,
}

/// Runs a server of this behaviour and a short load of one stream on it.
fn load(behaviour: Behaviour, arguments: &str) -> Report {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || serve(behaviour, &sender));
    let address: SocketAddr = receiver.recv().unwrap();
    // Only who is asked never to answer is waited for in vain.
    let timeout = if behaviour == Behaviour::NeverAnswers {
        0.1
    } else {
        5.0
    };
    let line = format!(
        "x --target {address} --duration 0.3 --warmup 0 --timeout {timeout} --streams 3 --connections 2 --groups 2 {arguments}"
    );
    let options = Line::parse_from(line.split_whitespace()).options;
    extproc::run(&options).unwrap()
}

fn assert_clean(report: &Report) {
    assert!(
        report.requests > 0 && report.errors.is_empty(),
        "{:?}",
        report.errors
    );
    let latency = report.latency_ms.as_ref().unwrap();
    assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
}

fn assert_only(report: &Report, kind: &str) {
    assert_eq!(report.requests, 0);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), [kind]);
}

#[test]
fn every_mode_runs_clean_against_an_echo() {
    for mode in ["fds", "buffered", "streamed", "streamed --without-waiting"] {
        for response in ["none", "headers", "body"] {
            let report = load(
                Behaviour::Echo,
                &format!("--mode {mode} --response {response} --body-bytes 40000"),
            );
            assert_clean(&report);
            assert_eq!(report.closed_early, 0);
        }
    }
}

#[test]
fn the_open_loop_keeps_its_rate() {
    let report = load(Behaviour::Echo, "--rate 200");
    assert_clean(&report);
    assert_eq!(report.requests, 60);
}

#[test]
fn a_stalled_server_is_charged_for_the_requests_that_had_to_wait() {
    let report = load(Behaviour::NeverAnswers, "--rate 200");
    assert_eq!(report.error_count, 60);
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["timeout"]);
}

#[test]
fn wrong_answers_are_counted_by_kind() {
    for (behaviour, kind) in [
        (Behaviour::LosesAByte, "wrong_byte_count"),
        (Behaviour::NeverSaysTheEnd, "no_end_of_stream"),
        (Behaviour::SaysTheEndTwice, "after_end_of_stream"),
        (Behaviour::SkipsTheHeaderReply, "unexpected_reply"),
        (Behaviour::Refuses, "immediate_503"),
        (Behaviour::FailsWithStatus, "grpc_13"),
        (Behaviour::Resets, "reset"),
        (Behaviour::NeverAnswers, "timeout"),
        (Behaviour::SendsGarbage, "undecodable"),
    ] {
        assert_only(&load(behaviour, "--body-bytes 20000"), kind);
    }
}

#[test]
fn a_missing_destination_is_an_error_only_when_one_is_required() {
    assert_only(
        &load(Behaviour::Echo, "--require-destination"),
        "no_destination",
    );
    assert_clean(&load(Behaviour::Decide, "--require-destination"));
    assert_clean(&load(
        Behaviour::Decide,
        "--require-destination --mode buffered",
    ));
}

#[test]
fn a_picker_may_end_the_stream_before_the_response_phase() {
    let report = load(Behaviour::EndsAfterTheRequest, "--response");
    assert_clean(&report);
    assert!(report.closed_early >= report.requests);
}

#[test]
fn a_mode_override_that_skips_the_body_is_obeyed() {
    assert_clean(&load(Behaviour::SkipsTheBody, "--mode buffered"));
}

#[test]
fn nobody_at_the_target_is_said_before_the_run() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = Line::parse_from(["x", "--target", &address.to_string()]).options;
    let error = extproc::run(&options).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// Serves until the test process ends.
fn serve(behaviour: Behaviour, started: &std::sync::mpsc::Sender<SocketAddr>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        started.send(listener.local_addr().unwrap()).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else {
                    return;
                };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    // A stream that the client gave up ends with an error that is none of the test's.
                    tokio::spawn(async move { drop(process(behaviour, request, respond).await) });
                }
            });
        }
    });
}

/// One stream: answers each message as it comes.
async fn process(
    behaviour: Behaviour,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    assert_eq!(
        request.uri().path(),
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
    );
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut send = respond.send_response(response, false)?;
    let mut body = request.into_body();
    let mut buffer = Vec::new();
    let mut full_duplex = false;
    let mut kept = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        buffer.extend_from_slice(&data);
        while buffer.len() >= 5 {
            let length = u32::from_be_bytes(buffer[1..5].try_into().unwrap()) as usize;
            if buffer.len() < 5 + length {
                break;
            }
            let message: Vec<u8> = buffer.drain(..5 + length).skip(5).collect();
            let fields = fields(&message);
            let (phase, content) = (fields[0].0, fields[0].1.clone());
            if phase == 2 {
                let config = fields
                    .iter()
                    .find(|field| field.0 == 11)
                    .expect("a protocol_config");
                full_duplex = config.1.starts_with(&[8, 4]);
                assert!(content.windows(12).any(|window| window == b"x-request-id"));
            }
            let end_of_stream = phase >= 4 && content.ends_with(&[0x10, 1]);
            match (behaviour, phase) {
                (Behaviour::NeverAnswers, _) | (Behaviour::SkipsTheHeaderReply, 2) => {}
                (Behaviour::Resets, _) => {
                    send.send_reset(h2::Reason::INTERNAL_ERROR);
                    return Ok(());
                }
                (Behaviour::FailsWithStatus, _) => return finish(&mut send, "13"),
                (Behaviour::Refuses, _) => {
                    send.send_data(frame(b"\x3a\x05\x0a\x03\x08\xf7\x03"), false)?;
                    return finish(&mut send, "0");
                }
                (Behaviour::SendsGarbage, _) => send.send_data(frame(b"\x0a\x7f"), false)?,
                (Behaviour::SkipsTheBody, 2) => {
                    send.send_data(frame(b"\x0a\x00\x4a\x02\x10\x02"), false)?;
                }
                (Behaviour::Decide, 2) => {
                    let mut reply = b"\x0a\x00\x42\x1e".to_vec();
                    reply.extend_from_slice(b"x-gateway-destination-endpoint");
                    send.send_data(frame(&reply), false)?;
                }
                (_, 2 | 3) => send.send_data(frame(&[(phase as u8 - 1) << 3 | 2, 0]), false)?,
                _ if full_duplex => {
                    // The whole body in one reply, so that replies are longer than a DATA frame.
                    kept.extend(fields_of_body(&content));
                    if !end_of_stream {
                        continue;
                    }
                    if behaviour == Behaviour::LosesAByte {
                        kept.pop();
                    }
                    let end = behaviour != Behaviour::NeverSaysTheEnd;
                    send.send_data(frame(&streamed(phase, &kept, end)), false)?;
                    if behaviour == Behaviour::SaysTheEndTwice {
                        send.send_data(frame(&streamed(phase, b"", true)), false)?;
                    }
                    kept.clear();
                    if matches!(
                        behaviour,
                        Behaviour::NeverSaysTheEnd | Behaviour::EndsAfterTheRequest
                    ) {
                        return finish(&mut send, "0");
                    }
                }
                _ => send.send_data(frame(&[(phase as u8 - 1) << 3 | 2, 0]), false)?,
            }
        }
    }
    finish(&mut send, "0")
}

fn finish(send: &mut h2::SendStream<Bytes>, status: &'static str) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    send.send_trailers(trailers)
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// `ProcessingResponse` {body reply {response 1 {`body_mutation` 3 {`streamed_response` 3 {body 1, `end_of_stream` 2}}}}}.
fn streamed(phase: u64, body: &[u8], end_of_stream: bool) -> Vec<u8> {
    let mut inner = field(1, body);
    if end_of_stream {
        inner.extend_from_slice(&[0x10, 1]);
    }
    field(phase - 1, &field(1, &field(3, &field(3, &inner))))
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = vec![(number << 3 | 2) as u8];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn fields_of_body(content: &[u8]) -> Vec<u8> {
    fields(content)
        .into_iter()
        .find(|field| field.0 == 1)
        .map(|field| field.1)
        .unwrap_or_default()
}

/// Length-delimited fields; others are skipped over.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        if tag & 7 == 2 {
            let (content, rest) = bytes.split_at(value as usize);
            found.push((tag >> 3, content.to_vec()));
            bytes = rest;
        }
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}
