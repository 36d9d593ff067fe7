//! `_core.Trace`, `_core.Progress`, `_core.simulate`: pools in simulated time.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;
use warmroute_replay::report::Details;
use warmroute_replay::simulation::{self, Settings, SimulationError};
use warmroute_replay::trace::{generate, mooncake};

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A trace; immutable, shared by simulations.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Trace {
    inner: Arc<warmroute_replay::Trace>,
    /// What a recording tells beside its requests.
    #[pyo3(get)]
    headers: Vec<String>,
    #[pyo3(get)]
    dropped: u32,
    #[pyo3(get)]
    unknown_outputs: u32,
}

#[pymethods]
impl Trace {
    #[staticmethod]
    fn read(py: Python<'_>, text: &str, name: &str) -> PyResult<Self> {
        let reading = py
            .detach(|| mooncake::read(text, name))
            .map_err(|error| value_error(format!("{name}: {error}")))?;
        Ok(Self {
            inner: Arc::new(reading.trace),
            headers: reading.headers,
            dropped: reading.dropped,
            unknown_outputs: reading.unknown_outputs,
        })
    }

    #[staticmethod]
    fn generate(py: Python<'_>, settings: &str, seed: u64) -> PyResult<Self> {
        let trace = py
            .detach(|| generate::generate(settings, seed))
            .map_err(value_error)?;
        Ok(Self {
            inner: Arc::new(trace),
            headers: Vec::new(),
            dropped: 0,
            unknown_outputs: 0,
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    #[getter]
    fn requests(&self) -> usize {
        self.inner.requests.len()
    }

    #[getter]
    fn seconds(&self) -> f64 {
        self.inner.seconds()
    }

    #[getter]
    fn session_seconds(&self) -> f64 {
        self.inner.session_seconds()
    }

    #[getter]
    fn prompt_tokens(&self) -> u64 {
        self.inner.prompt_tokens()
    }

    #[getter]
    fn unit_tokens(&self) -> u32 {
        self.inner.unit_tokens
    }

    fn write(&self, py: Python<'_>) -> String {
        py.detach(|| mooncake::write(&self.inner))
    }

    fn __repr__(&self) -> String {
        let trace = &self.inner;
        format!("Trace({:?}, {} requests)", trace.name, trace.requests.len())
    }
}

/// How far a simulation is.
#[pyclass(frozen, module = "warmroute._core")]
#[derive(Default)]
pub(crate) struct Progress {
    inner: Arc<simulation::Progress>,
}

#[pymethods]
impl Progress {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[getter]
    fn done(&self) -> u64 {
        self.inner.done()
    }

    fn cancel(&self) {
        self.inner.cancel();
    }
}

/// Plays a trace against a pool in simulated time.
#[pyfunction]
#[pyo3(signature = (trace, settings, policy, progress=None))]
pub(crate) fn simulate<'py>(
    py: Python<'py>,
    trace: &Trace,
    settings: &str,
    policy: &str,
    progress: Option<&Progress>,
) -> PyResult<Bound<'py, PyDict>> {
    let progress = progress.map_or_else(Arc::default, |progress| Arc::clone(&progress.inner));
    let result = py.detach(|| {
        let settings = Settings::from_json(settings)?;
        let policy = simulation::read_policy(policy)?;
        simulation::simulate(&trace.inner, &settings, &policy, &progress)
    });
    let mut report = result.map_err(|error| match error {
        SimulationError::Cancelled => PyRuntimeError::new_err(error.to_string()),
        _ => value_error(error),
    })?;
    let details = report.details.take();
    let row = PyDict::new(py);
    if let Value::Object(fields) = serde_json::to_value(&report).map_err(value_error)? {
        for (name, value) in fields {
            row.set_item(name, plain(py, &value)?)?;
        }
    }
    let details = details.map(|details| columns(py, details)).transpose()?;
    row.set_item("details", details)?;
    Ok(row)
}

fn columns(py: Python<'_>, details: Details) -> PyResult<Bound<'_, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("arrival", details.arrival)?;
    columns.set_item("ttft", details.ttft)?;
    columns.set_item("finish", details.finish)?;
    columns.set_item("replica", details.replica)?;
    columns.set_item("cached", details.cached)?;
    Ok(columns)
}

/// JSON as Python has it.
fn plain<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match number.as_u64() {
            Some(number) => number.into_pyobject(py)?.into_any(),
            None => number.as_f64().into_pyobject(py)?.into_any(),
        },
        Value::String(value) => value.into_pyobject(py)?.into_any(),
        Value::Array(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(plain(py, value)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let row = PyDict::new(py);
            for (name, value) in fields {
                row.set_item(name, plain(py, value)?)?;
            }
            row.into_any()
        }
    })
}
