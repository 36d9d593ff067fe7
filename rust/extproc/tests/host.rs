//! The native host against tonic's client: protocol, ends of streams, limits, draining.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use support::client::{
    Stream, connect, connect_unix, options, port, start, start_with, try_connect,
};
use support::{
    HttpBody, HttpHeaders, HttpTrailers, Mutation, PhaseResponse, ProcessingResponse, Request,
    Response, StreamedBodyResponse, request, request_body, request_headers,
};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tonic::Code;
use warmroute_core::Nanos;
use warmroute_extproc::codec::DecodeError;
use warmroute_extproc::host::{ListenAddress, NativeServer, ServerError, ServerOptions};
use warmroute_extproc::session::{EchoFactory, Progress, Session, SessionFactory};

const FULL_DUPLEX: i32 = 4;
const BUFFERED: i32 = 2;

fn streamed(response: ProcessingResponse) -> StreamedBodyResponse {
    let (Some(Response::RequestBody(reply) | Response::ResponseBody(reply)), None, None) = (
        response.response,
        response.dynamic_metadata,
        response.mode_override,
    ) else {
        panic!("not a plain body reply")
    };
    match reply
        .response
        .and_then(|common| common.body_mutation)
        .and_then(|mutation| mutation.mutation)
    {
        Some(Mutation::Streamed(body)) => body,
        other => panic!("not a streamed body: {other:?}"),
    }
}

fn is_plain_header_reply(response: &ProcessingResponse) -> bool {
    response.response == Some(Response::RequestHeaders(PhaseResponse { response: None }))
}

fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

/// Sends `body` in pieces of `piece` bytes and returns the lengths of the echoed chunks and the echoed bytes.
async fn full_duplex(
    stream: &mut Stream,
    mode: Option<i32>,
    body: &[u8],
    piece: usize,
) -> (Vec<usize>, Vec<u8>) {
    stream.send(&request_headers(mode, false)).await;
    for piece in body.chunks(piece) {
        stream.send(&request_body(piece, false)).await;
    }
    stream.send(&request_body(&[], true)).await;
    assert!(is_plain_header_reply(&stream.expect_reply().await));
    let (mut lengths, mut echoed) = (Vec::new(), Vec::new());
    loop {
        let chunk = streamed(stream.expect_reply().await);
        lengths.push(chunk.body.len());
        echoed.extend(chunk.body);
        if chunk.end_of_stream {
            return (lengths, echoed);
        }
    }
}

