//! `_core.Scraper`.

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use warmroute_scrape::ScrapeState;

use crate::engine::Engine;
use crate::scraper_settings;

/// Polls the sources at every endpoint.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Scraper {
    inner: Mutex<warmroute_scrape::Scraper>,
}

#[pymethods]
impl Scraper {
    #[new]
    fn new(engine: &Engine, settings: &str) -> PyResult<Self> {
        let error = |reason: String| PyValueError::new_err(format!("scraper settings: {reason}"));
        let settings = scraper_settings::read(settings).map_err(error)?;
        let scraper = warmroute_scrape::Scraper::start(engine.inner.pool().clone(), settings, 1)
            .map_err(|reason| error(reason.to_string()))?;
        Ok(Self {
            inner: Mutex::new(scraper),
        })
    }

    fn states<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for state in self.inner.lock().states() {
            rows.append(row(py, state)?)?;
        }
        Ok(rows)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.lock().stop());
    }
}

fn row(py: Python<'_>, state: ScrapeState) -> PyResult<Bound<'_, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("address", state.address)?;
    row.set_item("source", state.source)?;
    row.set_item("source_type", state.source_type)?;
    row.set_item("ok", state.ok)?;
    row.set_item("error", state.error)?;
    row.set_item("filtered", state.filtered)?;
    row.set_item("filter_wanted", state.filter_wanted)?;
    row.set_item("note", state.note)?;
    row.set_item("tls_error", state.tls_error)?;
    row.set_item("bytes", state.bytes)?;
    row.set_item("interval_seconds", state.interval.as_secs_f64())?;
    row.set_item("scrapes", state.scrapes)?;
    row.set_item("failures", state.failures)?;
    let extractors = PyList::empty(py);
    for extractor in state.extractors {
        let entry = PyDict::new(py);
        entry.set_item("name", extractor.name)?;
        entry.set_item("type", extractor.extractor_type)?;
        entry.set_item("error", extractor.error)?;
        entry.set_item("failures", extractor.failures)?;
        extractors.append(entry)?;
    }
    row.set_item("extractors", extractors)?;
    Ok(row)
}
