//! `_core.Exchange` and `_core.EchoExchange`: sessions for hosts written in Python.

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use warmroute_core::exchange::Progress;
use warmroute_extproc::{EchoSession, ExchangeSession, Session};

use crate::engine::Engine;

type Replies<'py> = (Vec<Bound<'py, PyBytes>>, bool);

fn receive<'py, S: Session>(
    py: Python<'py>,
    session: &Mutex<Option<S>>,
    message: &[u8],
) -> PyResult<Replies<'py>> {
    let mut session = session.lock();
    let Some(session) = session.as_mut() else {
        return Err(PyValueError::new_err("the exchange is closed"));
    };
    let mut frames = Vec::new();
    let progress = session
        .receive(
            Bytes::copy_from_slice(message),
            warmroute_extproc::now(),
            &mut frames,
        )
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let replies = frames.iter().map(|frame| PyBytes::new(py, frame)).collect();
    Ok((replies, progress == Progress::Close))
}

/// One HTTP exchange over `ext_proc`.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Exchange {
    session: Mutex<Option<ExchangeSession>>,
}

#[pymethods]
impl Exchange {
    #[new]
    fn new(engine: &Engine) -> Self {
        let session = ExchangeSession::new(engine.inner.clone(), warmroute_extproc::now());
        Self {
            session: Mutex::new(Some(session)),
        }
    }

    fn receive<'py>(&self, py: Python<'py>, message: &[u8]) -> PyResult<Replies<'py>> {
        receive(py, &self.session, message)
    }

    #[pyo3(signature = (code=None))]
    fn close(&self, code: Option<u8>) {
        let session = self.session.lock().take();
        if let (Some(mut session), Some(code)) = (session, code) {
            session.end(code);
        }
    }
}

/// The floor: a session that decides nothing.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct EchoExchange {
    session: Mutex<Option<EchoSession>>,
}

#[pymethods]
impl EchoExchange {
    #[new]
    fn new() -> Self {
        Self {
            session: Mutex::new(Some(EchoSession::default())),
        }
    }

    fn receive<'py>(&self, py: Python<'py>, message: &[u8]) -> PyResult<Replies<'py>> {
        receive(py, &self.session, message)
    }

    #[pyo3(signature = (code=None))]
    fn close(&self, code: Option<u8>) {
        let _ = code;
        self.session.lock().take();
    }
}
