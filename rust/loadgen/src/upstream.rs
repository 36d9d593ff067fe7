//! A stand-in for model servers that costs little: any POST gets a small completion once its body is read.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Interval, MissedTickBehavior};

use crate::error::LoadError;
use crate::page::{Page, PageOptions};

const COMPLETION: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench-model","choices":[{"index":0,"message":{"role":"assistant","content":"warm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2048,"completion_tokens":1,"total_tokens":2049}}"#;
const MODELS: &str = r#"{"object":"list","data":[{"id":"bench-model","object":"model","created":1700000000,"owned_by":"bench"}]}"#;
const EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench-model\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"warm\"}}]}\n\n";
const LAST_EVENT: &[u8] = b"data: [DONE]\n\n";

/// Options of `warmroute-loadgen upstream`.
#[derive(Args, Clone, Debug)]
pub struct UpstreamOptions {
    /// Address of the first server; the others take the next ports, or free ones when the port is 0.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Number of servers.
    #[arg(long, default_value_t = 1)]
    pub servers: u16,
    /// File served as the metrics page.
    #[arg(long)]
    pub page: Option<PathBuf>,
    /// Serve the whole page whatever `name[]` asks for, as engines without that filter do.
    #[arg(long)]
    pub ignore_filter: bool,
    /// Vary `vllm:num_requests_running` from page to page, as on a server that works.
    #[arg(long)]
    pub busy: bool,
    /// Answer POSTs with an event stream of so many events instead of JSON.
    #[arg(long)]
    pub sse_chunks: Option<u32>,
    /// Milliseconds between two events.
    #[arg(long, default_value_t = 0)]
    pub sse_interval_ms: u64,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

/// Serves until the process is ended, at the latest when its parent ends.
///
/// # Errors
/// An address is taken, the page cannot be read, or the addresses cannot be printed.
pub fn run(options: &UpstreamOptions) -> Result<(), LoadError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).map_err(
        |errno| {
            LoadError::Io(
                "cannot tie the process to its parent".to_owned(),
                errno.into(),
            )
        },
    )?;
    let page = match &options.page {
        Some(path) => std::fs::read_to_string(path)
            .map_err(LoadError::io(format!("cannot read {}", path.display())))?,
        None => String::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()
        .map_err(LoadError::io("cannot start a runtime"))?;
    runtime.block_on(async {
        let addresses = serve(options, &page).await?;
        let line = serde_json::json!({ "addresses": addresses }).to_string();
        let mut output = std::io::stdout();
        writeln!(output, "{line}")
            .and_then(|()| output.flush())
            .map_err(LoadError::io("cannot print the addresses"))?;
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// Opens the servers and serves them from tasks; returns where they listen.
///
/// # Errors
/// An address is taken.
pub async fn serve(options: &UpstreamOptions, page: &str) -> Result<Vec<SocketAddr>, LoadError> {
    let server = Arc::new(Server {
        page: Page::new(
            page,
            PageOptions {
                ignore_filter: options.ignore_filter,
                busy: options.busy,
            },
        ),
        events: options.sse_chunks,
        interval: Duration::from_millis(options.sse_interval_ms),
    });
    let mut addresses = Vec::new();
    for number in 0..options.servers {
        let mut address = options.listen;
        if address.port() != 0 {
            let port = address.port().checked_add(number);
            address.set_port(port.ok_or_else(|| {
                LoadError::Argument("--servers reaches beyond port 65535".to_owned())
            })?);
        }
        let listener = TcpListener::bind(address)
            .await
            .map_err(LoadError::io(format!("cannot listen on {address}")))?;
        addresses.push(
            listener
                .local_addr()
                .map_err(LoadError::io("cannot read an address"))?,
        );
        tokio::spawn(accept(listener, Arc::clone(&server)));
    }
    Ok(addresses)
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file descriptors: some connection has to end first.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Without it, answers are only slower.
        let _ = socket.set_nodelay(true);
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            });
            // A client that goes away is no concern of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Answer = Response<Either<Full<Bytes>, EventStream>>;

struct Server {
    page: Page,
    events: Option<u32>,
    interval: Duration,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.method() == Method::POST {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return plain(
                        StatusCode::BAD_REQUEST,
                        "text/plain",
                        Bytes::from_static(b"the body was cut short"),
                    );
                }
            }
            return match self.events {
                Some(events) => self.stream(events),
                None => plain(
                    StatusCode::OK,
                    "application/json",
                    Bytes::from_static(COMPLETION.as_bytes()),
                ),
            };
        }
        let uri = request.uri();
        match uri.path() {
            "/health" => plain(StatusCode::OK, "text/plain", Bytes::new()),
            "/v1/models" => plain(
                StatusCode::OK,
                "application/json",
                Bytes::from_static(MODELS.as_bytes()),
            ),
            // For benches: how often the pages of all servers were read.
            "/pages-served" => plain(
                StatusCode::OK,
                "text/plain",
                Bytes::from(self.page.served().to_string()),
            ),
            "/metrics" | "/metrics/" => plain(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.page.get(uri.path(), uri.query()),
            ),
            _ => plain(StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
        }
    }

    fn stream(&self, events: u32) -> Answer {
        let interval = (!self.interval.is_zero()).then(|| {
            let mut interval = tokio::time::interval(self.interval);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let mut response = Response::new(Either::Right(EventStream {
            left: events,
            last_sent: false,
            interval,
        }));
        response.headers_mut().insert(
            "content-type",
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        );
        response
    }
}

fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(content_type));
    response
}

/// Events at a steady pace, then `data: [DONE]`.
struct EventStream {
    left: u32,
    last_sent: bool,
    interval: Option<Interval>,
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            let first = !std::mem::replace(&mut self.last_sent, true);
            return Poll::Ready(first.then(|| Ok(Frame::data(Bytes::from_static(LAST_EVENT)))));
        }
        if let Some(interval) = &mut self.interval {
            ready!(interval.poll_tick(context));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(EVENT)))))
    }
}
