//! `_core.Engine`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use warmroute_core::engine::{PolicySpec, Settings};
use warmroute_core::pool::EndpointIdentity;

use crate::convert;
use crate::kv_events::KvEvents;
use crate::plugin::{PythonPlugin, externals};

pub(crate) fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(crate) fn read_policy(json: Option<&str>) -> PyResult<PolicySpec> {
    json.map_or_else(
        || Ok(PolicySpec::default_policy()),
        |json| serde_json::from_str(json).map_err(|error| value_error(format!("policy: {error}"))),
    )
}

/// What decides, shared by every stream of a picker.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Engine {
    pub(crate) inner: Arc<warmroute_core::Engine>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (settings, policy=None, plugins=None))]
    fn new(
        settings: &str,
        policy: Option<&str>,
        plugins: Option<HashMap<String, Py<PythonPlugin>>>,
    ) -> PyResult<Self> {
        let settings = Settings::from_json(settings).map_err(value_error)?;
        let engine = warmroute_core::Engine::new(
            settings,
            &read_policy(policy)?,
            &externals(plugins),
            warmroute_extproc::now,
        )
        .map_err(value_error)?;
        Ok(Self {
            inner: Arc::new(engine),
        })
    }

    #[pyo3(signature = (policy, plugins=None))]
    fn reload(
        &self,
        py: Python<'_>,
        policy: &str,
        plugins: Option<HashMap<String, Py<PythonPlugin>>>,
    ) -> PyResult<()> {
        let policy = read_policy(Some(policy))?;
        let externals = externals(plugins);
        // It may compact the prefix index: streams of a host in Python go on meanwhile.
        py.detach(|| self.inner.reload(&policy, &externals))
            .map_err(value_error)
    }

    fn plugin_failures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for failure in self.inner.stats().plugin_failures() {
            let row = PyDict::new(py);
            row.set_item("plugin_type", &*failure.plugin_type)?;
            row.set_item("plugin_name", &*failure.plugin_name)?;
            row.set_item("reason", &*failure.reason)?;
            row.set_item("count", failure.count)?;
            row.set_item("last", failure.last)?;
            rows.append(row)?;
        }
        Ok(rows)
    }

    fn token_outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for outcome in self.inner.stats().tokenize().outcomes() {
            let row = PyDict::new(py);
            row.set_item("outcome", outcome.outcome)?;
            row.set_item("count", outcome.count)?;
            row.set_item("last", &*outcome.last)?;
            rows.append(row)?;
        }
        Ok(rows)
    }

    #[pyo3(signature = (namespace, name, address, port, labels, metrics_host=None))]
    fn upsert_endpoint(
        &self,
        namespace: &str,
        name: &str,
        address: &str,
        port: u16,
        labels: BTreeMap<String, String>,
        metrics_host: Option<&str>,
    ) -> PyResult<()> {
        let address: IpAddr = address.parse().map_err(|_| {
            PyValueError::new_err(format!(
                "endpoint {namespace}/{name}: address {address:?} is not an IP address; resolve host names first"
            ))
        })?;
        let identity = EndpointIdentity {
            namespace: namespace.into(),
            name: name.into(),
            address,
            port,
            metrics_host: metrics_host.map(Into::into),
            labels: labels
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        };
        self.inner
            .upsert_endpoint(identity)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    fn remove_endpoint(&self, namespace: &str, name: &str) -> bool {
        self.inner.remove_endpoint(namespace, name)
    }

    fn endpoints<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let now = warmroute_extproc::now();
        let snapshot = self.inner.pool().snapshot();
        let rows = PyList::empty(py);
        for endpoint in &snapshot.endpoints {
            let row = convert::endpoint(py, endpoint, now)?;
            row.set_item("indexed_blocks", self.inner.indexed_blocks(endpoint.slot))?;
            rows.append(row)?;
        }
        Ok(rows)
    }

    #[pyo3(signature = (namespace, name, page, engine="vllm"))]
    fn feed_metrics(&self, namespace: &str, name: &str, page: &[u8], engine: &str) -> PyResult<()> {
        let endpoint = self.inner.pool().find(namespace, name).ok_or_else(|| {
            PyValueError::new_err(format!("endpoint {namespace}/{name} is not in the pool"))
        })?;
        endpoint.refresh(
            crate::scan::scan_page(page, engine)?,
            warmroute_extproc::now(),
        );
        Ok(())
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        convert::families(py, self.inner.stats().export())
    }

    #[pyo3(signature = (limit=20))]
    fn decisions<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        let now = warmroute_extproc::now();
        let rows = PyList::empty(py);
        let loads = py.import("json")?.getattr("loads")?;
        for decision in self.inner.decisions(limit) {
            let json = serde_json::to_string(&decision)
                .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            let row = loads.call1((json,))?;
            row.set_item("time_ms", (now - decision.at).as_secs_f64() * 1e3)?;
            rows.append(row)?;
        }
        Ok(rows.into_any())
    }

    fn take_refusals<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, u64)> {
        let (refusals, dropped) = self.inner.take_refusals();
        let now = warmroute_extproc::now();
        let rows = PyList::empty(py);
        for refusal in refusals {
            let row = PyDict::new(py);
            row.set_item("age_ms", (now - refusal.at).as_secs_f64() * 1e3)?;
            row.set_item("request_id", refusal.request_id)?;
            row.set_item("status", refusal.status)?;
            row.set_item("code", refusal.code)?;
            row.set_item("dropped_reason", refusal.dropped_reason)?;
            row.set_item("message", refusal.message)?;
            rows.append(row)?;
        }
        Ok((rows, dropped))
    }

    fn recording_header(&self, policy: &str, unix_seconds: f64) -> Option<String> {
        self.inner.recording_header(policy, unix_seconds)
    }

    fn recording_policy(&self, policy: &str) -> Option<String> {
        self.inner.recording_policy(policy)
    }

    fn take_recorded(&self, py: Python<'_>, limit: usize) -> String {
        // Thousands of lines take milliseconds: streams of a host in Python go on meanwhile.
        py.detach(|| self.inner.take_recorded(limit))
    }

    fn stop_recording(&self) {
        self.inner.stop_recording();
    }

    fn recording_state<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(state) = self.inner.recording_state() else {
            return Ok(None);
        };
        let row = PyDict::new(py);
        row.set_item("taken", state.taken)?;
        row.set_item("lost", state.lost)?;
        row.set_item("queued", state.queued)?;
        Ok(Some(row))
    }

    fn index_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = self.inner.index_usage();
        let row = PyDict::new(py);
        row.set_item("blocks", usage.blocks)?;
        row.set_item("pairs", usage.pairs)?;
        row.set_item("bytes", usage.bytes)?;
        row.set_item("evictions", usage.evictions)?;
        Ok(row)
    }

    fn kv_events(&self) -> KvEvents {
        KvEvents::new(Arc::clone(&self.inner))
    }

    fn maintain(&self, py: Python<'_>) {
        py.detach(|| self.inner.maintain());
    }

    #[pyo3(signature = (*, synced))]
    fn set_synced(&self, synced: bool) {
        self.inner.pool().set_synced(synced);
    }

    fn is_synced(&self) -> bool {
        self.inner.pool().is_synced()
    }
}
