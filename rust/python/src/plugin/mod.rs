//! Filters and scorers written in Python: the engine's side, and the side of the thread that runs one.

mod handoff;
mod question;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use warmroute_core::plugin::{External, ExternalFailure, Externals, Role};
use warmroute_core::pool::Snapshot;
use warmroute_core::schedule::Context;

use handoff::Handoff;
use question::Question;
pub(crate) use question::{PluginPool, PluginQuestion};

/// Longest time that a decision may be made to wait for one plugin.
const LONGEST_BUDGET_SECONDS: f64 = 60.0;

/// The asking side. With the last of its owners, engines and Python alike, the plugin's thread ends.
struct Asker {
    handoff: Arc<Handoff<Question>>,
}

impl fmt::Debug for Asker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.handoff.close();
    }
}

impl External for Asker {
    fn call(
        &self,
        snapshot: &Arc<Snapshot>,
        context: &Context<'_>,
    ) -> Result<Vec<f64>, ExternalFailure> {
        self.handoff.ask(|| Question::new(snapshot, context))
    }
}

/// A plugin written in Python, as an engine is given it.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct PythonPlugin {
    asker: Arc<Asker>,
    name: String,
    role: Role,
}

#[pymethods]
impl PythonPlugin {
    #[new]
    fn new(name: String, role: &str, budget_seconds: f64) -> PyResult<Self> {
        let role = match role {
            "scorer" => Role::Scorer,
            "filter" => Role::Filter,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "plugin {name:?}: the role must be \"scorer\" or \"filter\", not {role:?}"
                )));
            }
        };
        // Written so that NaN is refused too.
        if !(budget_seconds > 0.0 && budget_seconds <= LONGEST_BUDGET_SECONDS) {
            return Err(PyValueError::new_err(format!(
                "plugin {name:?}: the budget must be more than 0 and at most {LONGEST_BUDGET_SECONDS} seconds, not {budget_seconds}"
            )));
        }
        let handoff = Arc::new(Handoff::new(Duration::from_secs_f64(budget_seconds)));
        Ok(Self {
            asker: Arc::new(Asker { handoff }),
            name,
            role,
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn role(&self) -> &'static str {
        self.role.name()
    }

    fn work(&self) -> PluginWork {
        PluginWork {
            handoff: Arc::clone(&self.asker.handoff),
            pool: Mutex::new(None),
        }
    }
}

/// By the names in the configuration.
pub(crate) fn externals(plugins: Option<HashMap<String, Py<PythonPlugin>>>) -> Externals {
    let plugins = plugins.unwrap_or_default().into_iter();
    let plugins = plugins.map(|(name, plugin)| {
        let plugin = plugin.get();
        let external: Arc<dyn External> = plugin.asker.clone();
        (name, (plugin.role, external))
    });
    Externals {
        plugins: plugins.collect(),
        open_tokenizer: Some(crate::tokenizer::open),
    }
}

/// The answering side, for the plugin's thread.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct PluginWork {
    handoff: Arc<Handoff<Question>>,
    /// Of the last question: what Python made of the pool is made once, not for each question.
    pool: Mutex<Option<Py<PluginPool>>>,
}

#[pymethods]
impl PluginWork {
    #[pyo3(signature = (answer=None, raised=None, bad_result=None, /))]
    fn next(
        &self,
        py: Python<'_>,
        answer: Option<&Bound<'_, PyAny>>,
        raised: Option<String>,
        bad_result: Option<String>,
    ) -> PyResult<Option<PluginQuestion>> {
        let outcome = match (answer, raised, bad_result) {
            (Some(answer), ..) => Some(read(answer)),
            (_, Some(text), _) => Some(Err(ExternalFailure::Raised(text.into()))),
            (.., Some(text)) => Some(Err(ExternalFailure::BadResult(text.into()))),
            (None, None, None) => None,
        };
        // The asker is told when Python is free again: it may need it to go on.
        let Some(question) = py.detach(|| self.handoff.next(outcome)) else {
            return Ok(None);
        };
        let mut known = self.pool.lock();
        let pool = match known.as_ref() {
            Some(pool) if Arc::ptr_eq(&pool.get().snapshot, &question.snapshot) => {
                pool.clone_ref(py)
            }
            _ => {
                let snapshot = Arc::clone(&question.snapshot);
                let pool = Py::new(py, PluginPool { snapshot })?;
                *known = Some(pool.clone_ref(py));
                pool
            }
        };
        Ok(Some(PluginQuestion { question, pool }))
    }

    fn close(&self) {
        self.handoff.close();
    }
}

fn read(answer: &Bound<'_, PyAny>) -> Result<Vec<f64>, ExternalFailure> {
    let bad = |error: PyErr| ExternalFailure::BadResult(error.to_string().into());
    let buffer = PyBuffer::<f64>::get(answer).map_err(bad)?;
    if buffer.dimensions() != 1 {
        return Err(ExternalFailure::BadResult(
            format!("an array of {} dimensions, not of 1", buffer.dimensions()).into(),
        ));
    }
    buffer.to_vec(answer.py()).map_err(bad)
}
