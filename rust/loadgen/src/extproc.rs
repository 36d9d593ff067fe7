//! Load on an `ext_proc` server: one gRPC stream a request, as Envoy drives it, every reply checked.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use h2::client::SendRequest;
use http::{Method, Request, Version};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::error::{Failure, LoadError};
use crate::exchange::{self, Script};
use crate::pace::Pace;
use crate::payload::{BodyShape, Framing, TailText, Template, Variation};
use crate::report::{Recorder, Report, Success};
use crate::run::{self, RunOptions};
use crate::target::Target;
use crate::wire::{self, BodyMode, Direction, ProtocolConfig};

/// Window a server may fill per stream: as Envoy's default of 16 MiB.
const STREAM_WINDOW: u32 = 16 << 20;
/// Window a server may fill per connection: as Envoy's default of 24 MiB.
const CONNECTION_WINDOW: u32 = 24 << 20;
/// Pause of one worker after a failed connection attempt, so that a server that is gone is not asked in a tight loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Processing mode of the simulated Envoy filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `FULL_DUPLEX_STREAMED`: headers and chunks at once, the body comes back.
    Fds,
    /// `BUFFERED`: headers, their reply, then the whole body in one message.
    Buffered,
    /// `STREAMED`: headers, their reply, then chunks that are answered one by one.
    Streamed,
}

/// How much of the response the picker gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ResponsePhase {
    /// Nothing: the stream ends after the request phase.
    None,
    /// The headers.
    Headers,
    /// The headers and a JSON body with `usage`.
    Body,
}

/// Options of `warmroute-loadgen extproc`.
#[derive(Args, Clone, Debug, Serialize)]
pub struct ExtprocOptions {
    /// What all kinds of load have.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
    /// Processing mode of the filter.
    #[arg(long, value_enum, default_value = "fds")]
    pub mode: Mode,
    /// Streamed mode only: chunks do not wait for the reply to the headers (`send_body_without_waiting_for_header_response`).
    #[arg(long)]
    pub without_waiting: bool,
    /// Length of a request body.
    #[arg(long, default_value_t = 8192)]
    pub body_bytes: usize,
    /// Longest piece of a body in one message.
    #[arg(long, default_value_t = 16_000)]
    pub chunk_bytes: usize,
    /// Longest HTTP/2 DATA frame: the protocol's default, which every server takes (a server's own limit holds too).
    #[arg(long, default_value_t = 16_384)]
    pub frame_bytes: usize,
    /// Groups of requests that share the start of their prompt.
    #[arg(long, default_value_t = 64)]
    pub groups: usize,
    /// Part of the prompt that is common to its group, 0 to 1.
    #[arg(long, default_value_t = 0.8)]
    pub shared: f64,
    /// Run the response phases too; `--response` alone means `body`.
    #[arg(long, value_enum, num_args = 0..=1, default_value = "none", default_missing_value = "body")]
    pub response: ResponsePhase,
    /// Send `protocol_config` (field 11) with the first message, as Envoy does.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub protocol_config: bool,
    /// Count a decision without `x-gateway-destination-endpoint` as an error.
    #[arg(long)]
    pub require_destination: bool,
    /// Model named in the bodies.
    #[arg(long, default_value = "bench-model")]
    pub model: String,
    /// `:path` of the requests.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
}

impl ExtprocOptions {
    fn framing(&self) -> Framing {
        let mode = match self.mode {
            Mode::Fds => BodyMode::FullDuplexStreamed,
            Mode::Buffered => BodyMode::Buffered,
            Mode::Streamed => BodyMode::Streamed,
        };
        let without_waiting = self.without_waiting && self.mode == Mode::Streamed;
        let config = ProtocolConfig {
            request: mode,
            response: if self.response == ResponsePhase::Body {
                mode
            } else {
                BodyMode::None
            },
            without_waiting,
        };
        Framing {
            mode,
            chunk_bytes: self.chunk_bytes,
            protocol_config: self.protocol_config.then_some(config),
            empty_last: self.mode == Mode::Fds || without_waiting,
        }
    }

