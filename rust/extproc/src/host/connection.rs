//! Connections: handshake, HTTP/2 settings, routing of a call, graceful end.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::listen::{AcceptBackOff, Connection, Listener};
use super::shared::{ConnectionGuard, Shared};
use super::status::Status;
use super::stream::{ProcessStream, ReplyBody};
use super::{PROCESS_PATH, ServerOptions};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Streams that a client may open and reset before we looked at them. hyper's guard against rapid resets (20) would end a proxy's
/// connection, and with it every open answer, when a burst of clients leaves at once.
const PENDING_RESETS: usize = 1 << 16;

/// Request header block, in bytes: `Process` carries only gRPC's own headers and tracing.
const HEADER_LIST_SIZE: u32 = 64 << 10;

/// How far the end of the server has come; connections watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Finish open streams, take no new ones.
    Draining,
    /// End now.
    Aborting,
}

/// What a connection needs to know.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub(super) shared: Arc<Shared>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) handshake_timeout: Duration,
    pub(super) http: http2::Builder<TokioExecutor>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// HTTP/2 as a picker wants it.
pub(super) fn http_builder(options: &ServerOptions) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        // A small limit makes Envoy open connections and lose the streams that it sent before it read our settings.
        .max_concurrent_streams(u32::MAX)
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .max_frame_size(options.frame_size)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .auto_date_header(false);
    builder
}

/// Accepts connections until the server drains, then closes the listening socket.
pub(super) async fn accept_loop(listener: Listener, context: ConnectionContext) {
    let mut back_off = AcceptBackOff::default();
    let mut phase = context.phase.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                back_off.succeeded();
                let guard = ConnectionGuard::new(Arc::clone(&context.shared));
                tokio::spawn(serve(connection, context.clone(), guard));
            }
            Err(error) => {
                context.shared.count_accept_error();
                let pause = back_off.failed(&error);
                // Ends early when the server does.
                let _ = timeout(pause, phase.wait_for(|phase| *phase != Phase::Running)).await;
            }
        }
    }
}

async fn serve(connection: Connection, context: ConnectionContext, guard: ConnectionGuard) {
    match connection {
        Connection::Tcp(stream) => secure(stream, context).await,
        Connection::Unix(stream) => secure(stream, context).await,
    }
    drop(guard);
}

async fn secure(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    context: ConnectionContext,
) {
    let Some(acceptor) = &context.tls else {
        return serve_http(stream, context).await;
    };
    let mut phase = context.phase.clone();
    let handshake = tokio::select! {
        _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
        handshake = timeout(context.handshake_timeout, acceptor.accept(stream)) => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => serve_http(stream, context).await,
        Ok(Err(_)) | Err(_) => context.shared.count_handshake_error(),
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    context: ConnectionContext,
) {
    let ConnectionContext {
        shared,
        http,
        mut phase,
        ..
    } = context;
    let mut draining = phase.clone();
    let service = service_fn(move |request| respond(request, &shared));
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // What ends a connection (the peer left, or broke the protocol) is of no use to anyone here; its streams are told by hyper.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|phase| *phase != Phase::Running) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        _ = phase.wait_for(|phase| *phase == Phase::Aborting) => {}
    }
}

fn respond(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
) -> Ready<Result<Response<ReplyBody>, Infallible>> {
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    let mut response;
    if !is_grpc {
        response = Response::new(ReplyBody::Empty);
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    } else if request.uri().path() == PROCESS_PATH {
        response = Response::new(ReplyBody::Process(Box::new(ProcessStream::new(
            request.into_body(),
            Arc::clone(shared),
        ))));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
    } else {
        response = Response::new(ReplyBody::Empty);
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        Status::unimplemented(
            "this server has only envoy.service.ext_proc.v3.ExternalProcessor/Process",
        )
        .write(response.headers_mut());
    }
    ready(Ok(response))
}
