//! A model server's metrics port, good or bad: raw bytes for each request, a thread for each connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Sends these bytes and waits for the next request.
    Whole(Vec<u8>),
    /// Sends these bytes and closes the connection.
    CutOff(Vec<u8>),
    /// Sends nothing, and keeps the connection.
    Hang,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn status(status: &str) -> Self {
        Self::Whole(
            format!("HTTP/1.1 {status}\r\nlocation: /metrics\r\ncontent-length: 0\r\n\r\n").into(),
        )
    }
}

/// A page as servers send it.
pub(crate) fn page(text: &str) -> Answer {
    Answer::Whole(format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into())
}

/// A list of models as servers send it, or another JSON text.
pub(crate) fn json(text: &str) -> Answer {
    Answer::Whole(
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
        .into(),
    )
}

type Handler = Box<dyn Fn(&str, usize) -> Answer + Send + Sync>;

struct Shared {
    handler: Handler,
    paths: Mutex<Vec<String>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    stopped: AtomicBool,
}

/// A server on a free port of the loopback address; stops listening when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// `handler` gets the path with its query and the number of the request, from 0.
    pub(crate) fn start(handler: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    /// As `start`, under TLS.
    pub(crate) fn start_tls(
        config: ServerConfig,
        handler: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(Arc::new(config)), handler)
    }

    fn start_with(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            paths: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::Acquire) {
                    return;
                }
                accepting.accepted.fetch_add(1, Ordering::AcqRel);
                accepting.open.fetch_add(1, Ordering::AcqRel);
                let (shared, tls) = (Arc::clone(&accepting), tls.clone());
                std::thread::spawn(move || {
                    match &tls {
                        None => shared.converse(stream),
                        Some(config) => {
                            let session = ServerConnection::new(Arc::clone(config));
                            shared.converse(StreamOwned::new(session.expect("a session"), stream));
                        }
                    }
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Self {
            address,
            shared,
            listening: Some(listening),
        }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Connections open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Paths asked for, with their queries, in order.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.shared.paths.lock().expect("no panic").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the accepting thread; when even that fails the thread has ended already.
        drop(TcpStream::connect(self.address));
        if let Some(listening) = self.listening.take() {
            drop(listening.join());
        }
    }
}

impl Shared {
    fn converse(&self, mut stream: impl Read + Write) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => request.extend_from_slice(&buffer[..count]),
                }
            }
            let head = String::from_utf8_lossy(&request).into_owned();
            request.clear();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let nth = {
                let mut paths = self.paths.lock().expect("no panic");
                paths.push(path.clone());
                paths.len() - 1
            };
            let sent = match (self.handler)(&path, nth) {
                Answer::Whole(bytes) => stream.write_all(&bytes),
                Answer::CutOff(bytes) => {
                    // The client may be gone already, which is what this answer is about.
                    drop(stream.write_all(&bytes));
                    return;
                }
                Answer::Hang => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }
}
