//! `_core.NativeServer`.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use warmroute_extproc::host::{
    self, ListenAddress, ServerError, ServerOptions, TlsOptions, TlsVersion,
};
use warmroute_extproc::{EchoFactory, ExchangeFactory, SessionFactory};

use crate::engine::Engine;

/// The native `ext_proc` host.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct NativeServer {
    server: Mutex<host::NativeServer>,
    address: String,
}

fn to_python(error: &ServerError) -> PyErr {
    match error {
        ServerError::Bind { .. } | ServerError::Runtime(_) => PyOSError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

#[pymethods]
impl NativeServer {
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python constructor"
    )]
    #[new]
    #[pyo3(signature = (engine, address, *, tls=None, threads=0, max_message_bytes=0, tls_min_version="", echo_destinations=Vec::new()))]
    fn new(
        py: Python<'_>,
        engine: Option<&Engine>,
        address: &str,
        tls: Option<(Vec<u8>, Vec<u8>)>,
        threads: usize,
        max_message_bytes: usize,
        tls_min_version: &str,
        echo_destinations: Vec<String>,
    ) -> PyResult<Self> {
        let listen = ListenAddress::from_str(address).map_err(|error| to_python(&error))?;
        let minimum_version = match tls_min_version {
            "" => TlsVersion::default(),
            version => version.parse().map_err(|error| to_python(&error))?,
        };
        let mut options = ServerOptions::new(listen);
        options.tls = tls.map(|(certificate_pem, key_pem)| TlsOptions {
            certificate_pem,
            key_pem,
            minimum_version,
        });
        if let Some(threads) = NonZeroUsize::new(threads) {
            options.workers = threads;
        }
        if max_message_bytes > 0 {
            options.maximum_message_length = max_message_bytes;
        }
        let factory: Arc<dyn SessionFactory> = match engine {
            Some(engine) => Arc::new(ExchangeFactory::new(engine.inner.clone())),
            None => Arc::new(EchoFactory::naming(
                echo_destinations.into_iter().map(Into::into).collect(),
            )),
        };
        let server = py
            .detach(|| host::NativeServer::start(&options, factory))
            .map_err(|error| to_python(&error))?;
        let address = server.address().to_string();
        Ok(Self {
            server: Mutex::new(server),
            address,
        })
    }

    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    fn replace_tls(&self, certificate: &[u8], key: &[u8]) -> PyResult<()> {
        self.server
            .lock()
            .replace_tls(certificate, key)
            .map_err(|error| to_python(&error))
    }

    fn streams(&self) -> usize {
        self.server.lock().streams()
    }

    fn stop(&self, py: Python<'_>, drain_seconds: f64) -> PyResult<bool> {
        let drain = Duration::try_from_secs_f64(drain_seconds)
            .map_err(|error| PyValueError::new_err(format!("drain_seconds: {error}")))?;
        Ok(py.detach(|| self.server.lock().stop(drain)))
    }
}
