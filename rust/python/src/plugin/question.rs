//! What a plugin is asked: numbers of the candidates, the pool they are of, and the request.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use warmroute_core::pool::{Endpoint, Snapshot};
use warmroute_core::schedule::{Context, RequestFacts};

/// A question as the deciding thread leaves it: nothing of it is borrowed, since the decision may go on without the answer.
pub(super) struct Question {
    pub(super) snapshot: Arc<Snapshot>,
    rows: usize,
    /// Position in the snapshot of each row; `None`: all of them, in order.
    positions: Option<Vec<u32>>,
    /// One column after the other, f64 in native order; see `COLUMNS` in `python/warmroute/plugins/endpoints.py`.
    columns: Vec<u8>,
    request: RequestFacts,
    total_blocks: u32,
    block_tokens: u32,
}

const COLUMN_COUNT: usize = 11;

impl Question {
    pub(super) fn new(snapshot: &Arc<Snapshot>, context: &Context<'_>) -> Self {
        let candidates = context.candidates;
        let rows = candidates.len();
        let mut columns = Vec::with_capacity(rows * COLUMN_COUNT * size_of::<f64>());
        for column in [
            &candidates.waiting,
            &candidates.running,
            &candidates.kv_usage,
            &candidates.inflight_requests,
            &candidates.inflight_tokens,
            &candidates.prefill_tokens,
        ] {
            append(&mut columns, column.iter().copied());
        }
        let prefix = context.prefix(None);
        append(
            &mut columns,
            (0..rows).map(|row| f64::from(prefix.blocks(row))),
        );
        let prompt_tokens = f64::from(context.request.prompt_tokens);
        append(
            &mut columns,
            (0..rows).map(|row| (prefix.cached_tokens(row) as f64).min(prompt_tokens)),
        );
        append(
            &mut columns,
            (0..rows).map(|row| context.uncached_tokens(row)),
        );
        append(
            &mut columns,
            (0..rows).map(|row| candidates.media_matched.get(row).copied().unwrap_or(0.0)),
        );
        append(
            &mut columns,
            (0..rows).map(|row| {
                let endpoint = context.endpoint(row);
                let refreshed = endpoint.and_then(|endpoint| endpoint.refreshed());
                refreshed.map_or(f64::NAN, |at| (context.now - at).as_secs_f64())
            }),
        );
        // Positions ascend and are distinct, so as many as there are endpoints are all of them.
        let positions = (rows < snapshot.len()).then(|| candidates.position.clone());
        Self {
            snapshot: Arc::clone(snapshot),
            rows,
            positions,
            columns,
            request: context.request.clone(),
            total_blocks: prefix.total_blocks,
            block_tokens: prefix.block_tokens,
        }
    }

    fn endpoint(&self, row: usize) -> Option<&Arc<Endpoint>> {
        let position = match &self.positions {
            Some(positions) => *positions.get(row)? as usize,
            None => row,
        };
        self.snapshot.endpoints.get(position)
    }
}

fn append(columns: &mut Vec<u8>, values: impl Iterator<Item = f64>) {
    columns.extend(values.flat_map(f64::to_ne_bytes));
}

/// The pool's endpoints at one moment; the same object for as long as the set does not change.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct PluginPool {
    pub(super) snapshot: Arc<Snapshot>,
}

#[pymethods]
impl PluginPool {
    fn __len__(&self) -> usize {
        self.snapshot.len()
    }

    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let endpoints = self.snapshot.endpoints.iter();
        PyTuple::new(py, endpoints.map(|endpoint| &*endpoint.identity.name))
    }

    fn namespaces<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let endpoints = self.snapshot.endpoints.iter();
        PyTuple::new(py, endpoints.map(|endpoint| &*endpoint.identity.namespace))
    }

    fn addresses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let endpoints = self.snapshot.endpoints.iter();
        PyTuple::new(py, endpoints.map(|endpoint| &*endpoint.authority))
    }

    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let mut all = Vec::with_capacity(self.snapshot.len());
        for endpoint in &self.snapshot.endpoints {
            let labels = PyDict::new(py);
            for (key, value) in &endpoint.identity.labels {
                labels.set_item(&**key, &**value)?;
            }
            all.push(labels);
        }
        PyTuple::new(py, all)
    }
}

/// One question, in the plugin's thread.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct PluginQuestion {
    pub(super) question: Question,
    pub(super) pool: Py<PluginPool>,
}

#[pymethods]
impl PluginQuestion {
    #[getter]
    fn pool(&self, py: Python<'_>) -> Py<PluginPool> {
        self.pool.clone_ref(py)
    }

    #[getter]
    fn rows(&self) -> usize {
        self.question.rows
    }

    fn columns<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.question.columns)
    }

    fn positions<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let positions = self.question.positions.as_ref()?;
        let bytes: Vec<u8> = positions
            .iter()
            .flat_map(|position| position.to_ne_bytes())
            .collect();
        Some(PyBytes::new(py, &bytes))
    }

    #[pyo3(name = "attribute")]
    fn endpoint_attribute<'py>(
        &self,
        py: Python<'py>,
        producer: &str,
        key: &str,
    ) -> Bound<'py, PyBytes> {
        let mut column = Vec::with_capacity(self.question.rows * size_of::<f64>());
        append(
            &mut column,
            (0..self.question.rows).map(|row| {
                let endpoint = self.question.endpoint(row);
                let attribute = endpoint.and_then(|endpoint| endpoint.attribute(producer, key));
                attribute.unwrap_or(f64::NAN)
            }),
        );
        PyBytes::new(py, &column)
    }

    #[getter]
    fn model(&self) -> &str {
        &self.question.request.target_model
    }

    #[getter]
    fn prompt_tokens(&self) -> u32 {
        self.question.request.prompt_tokens
    }

    #[getter]
    fn total_blocks(&self) -> u32 {
        self.question.total_blocks
    }

    #[getter]
    fn block_tokens(&self) -> u32 {
        self.question.block_tokens
    }

    #[getter]
    fn max_tokens(&self) -> Option<u32> {
        self.question.request.max_tokens
    }

    #[getter]
    fn priority(&self) -> i32 {
        self.question.request.priority
    }

    #[getter]
    fn fairness_id(&self) -> &str {
        &self.question.request.fairness_id
    }

    #[getter]
    fn request_id(&self) -> String {
        String::from_utf8_lossy(&self.question.request.request_id).into_owned()
    }

    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        // The first of several wins, as in `RequestFacts::header`.
        for header in self.question.request.headers.iter().rev() {
            headers.set_item(
                String::from_utf8_lossy(&header.key),
                String::from_utf8_lossy(&header.value),
            )?;
        }
        Ok(headers)
    }

    fn request_attribute(&self, key: &str) -> Option<&str> {
        self.question.request.attributes.get(key, None)
    }
}
