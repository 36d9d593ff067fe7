//! `_core.Exchange`, what it waits for, and `_core.EchoExchange`: sessions for hosts written in Python.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes};
use warmroute_core::exchange::Progress;
use warmroute_core::schedule::Profile;
use warmroute_core::tokens::{TokenAnswer, TokenJob};
use warmroute_extproc::codec::DecodeError;
use warmroute_extproc::{EchoSession, ExchangeSession, Session};

use crate::engine::Engine;

/// Replies to send, and what follows: True ends the stream, False reads on, a `TokenWork` is waited for.
type Replies<'py> = (Vec<Bound<'py, PyBytes>>, Bound<'py, PyAny>);

type Answer = Result<(Vec<Bytes>, Next), String>;

enum Next {
    Continue,
    Close,
    Wait(TokenJob),
}

fn step<S: Session>(
    session: &Mutex<Option<S>>,
    act: impl FnOnce(&mut S, &mut Vec<Bytes>) -> Result<Progress, DecodeError>,
) -> Answer {
    let mut session = session.lock();
    let Some(session) = session.as_mut() else {
        return Err("the exchange is closed".to_owned());
    };
    let mut frames = Vec::new();
    let next = match act(session, &mut frames) {
        Err(error) => return Err(error.to_string()),
        Ok(Progress::Continue) => Next::Continue,
        Ok(Progress::Close) => Next::Close,
        Ok(Progress::Wait) => match session.take_work() {
            Some(job) => Next::Wait(job),
            None => return Err("the exchange waits for nothing".to_owned()),
        },
    };
    Ok((frames, next))
}

fn receive<S: Session>(session: &Mutex<Option<S>>, message: Bytes) -> Answer {
    step(session, |session, frames| {
        session.receive(message, warmroute_extproc::now(), frames)
    })
}

fn to_python<'py>(
    py: Python<'py>,
    answer: Answer,
    work: impl FnOnce(TokenJob) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Replies<'py>> {
    let (frames, next) = answer.map_err(PyValueError::new_err)?;
    let replies = frames.iter().map(|frame| PyBytes::new(py, frame)).collect();
    let next = match next {
        Next::Continue => PyBool::new(py, false).to_owned().into_any(),
        Next::Close => PyBool::new(py, true).to_owned().into_any(),
        Next::Wait(job) => work(job)?,
    };
    Ok((replies, next))
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

    fn receive<'py>(slf: &Bound<'py, Self>, message: &[u8]) -> PyResult<Replies<'py>> {
        let message = Bytes::copy_from_slice(message);
        Self::go_on(slf, |session| receive(session, message))
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

impl Exchange {
    fn go_on<'py>(
        slf: &Bound<'py, Self>,
        act: impl FnOnce(&Mutex<Option<ExchangeSession>>) -> Answer + Send,
    ) -> PyResult<Replies<'py>> {
        let py = slf.py();
        let Self { session, engine } = slf.get();
        // A plugin's thread needs Python while this one waits for it; otherwise letting go of it costs more than it gives.
        let answer = if asks_python(engine) {
            py.detach(|| act(session))
        } else {
            act(session)
        };
        to_python(py, answer, |job| {
            let work = TokenWork {
                exchange: slf.clone().unbind(),
                stage: Mutex::new(Stage::Job(job)),
            };
            Ok(Bound::new(py, work)?.into_any())
        })
    }
}

/// What an exchange waits for.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct TokenWork {
    exchange: Py<Exchange>,
    stage: Mutex<Stage>,
}

enum Stage {
    Job(TokenJob),
    Running,
    Answered(TokenAnswer),
    Over,
}

impl TokenWork {
    /// Puts another stage in the place of this one, if it is one that `replaces`.
    fn replace(&self, stage: Stage, replaces: fn(&Stage) -> bool) -> Option<Stage> {
        let mut current = self.stage.lock();
        replaces(&current).then(|| std::mem::replace(&mut *current, stage))
    }
}

#[pymethods]
impl TokenWork {
    fn run(&self, py: Python<'_>) {
        let job = self.replace(Stage::Running, |stage| matches!(stage, Stage::Job(_)));
        if let Some(Stage::Job(job)) = job {
            let answer = py.detach(|| job.run());
            self.replace(Stage::Answered(answer), |stage| {
                matches!(stage, Stage::Running)
            });
        }
    }

    fn cancel(&self) {
        self.replace(Stage::Over, |_| true);
    }

    fn resume<'py>(&self, py: Python<'py>) -> PyResult<Replies<'py>> {
        let answer = match self.replace(Stage::Over, |stage| !matches!(stage, Stage::Running)) {
            Some(Stage::Answered(answer)) => answer,
            Some(Stage::Job(_)) => TokenAnswer::busy(),
            Some(Stage::Over | Stage::Running) => {
                return Err(PyValueError::new_err(
                    "the work was resumed before, or cancelled",
                ));
            }
            None => return Err(PyValueError::new_err("the work is still running")),
        };
        Exchange::go_on(self.exchange.bind(py), |session| {
            step(session, |session, frames| {
                Ok(session.resume(answer, warmroute_extproc::now(), frames))
            })
        })
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
        let answer = receive(&self.session, Bytes::copy_from_slice(message));
        to_python(py, answer, |_| {
            Err(PyValueError::new_err("an echo waits for nothing"))
        })
    }

    #[pyo3(signature = (code=None))]
    fn close(&self, code: Option<u8>) {
        let _ = code;
        self.session.lock().take();
    }
}