#[tokio::test]
async fn full_duplex_echo_sends_the_header_reply_and_the_body_in_62_kb_chunks() {
    let server = start(EchoFactory::default());
    let channel = connect(&server).await;
    for mode in [Some(FULL_DUPLEX), None] {
        let mut stream = Stream::open(&channel).await.unwrap();
        let body = bytes_of(150_000);
        let (lengths, echoed) = full_duplex(&mut stream, mode, &body, 16_384).await;
        assert_eq!(lengths, [62_000, 62_000, 26_000]);
        assert_eq!(echoed, body);
        stream.half_close();
        assert_eq!(stream.reply().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_16_mb_body_in_one_message_comes_back_whole() {
    let server = start(EchoFactory::default());
    let mut stream = Stream::open(&connect(&server).await).await.unwrap();
    let body = bytes_of(16 << 20);
    let (_, echoed) = full_duplex(&mut stream, Some(FULL_DUPLEX), &body, body.len()).await;
    assert!(echoed == body);
}

#[tokio::test]
async fn a_body_of_exactly_one_chunk_and_an_empty_body_end_with_their_only_chunk() {
    let server = start(EchoFactory::default());
    let channel = connect(&server).await;
    for length in [0, 62_000] {
        let mut stream = Stream::open(&channel).await.unwrap();
        let (lengths, _) =
            full_duplex(&mut stream, Some(FULL_DUPLEX), &bytes_of(length), 62_000).await;
        assert_eq!(lengths, [length]);
    }
}

#[tokio::test]
async fn buffered_echo_answers_each_message_with_an_empty_reply() {
    let server = start(EchoFactory::default());
    let mut stream = Stream::open(&connect(&server).await).await.unwrap();
    stream.send(&request_headers(Some(BUFFERED), false)).await;
    assert!(is_plain_header_reply(&stream.expect_reply().await));
    stream.send(&request_body(&bytes_of(8_000), true)).await;
    assert_eq!(
        stream.expect_reply().await.response,
        Some(Response::RequestBody(PhaseResponse { response: None }))
    );
    stream
        .send(&request(Request::ResponseHeaders(HttpHeaders::default())))
        .await;
    assert_eq!(
        stream.expect_reply().await.response,
        Some(Response::ResponseHeaders(PhaseResponse { response: None }))
    );
    stream
        .send(&request(Request::ResponseBody(HttpBody {
            body: bytes_of(10),
            end_of_stream: true,
        })))
        .await;
    assert_eq!(
        stream.expect_reply().await.response,
        Some(Response::ResponseBody(PhaseResponse { response: None }))
    );
    stream
        .send(&request(Request::ResponseTrailers(HttpTrailers::default())))
        .await;
    assert!(matches!(
        stream.expect_reply().await.response,
        Some(Response::ResponseTrailers(_))
    ));
}

#[tokio::test]
async fn a_full_duplex_response_body_is_echoed_as_it_comes() {
    let server = start(EchoFactory::default());
    let mut stream = Stream::open(&connect(&server).await).await.unwrap();
    full_duplex(&mut stream, Some(FULL_DUPLEX), b"{}", 10).await;
    for (body, end_of_stream) in [(&b"data: 1\n\n"[..], false), (&b""[..], true)] {
        stream
            .send(&request(Request::ResponseBody(HttpBody {
                body: body.to_vec(),
                end_of_stream,
            })))
            .await;
        assert_eq!(
            streamed(stream.expect_reply().await),
            StreamedBodyResponse {
                body: body.to_vec(),
                end_of_stream
            }
        );
    }
}

#[tokio::test]
async fn a_request_without_a_body_is_answered_at_once_in_every_mode() {
    let server = start(EchoFactory::default());
    let channel = connect(&server).await;
    for mode in [None, Some(0), Some(BUFFERED), Some(FULL_DUPLEX)] {
        let mut stream = Stream::open(&channel).await.unwrap();
        stream.send(&request_headers(mode, true)).await;
        assert!(is_plain_header_reply(&stream.expect_reply().await));
    }
}

#[tokio::test]
async fn a_thousand_streams_on_one_connection_are_open_at_once() {
    let server = start(EchoFactory::default());
    let channel = connect(&server).await;
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        let stream = Stream::open(&channel).await.unwrap();
        stream
            .send(&request_headers(Some(FULL_DUPLEX), false))
            .await;
        streams.push(stream);
    }
    assert_eq!(server.streams(), 1_000);
    assert_eq!(server.statistics().open_connections, 1);
    let mut tasks = JoinSet::new();
    for (index, mut stream) in streams.into_iter().enumerate() {
        tasks.spawn(async move {
            let body = bytes_of(index * 20);
            stream.send(&request_body(&body, true)).await;
            assert!(is_plain_header_reply(&stream.expect_reply().await));
            assert_eq!(streamed(stream.expect_reply().await).body, body);
            stream.half_close();
            assert_eq!(stream.reply().await.unwrap(), None);
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn garbage_ends_only_its_own_stream_with_invalid_argument() {
    let server = start(EchoFactory::default());
    let channel = connect(&server).await;
    let mut good = Stream::open(&channel).await.unwrap();
    let mut bad = Stream::open(&channel).await.unwrap();
    bad.send_bytes(Bytes::from_static(b"\xff\xff\xff")).await;
    let status = bad.reply().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("byte"), "{}", status.message());
    full_duplex(&mut good, Some(FULL_DUPLEX), b"{}", 10).await;
    assert_eq!(server.statistics().invalid_messages, 1);
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_stream_with_resource_exhausted() {
    let options = ServerOptions {
        maximum_message_length: 1_000,
        ..options()
    };
    let server = start_with(&options, EchoFactory::default());
    let mut stream = Stream::open(&connect(&server).await).await.unwrap();
    stream.send(&request_body(&bytes_of(2_000), true)).await;
    assert_eq!(
        stream.reply().await.unwrap_err().code(),
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn another_method_is_unimplemented() {
    let server = start(EchoFactory::default());
    let status = Stream::open_at(&connect(&server).await, "/grpc.health.v1.Health/Check")
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
}

/// Tells how a session ended, and panics, closes or goes on as the first byte of a message says.
struct Watched {
    ended: mpsc::UnboundedSender<()>,
    open: Arc<AtomicUsize>,
}

struct WatchedFactory {
    ended: mpsc::UnboundedSender<()>,
    open: Arc<AtomicUsize>,
}

fn watched() -> (
    WatchedFactory,
    Arc<AtomicUsize>,
    mpsc::UnboundedReceiver<()>,
) {
    let (ended, ends) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    (
        WatchedFactory {
            ended,
            open: Arc::clone(&open),
        },
        open,
        ends,
    )
}

impl SessionFactory for WatchedFactory {
    fn open(&self) -> Box<dyn Session> {
        self.open.fetch_add(1, Ordering::SeqCst);
        Box::new(Watched {
            ended: self.ended.clone(),
            open: Arc::clone(&self.open),
        })
    }
}

impl Session for Watched {
    fn receive(
        &mut self,
        frame: Bytes,
        now: Nanos,
        out: &mut Vec<Bytes>,
    ) -> Result<Progress, DecodeError> {
        assert_ne!(now, Nanos(0));
        // An empty reply is a valid message.
        out.push(Bytes::new());
        match frame.first() {
            Some(b'p') => panic!("as asked"),
            Some(b'c') => Ok(Progress::Close),
            _ => Ok(Progress::Continue),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        let _ = self.ended.send(());
    }
}

/// A stream whose session has seen a message.
async fn established(server: &NativeServer) -> Stream {
    let mut stream = Stream::open(&connect(server).await).await.unwrap();
    stream.send_bytes(Bytes::from_static(b"x")).await;
    stream.expect_reply().await;
    stream
}

#[tokio::test]
async fn a_client_that_leaves_releases_the_session_exactly_once() {
    let (factory, open, mut ends) = watched();
    let server = start(factory);
    let stream = established(&server).await;
    assert_eq!(open.load(Ordering::SeqCst), 1);
    drop(stream);
    ends.recv().await.unwrap();
    assert_eq!(open.load(Ordering::SeqCst), 0);
    assert!(ends.try_recv().is_err());
}

#[tokio::test]
async fn a_half_close_releases_the_session_and_ends_the_stream_with_ok() {
    let (factory, open, mut ends) = watched();
    let server = start(factory);
    let mut stream = established(&server).await;
    stream.half_close();
    assert_eq!(stream.reply().await.unwrap(), None);
    ends.recv().await.unwrap();
    assert_eq!(open.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_session_that_closes_ends_the_stream_with_ok_after_its_replies() {
    let (factory, _open, mut ends) = watched();
    let server = start(factory);
    let mut stream = established(&server).await;
    stream.send_bytes(Bytes::from_static(b"close")).await;
    stream.expect_reply().await;
    assert_eq!(stream.reply().await.unwrap(), None);
    ends.recv().await.unwrap();
}

#[tokio::test]
async fn a_session_that_panics_ends_its_stream_with_internal_and_nothing_else() {
    let (factory, _open, mut ends) = watched();
    let server = start(factory);
    let mut other = established(&server).await;
    let mut stream = established(&server).await;
    stream.send_bytes(Bytes::from_static(b"panic")).await;
    stream.expect_reply().await;
    assert_eq!(stream.reply().await.unwrap_err().code(), Code::Internal);
    ends.recv().await.unwrap();
    assert_eq!(server.statistics().panics, 1);
    other.send_bytes(Bytes::from_static(b"x")).await;
    other.expect_reply().await;
}

struct PanickingFactory;

impl SessionFactory for PanickingFactory {
    fn open(&self) -> Box<dyn Session> {
        panic!("as asked")
    }
}

#[tokio::test]
async fn a_factory_that_panics_ends_its_stream_with_internal() {
    let server = start(PanickingFactory);
    let channel = connect(&server).await;
    for _ in 0..2 {
        let mut stream = Stream::open(&channel).await.unwrap();
        assert_eq!(stream.reply().await.unwrap_err().code(), Code::Internal);
    }
    assert_eq!(server.streams(), 0);
}

#[tokio::test]
async fn draining_waits_for_open_streams_and_takes_no_new_connection() {
    let (factory, _open, mut ends) = watched();
    let mut server = start(factory);
    let mut stream = established(&server).await;
    let address = format!("127.0.0.1:{}", port(&server));
    let stopped = spawn_blocking(move || server.stop(Duration::from_secs(60)));
    // The listening socket closes first; from then on the server drains.
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.send_bytes(Bytes::from_static(b"x")).await;
    stream.expect_reply().await;
    assert!(ends.try_recv().is_err());
    stream.half_close();
    assert_eq!(stream.reply().await.unwrap(), None);
    assert!(stopped.await.unwrap());
    assert!(ends.try_recv().is_ok());
}

#[tokio::test]
async fn streams_that_outlast_the_drain_are_aborted_and_released() {
    let (factory, open, _ends) = watched();
    let mut server = start(factory);
    let mut stream = established(&server).await;
    let server = spawn_blocking(move || {
        assert!(!server.stop(Duration::from_millis(50)));
        server
    })
    .await
    .unwrap();
    assert_eq!(open.load(Ordering::SeqCst), 0);
    assert_eq!(server.streams(), 0);
    assert!(stream.reply().await.is_err());
}

#[tokio::test]
async fn a_server_without_clients_stops_at_once() {
    let mut server = start(EchoFactory::default());
    let idle = connect(&server).await;
    let server = spawn_blocking(move || {
        assert!(server.stop(Duration::from_secs(60)));
        server
    })
    .await
    .unwrap();
    drop(idle);
    assert!(try_connect(&server).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named_in_the_error() {
    let server = start(EchoFactory::default());
    let taken = ServerOptions {
        listen: server.address().clone(),
        ..options()
    };
    let error = NativeServer::start(&taken, Arc::new(EchoFactory::default())).unwrap_err();
    assert!(matches!(error, ServerError::Bind { .. }));
    assert!(
        error.to_string().contains(&port(&server).to_string()),
        "{error}"
    );
}

#[test]
fn an_http2_setting_out_of_range_is_named_in_the_error() {
    let error = NativeServer::start(
        &ServerOptions {
            frame_size: 100,
            ..options()
        },
        Arc::new(EchoFactory::default()),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("frame_size must be between 16384 and 16777215"),
        "{error}"
    );
}

#[tokio::test]
async fn a_unix_socket_serves_replaces_a_stale_file_and_goes_away_at_the_end() {
    let path = std::env::temp_dir().join(format!("warmroute-extproc-{}.sock", std::process::id()));
    let options = ServerOptions {
        workers: NonZeroUsize::MIN,
        ..ServerOptions::new(ListenAddress::Unix(path.clone()))
    };
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut server = start_with(&options, EchoFactory::default());
    let mut stream = Stream::open(&connect_unix(path.clone()).await)
        .await
        .unwrap();
    full_duplex(&mut stream, None, &bytes_of(100_000), 62_000).await;
    // A socket that somebody serves is not replaced.
    assert!(matches!(
        NativeServer::start(&options, Arc::new(EchoFactory::default())),
        Err(ServerError::Bind { .. })
    ));
    drop(stream);
    spawn_blocking(move || server.stop(Duration::from_secs(60)))
        .await
        .unwrap();
    assert!(!path.exists());
}
