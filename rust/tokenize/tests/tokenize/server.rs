//! A model server of one thread a connection, which answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// What the server does with a request.
pub(crate) enum Reply {
    Json(u16, String),
    /// Nothing until the client gives up.
    Silence,
    /// A beginning of an answer, then nothing until the client gives up.
    Stall,
    /// Something that is not HTTP.
    Garbage,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) body: serde_json::Value,
}

pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    /// Serves until the process ends.
    pub(crate) fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let reply = Arc::new(reply);
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                *count.lock() += 1;
                let (reply, log) = (Arc::clone(&reply), Arc::clone(&log));
                std::thread::spawn(move || serve(&stream, &*reply, &log));
            }
        });
        Self {
            url,
            seen,
            connections,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock()
    }
}

fn serve(stream: &TcpStream, reply: &dyn Fn(&Seen) -> Reply, log: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let lower = head.to_lowercase();
        let length: usize = lower
            .split("content-length: ")
            .nth(1)?
            .lines()
            .next()?
            .parse()
            .ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let seen = Seen {
            path: head.split(' ').nth(1)?.to_owned(),
            body: serde_json::from_slice(&body).expect("requests are JSON"),
        };
        log.lock().push(seen.clone());
        match reply(&seen) {
            Reply::Json(status, text) => {
                write!(writer, "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len()).ok()?;
            }
            Reply::Garbage => {
                writer.write_all(b"lorem ipsum\r\n\r\n").ok()?;
                return None;
            }
            silence => {
                if matches!(silence, Reply::Stall) {
                    writer
                        .write_all(
                            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"token_ids\": [",
                        )
                        .ok()?;
                }
                // Returns when the client closes.
                reader.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
        }
    }
}
