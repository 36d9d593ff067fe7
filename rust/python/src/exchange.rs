//! `_core.Exchange` and `_core.EchoExchange`: sessions for hosts written in Python.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use warmroute_core::exchange::Progress;
use warmroute_core::schedule::Profile;
use warmroute_extproc::{EchoSession, ExchangeSession, Session};

use crate::engine::Engine;

type Replies<'py> = (Vec<Bound<'py, PyBytes>>, bool);

type Answer = Result<(Vec<Bytes>, Progress), String>;

fn answer<S: Session>(session: &Mutex<Option<S>>, message: Bytes) -> Answer {
    let mut session = session.lock();
    let Some(session) = session.as_mut() else {
        return Err("the exchange is closed".to_owned());
    };
    let mut frames = Vec::new();
    session
        .receive(message, warmroute_extproc::now(), &mut frames)
        .map(|progress| (frames, progress))
        .map_err(|error| error.to_string())
}

fn to_python(py: Python<'_>, answer: Answer) -> PyResult<Replies<'_>> {
    let (frames, progress) = answer.map_err(PyValueError::new_err)?;
    let replies = frames.iter().map(|frame| PyBytes::new(py, frame)).collect();
    Ok((replies, progress == Progress::Close))
}

fn asks_python(engine: &warmroute_core::Engine) -> bool {
    let active = engine.active();
    active.policy.profiles().iter().any(Profile::has_external)
}

/// One HTTP exchange over `ext_proc`.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Exchange {
    session: Mutex<Option<ExchangeSession>>,
    engine: Arc<warmroute_core::Engine>,
}

#[pymethods]
impl Exchange {
    #[new]
    fn new(engine: &Engine) -> Self {
        let session = ExchangeSession::new(engine.inner.clone());
        Self {
            session: Mutex::new(Some(session)),
            engine: Arc::clone(&engine.inner),
        }
    }

    fn receive<'py>(&self, py: Python<'py>, message: &[u8]) -> PyResult<Replies<'py>> {
        let message = Bytes::copy_from_slice(message);
        // A plugin's thread needs Python while this one waits for it; otherwise letting go of it costs more than it gives.
        let answer = if asks_python(&self.engine) {
            py.detach(|| answer(&self.session, message))
        } else {
            answer(&self.session, message)
        };
        to_python(py, answer)
    }

    #[pyo3(signature = (code=None))]
    fn close(&self, py: Python<'_>, code: Option<u8>) {
        // Another thread may be in `receive`, waiting for a plugin that needs Python.
        let session = match self.session.try_lock() {
            Some(mut session) => session.take(),
            None => py.detach(|| self.session.lock().take()),
        };
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
        to_python(py, answer(&self.session, Bytes::copy_from_slice(message)))
    }

    #[pyo3(signature = (code=None))]
    fn close(&self, code: Option<u8>) {
        let _ = code;
        self.session.lock().take();
    }
}