    /// What each stream does, apart from its own bytes.
    fn script(&self) -> Script {
        let framing = self.framing();
        let body = br#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench-model","choices":[{"index":0,"message":{"role":"assistant","content":"warm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2048,"completion_tokens":1,"total_tokens":2049,"prompt_tokens_details":{"cached_tokens":1024}}}"#;
        let headers = [
            (":status", "200".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("content-length", body.len().to_string()),
            ("date", "Fri, 20 Nov 2026 10:00:00 GMT".to_owned()),
            ("server", "uvicorn".to_owned()),
        ];
        let mut response_headers = Vec::new();
        wire::write_headers(
            &mut response_headers,
            Direction::Response,
            &headers,
            None,
            "",
        );
        let mut response_body = Vec::new();
        wire::write_body(
            &mut response_body,
            Direction::Response,
            body,
            !framing.empty_last,
        );
        if framing.empty_last {
            wire::write_body(&mut response_body, Direction::Response, b"", true);
        }
        Script {
            mode: framing.mode,
            wait_for_header_reply: self.mode != Mode::Fds
                && !(self.mode == Mode::Streamed && self.without_waiting),
            response_headers: (self.response != ResponsePhase::None)
                .then(|| Bytes::from(response_headers)),
            response_body: (self.response == ResponsePhase::Body)
                .then(|| Bytes::from(response_body)),
            response_body_bytes: body.len(),
            response_body_messages: 1 + usize::from(framing.empty_last),
            frame_bytes: self.frame_bytes,
            require_destination: self.require_destination,
        }
    }
}

/// Runs the load.
///
/// # Errors
/// As [`run::run`], or the bodies are impossible.
pub fn run(options: &ExtprocOptions) -> Result<Report, LoadError> {
    if options.chunk_bytes == 0 || options.frame_bytes == 0 {
        return Err(LoadError::Argument(
            "--chunk-bytes and --frame-bytes must be at least 1".to_owned(),
        ));
    }
    let shape = BodyShape {
        bytes: options.body_bytes,
        groups: options.groups,
        shared: options.shared,
        model: options.model.clone(),
        stream: false,
    };
    let bodies = shape.bodies()?;
    let tails = TailText::new(&bodies);
    let templates = bodies
        .iter()
        .map(|body| Template::new(body, options.framing(), &options.path))
        .collect();
    let setup = Arc::new(Setup {
        options: options.clone(),
        script: options.script(),
        templates,
        tails,
    });
    let settings = serde_json::to_value(options).unwrap_or_default();
    run::run(&options.run, settings, move |thread, pace| {
        load(Arc::clone(&setup), thread, pace)
    })
}

/// What all threads share.
struct Setup {
    options: ExtprocOptions,
    script: Script,
    templates: Vec<Template>,
    tails: TailText,
}

/// The load of one thread: a task for each stream that is open at once.
async fn load(setup: Arc<Setup>, thread: usize, pace: Pace) -> Recorder {
    let recorder = Rc::new(RefCell::new(Recorder::new(pace.clone())));
    let variation = Rc::new(RefCell::new(Variation::new(setup.tails.clone())));
    let options = &setup.options.run;
    let connections: Vec<Rc<Connection>> = (0..options.share(options.connections, thread))
        .map(|_| {
            Rc::new(Connection {
                target: options.target.clone(),
                sender: Mutex::new(None),
            })
        })
        .collect();
    let mut workers = JoinSet::new();
    for number in 0..options.share(options.streams, thread) {
        let worker = Worker {
            setup: Arc::clone(&setup),
            connection: Rc::clone(&connections[number % connections.len()]),
            variation: Rc::clone(&variation),
            recorder: Rc::clone(&recorder),
        };
        workers.spawn_local(worker.run(pace.clone()));
    }
    while workers.join_next().await.is_some() {}
    recorder.replace(Recorder::new(pace))
}

/// One of the streams open at once.
struct Worker {
    setup: Arc<Setup>,
    connection: Rc<Connection>,
    variation: Rc<RefCell<Variation>>,
    recorder: Rc<RefCell<Recorder>>,
}

impl Worker {
    async fn run(self, pace: Pace) {
        let request = grpc_request(&self.setup.options.run.target);
        while let Some(intended) = pace.next().await {
            let outcome = tokio::time::timeout(
                self.setup.options.run.timeout(),
                self.exchange(request.clone()),
            )
            .await
            .unwrap_or(Err(Failure::Timeout));
            self.recorder.borrow_mut().record(intended, outcome);
            if matches!(outcome, Err(Failure::Connection)) {
                self.connection.sender.lock().await.take();
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    async fn exchange(&self, request: Request<()>) -> Result<Success, Failure> {
        let sender = self.connection.sender().await?;
        let (frames, template) = {
            let mut variation = self.variation.borrow_mut();
            let template = &self.setup.templates[variation.group(self.setup.templates.len())];
            (template.instantiate(&mut variation), template)
        };
        exchange::run(sender, request, &self.setup.script, template, frames).await
    }
}

fn grpc_request(target: &Target) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let uri = format!(
        "http://{}/envoy.service.ext_proc.v3.ExternalProcessor/Process",
        target.authority()
    );
    // An authority that is no valid URI part is replaced: servers do not read it.
    *request.uri_mut() = uri.parse().unwrap_or_else(|_| {
        http::Uri::from_static(
            "http://localhost/envoy.service.ext_proc.v3.ExternalProcessor/Process",
        )
    });
    let headers = request.headers_mut();
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/grpc"),
    );
    headers.insert("te", http::HeaderValue::from_static("trailers"));
    request
}

/// One HTTP/2 connection, opened again after it failed.
struct Connection {
    target: Target,
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

impl Connection {
    async fn sender(&self) -> Result<SendRequest<Bytes>, Failure> {
        let mut current = self.sender.lock().await;
        if let Some(sender) = &*current {
            return Ok(sender.clone());
        }
        let socket = self
            .target
            .connect()
            .await
            .map_err(|_| Failure::Connection)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(usize::MAX >> 8)
            .enable_push(false)
            .handshake(socket)
            .await
            .map_err(|_| Failure::Connection)?;
        // An error of the connection is seen by each of its streams.
        tokio::task::spawn_local(async move { drop(connection.await) });
        *current = Some(sender.clone());
        Ok(sender)
    }
}
