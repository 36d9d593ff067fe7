//! `_core.Rerun`: recorded decisions asked again.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use warmroute_core::engine::{self, Again, RerunError, Took};

use crate::engine::{read_policy, value_error};

/// Asks one policy about the decisions of one recording.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Rerun {
    inner: Mutex<engine::Rerun>,
}

#[pymethods]
impl Rerun {
    #[new]
    #[pyo3(signature = (policy, seed=0))]
    fn new(policy: &str, seed: u64) -> PyResult<Self> {
        let rerun = engine::Rerun::new(&read_policy(Some(policy))?, seed).map_err(value_error)?;
        Ok(Self {
            inner: Mutex::new(rerun),
        })
    }

    fn feed<'py>(&self, py: Python<'py>, lines: &[u8]) -> PyResult<Bound<'py, PyDict>> {
        let answers = py.detach(|| self.ask(lines)).map_err(value_error)?;
        let columns = PyDict::new(py);
        let of = |value: fn(&Again) -> f64| answers.iter().map(value).collect::<Vec<_>>();
        columns.set_item("timestamp", of(|again| again.timestamp))?;
        let tied = answers.iter().map(|again| again.tied);
        columns.set_item("tied", tied.collect::<Vec<_>>())?;
        let recorded: Vec<_> = answers.iter().map(|again| Some(again.recorded)).collect();
        columns.set_item("recorded", side(py, &recorded)?)?;
        let chosen: Vec<_> = answers.iter().map(|again| again.chosen).collect();
        columns.set_item("chosen", side(py, &chosen)?)?;
        Ok(columns)
    }
}

impl Rerun {
    fn ask(&self, lines: &[u8]) -> Result<Vec<Again>, RerunError> {
        let mut rerun = self.inner.lock();
        let mut answers = Vec::new();
        // A chunk that ends with a line break has no empty line after it.
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        for line in lines.split(|byte| *byte == b'\n') {
            answers.extend(rerun.line(line)?);
        }
        Ok(answers)
    }
}

/// A field of an endpoint that was chosen.
type Number = (&'static str, fn(Took) -> f64);

/// A column for each field; None where there is no endpoint.
fn side<'py>(py: Python<'py>, took: &[Option<Took>]) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    let endpoints = took.iter().map(|took| took.map(|took| took.endpoint));
    columns.set_item("endpoint", endpoints.collect::<Vec<_>>())?;
    let numbers: [Number; 3] = [
        ("uncached_tokens", |took| took.uncached_tokens),
        ("queued_tokens", |took| took.queued_tokens),
        ("inflight", |took| took.inflight),
    ];
    for (name, value) in numbers {
        let column = took.iter().map(|took| took.map(value));
        columns.set_item(name, column.collect::<Vec<_>>())?;
    }
    Ok(columns)
}
