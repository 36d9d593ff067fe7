//! Load on an HTTP/1.1 gateway: chat completions over kept-alive connections, plain or as event streams.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::error::{Failure, LoadError};
use crate::pace::Pace;
use crate::payload::{Body, BodyShape, TailText, Variation};
use crate::report::{Recorder, Report, Success};
use crate::run::{self, RunOptions};

/// Pause of one worker after a failed connection attempt, so that a gateway that is gone is not asked in a tight loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// The last event of an `OpenAI` stream.
const DONE: &[u8] = b"data: [DONE]";

/// Options of `warmroute-loadgen http`.
#[derive(Args, Clone, Debug, Serialize)]
pub struct HttpOptions {
    /// What all kinds of load have.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
    /// Path and query of the requests.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    /// Length of a request body.
    #[arg(long, default_value_t = 8192)]
    pub body_bytes: usize,
    /// Groups of requests that share the start of their prompt.
    #[arg(long, default_value_t = 64)]
    pub groups: usize,
    /// Part of the prompt that is common to its group, 0 to 1.
    #[arg(long, default_value_t = 0.8)]
    pub shared: f64,
    /// Model named in the bodies.
    #[arg(long, default_value = "bench-model")]
    pub model: String,
    /// Ask for event streams; each must end with `data: [DONE]`.
    #[arg(long)]
    pub stream: bool,
    /// Status that counts as an error-free answer.
    #[arg(long, default_value_t = 200)]
    pub expect_status: u16,
}

/// Runs the load.
///
/// # Errors
/// As [`run::run`], or the bodies or the path are impossible.
pub fn run(options: &HttpOptions) -> Result<Report, LoadError> {
    if options.path.parse::<http::uri::PathAndQuery>().is_err() || !options.path.starts_with('/') {
        return Err(LoadError::Argument(
            "--path must begin with / and be a valid path".to_owned(),
        ));
    }
    let shape = BodyShape {
        bytes: options.body_bytes,
        groups: options.groups,
        shared: options.shared,
        model: options.model.clone(),
        stream: options.stream,
    };
    let bodies = shape.bodies()?;
    let tails = TailText::new(&bodies);
    let setup = Arc::new(Setup {
        options: options.clone(),
        bodies,
        tails,
    });
    let settings = serde_json::to_value(options).unwrap_or_default();
    run::run(&options.run, settings, move |thread, pace| {
        load(Arc::clone(&setup), thread, pace)
    })
}

/// What all threads share.
struct Setup {
    options: HttpOptions,
    bodies: Vec<Body>,
    tails: TailText,
}

/// The load of one thread: a task and a connection for each request under way at once.
async fn load(setup: Arc<Setup>, thread: usize, pace: Pace) -> Recorder {
    let recorder = Rc::new(RefCell::new(Recorder::new(pace.clone())));
    let variation = Rc::new(RefCell::new(Variation::new(setup.tails.clone())));
    let mut workers = JoinSet::new();
    for _ in 0..setup.options.run.share(setup.options.run.streams, thread) {
        let worker = Worker {
            setup: Arc::clone(&setup),
            variation: Rc::clone(&variation),
            recorder: Rc::clone(&recorder),
            sender: None,
        };
        workers.spawn_local(worker.run(pace.clone()));
    }
    while workers.join_next().await.is_some() {}
    recorder.replace(Recorder::new(pace))
}

struct Worker {
    setup: Arc<Setup>,
    variation: Rc<RefCell<Variation>>,
    recorder: Rc<RefCell<Recorder>>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Worker {
    async fn run(mut self, pace: Pace) {
        let timeout = self.setup.options.run.timeout();
        while let Some(intended) = pace.next().await {
            let outcome = tokio::time::timeout(timeout, self.request())
                .await
                .unwrap_or(Err(Failure::Timeout));
            self.recorder.borrow_mut().record(intended, outcome);
            if outcome.is_err() {
                // Its connection may be in the middle of an answer.
                self.sender = None;
            }
            if matches!(outcome, Err(Failure::Connection)) {
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    async fn request(&mut self) -> Result<Success, Failure> {
        let request = self.build();
        let sender = self.connected().await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|_| Failure::Connection)?;
        let status = response.status().as_u16();
        let events = response
            .headers()
            .get("content-type")
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let mut counter = EventCounter::default();
        let mut first_byte = None;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Failure::Reset)?;
            if let (true, Some(data)) = (events, frame.data_ref()) {
                first_byte.get_or_insert_with(Instant::now);
                counter.push(data);
            }
        }
        if status != self.setup.options.expect_status {
            return Err(Failure::HttpStatus(status));
        }
        if self.setup.options.stream && !counter.done() {
            return Err(Failure::NoDone);
        }
        Ok(Success {
            first_byte,
            events: counter.events,
            ..Success::default()
        })
    }

    fn build(&self) -> Request<Full<Bytes>> {
        let Setup {
            options, bodies, ..
        } = &*self.setup;
        let mut variation = self.variation.borrow_mut();
        let template = &bodies[variation.group(bodies.len())];
        let mut body = template.bytes.clone();
        body[template.tail.clone()].copy_from_slice(variation.tail(template.tail.len()));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = http::Method::POST;
        // The path was checked before the run.
        *request.uri_mut() = options.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(options.run.target.authority());
        headers.insert(
            "host",
            host.unwrap_or(HeaderValue::from_static("localhost")),
        );
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("user-agent", HeaderValue::from_static("warmroute-loadgen"));
        if let Ok(id) = HeaderValue::from_bytes(&variation.request_id()) {
            headers.insert("x-request-id", id);
        }
        request
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        let alive = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            let socket = self
                .setup
                .options
                .run
                .target
                .connect()
                .await
                .map_err(|_| Failure::Connection)?;
            let (sender, connection) = http1::handshake(TokioIo::new(socket))
                .await
                .map_err(|_| Failure::Connection)?;
            // An error of the connection is seen by its request.
            tokio::task::spawn_local(async move { drop(connection.await) });
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or(Failure::Connection)
    }
}

/// Counts the events of a stream, whatever the chunks they come in.
#[derive(Debug, Default)]
struct EventCounter {
    events: u64,
    after_newline: bool,
    tail: Vec<u8>,
}

impl EventCounter {
    fn push(&mut self, data: &[u8]) {
        for byte in data.iter().filter(|byte| **byte != b'\r') {
            let newline = *byte == b'\n';
            self.events += u64::from(newline && self.after_newline);
            self.after_newline = newline;
        }
        let keep = data.len().min(DONE.len() + 4);
        self.tail.extend_from_slice(&data[data.len() - keep..]);
        let excess = self.tail.len().saturating_sub(DONE.len() + 4);
        self.tail.drain(..excess);
    }

    fn done(&self) -> bool {
        self.tail.trim_ascii_end().ends_with(DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_over_any_split() {
        let stream = b"data: {\"a\":1}\n\ndata: {\"b\":2}\r\n\r\ndata: [DONE]\n\n";
        for cut in 0..stream.len() {
            let mut counter = EventCounter::default();
            counter.push(&stream[..cut]);
            counter.push(&stream[cut..]);
            assert_eq!((counter.events, counter.done()), (3, true), "{cut}");
        }
        let mut cut_short = EventCounter::default();
        cut_short.push(&stream[..20]);
        assert!(!cut_short.done());
    }
}
