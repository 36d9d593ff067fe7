//! The native host: a gRPC server for `ExternalProcessor/Process` on its own threads.
//!
//! Built on hyper's HTTP/2, which is also tonic's transport, with gRPC's five-byte framing done here: a message that arrives in one DATA
//! frame reaches the session uncopied, and a stream costs one task and no channel.

mod coalesce;
mod connection;
mod error;
mod framing;
mod listen;
mod pool;
mod shared;
mod status;
mod stream;
mod tls;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

pub use error::ServerError;
pub use listen::ListenAddress;
pub use shared::Statistics;
pub use tls::{TlsOptions, TlsVersion};

use crate::session::SessionFactory;
use connection::{ConnectionContext, Phase, accept_loop, http_builder};
use listen::Listener;
use shared::Shared;
use tls::Tls;

/// The one method of the service.
pub const PROCESS_PATH: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// How long `stop` waits for what it has aborted to be released.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// How a server is set up. [`ServerOptions::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen.
    pub listen: ListenAddress,
    /// Worker threads. Default 1 for each core.
    pub workers: NonZeroUsize,
    /// TLS; plaintext without. Default none.
    pub tls: Option<TlsOptions>,
    /// Longest `ProcessingRequest` in bytes; a longer one ends its stream with `RESOURCE_EXHAUSTED`. Default unlimited: the limit of a
    /// request body is the exchange's, which can answer 413.
    pub maximum_message_length: usize,
    /// A TLS handshake that takes longer is broken off. Default 10 s.
    pub handshake_timeout: Duration,
    /// HTTP/2 window of a stream in bytes. Default 4 MiB.
    pub stream_window: u32,
    /// HTTP/2 window of a connection in bytes. Default 64 MiB.
    pub connection_window: u32,
    /// HTTP/2 frame size that clients may use, 16,384 to 16,777,215 bytes. Default 256 KiB: a body chunk then arrives in one frame.
    pub frame_size: u32,
}

impl ServerOptions {
    /// Plaintext with all defaults.
    pub fn new(listen: ListenAddress) -> Self {
        Self {
            listen,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            tls: None,
            maximum_message_length: usize::MAX,
            handshake_timeout: Duration::from_secs(10),
            stream_window: 4 << 20,
            connection_window: 64 << 20,
            frame_size: 256 << 10,
        }
    }
}

/// A running server. Dropping it ends it at once; [`NativeServer::stop`] ends it gently.
pub struct NativeServer {
    // Taken when the server stops.
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    tls: Option<Tls>,
    phase: watch::Sender<Phase>,
    address: ListenAddress,
}

impl NativeServer {
    /// Binds, starts the threads and serves.
    ///
    /// # Errors
    /// [`ServerError`] when the address, a setting, the certificate or the key cannot be used, or threads cannot be started.
    pub fn start(
        options: &ServerOptions,
        factory: Arc<dyn SessionFactory>,
    ) -> Result<Self, ServerError> {
        check_settings(options)?;
        let tls = options.tls.as_ref().map(Tls::new).transpose()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.workers.get())
            .thread_name("warmroute-extproc")
            .enable_all()
            .build()
            .map_err(ServerError::Runtime)?;
        let bound = {
            let _inside = runtime.enter();
            Listener::bind(&options.listen)
        };
        let (listener, address) = match bound {
            Ok(bound) => bound,
            Err(source) => {
                // Dropping a runtime blocks, which a caller inside another runtime must not do.
                runtime.shutdown_background();
                return Err(ServerError::Bind {
                    address: options.listen.clone(),
                    source,
                });
            }
        };
        let shared = Arc::new(Shared::new(factory, options.maximum_message_length));
        let (phase, watched) = watch::channel(Phase::Running);
        let context = ConnectionContext {
            shared: Arc::clone(&shared),
            tls: tls.as_ref().map(|tls| tls.acceptor.clone()),
            handshake_timeout: options.handshake_timeout,
            http: http_builder(options),
            phase: watched,
        };
        runtime.spawn(accept_loop(listener, context));
        Ok(Self {
            runtime: Some(runtime),
            shared,
            tls,
            phase,
            address,
        })
    }

    /// Where the server listens, with the port that was picked.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Shows another certificate from the next handshake on, both in PEM. After an error the old one stays.
    ///
    /// # Errors
    /// [`ServerError`] when the pair cannot be used or the server runs without TLS.
    pub fn replace_tls(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), ServerError> {
        self.tls
            .as_ref()
            .ok_or(ServerError::NotTls)?
            .replace(certificate_pem, key_pem)
    }

    /// Streams open now.
    pub fn streams(&self) -> usize {
        self.shared.open_streams()
    }

    /// Counts of connections, streams and errors.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    /// Stops accepting, asks clients to open no more streams (GOAWAY), waits at most `drain` for the open ones to end and aborts the
    /// rest. Returns whether all ended by themselves. Blocks the calling thread; a second call returns at once.
    pub fn stop(&mut self, drain: Duration) -> bool {
        let Some(runtime) = self.runtime.take() else {
            return self.streams() == 0;
        };
        self.phase.send_replace(Phase::Draining);
        let drained = self.shared.wait_until(drain, |shared| {
            shared.open_streams() == 0 && shared.open_connections() == 0
        }) || self.shared.open_streams() == 0;
        self.phase.send_replace(Phase::Aborting);
        self.shared.wait_until(ABORT_PATIENCE, |shared| {
            shared.open_streams() == 0 && shared.open_connections() == 0
        });
        self.shared.pool.close();
        runtime.shutdown_background();
        if let ListenAddress::Unix(path) = &self.address {
            // Gone already when somebody else cleaned up; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
        drained
    }
}

impl fmt::Debug for NativeServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NativeServer")
            .field("address", &self.address)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl Drop for NativeServer {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// hyper panics on settings outside the ranges of RFC 9113; this says which one.
fn check_settings(options: &ServerOptions) -> Result<(), ServerError> {
    let windows = (1 << 14)..=((1 << 31) - 1);
    let frames = (1 << 14)..=((1 << 24) - 1);
    for (name, value, range) in [
        ("stream_window", options.stream_window, windows.clone()),
        ("connection_window", options.connection_window, windows),
        ("frame_size", options.frame_size, frames),
    ] {
        if !range.contains(&value) {
            return Err(ServerError::Setting {
                name,
                minimum: *range.start(),
                maximum: *range.end(),
                value,
            });
        }
    }
    Ok(())
}
