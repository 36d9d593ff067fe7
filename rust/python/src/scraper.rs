//! `_core.Scraper`.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde::Deserialize;
use warmroute_core::pool::{EngineDefinition, EngineSpec};
use warmroute_scrape::ScrapeSettings;

use crate::engine::Engine;

/// The JSON form of the settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    interval_seconds: f64,
    timeout_seconds: f64,
    path: String,
    scheme: String,
    engines: Vec<EngineDefinition>,
    engine_label_key: String,
    default_engine: String,
    filter: bool,
    idle_backoff_seconds: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let defaults = ScrapeSettings::default();
        Self {
            interval_seconds: defaults.interval.as_secs_f64(),
            timeout_seconds: defaults.timeout.as_secs_f64(),
            path: defaults.path,
            scheme: "http".to_owned(),
            engines: Vec::new(),
            engine_label_key: defaults.engine_label_key,
            default_engine: defaults.default_engine,
            filter: defaults.filter,
            idle_backoff_seconds: defaults.idle_backoff.as_secs_f64(),
        }
    }
}

impl Settings {
    fn read(text: &str) -> Result<ScrapeSettings, String> {
        let settings: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if settings.scheme != "http" {
            return Err(format!(
                "scheme {:?}: only http is scraped",
                settings.scheme
            ));
        }
        let seconds = |field: &str, value: f64| {
            Duration::try_from_secs_f64(value).map_err(|error| format!("{field}: {error}"))
        };
        let engines = settings.engines.iter().map(EngineSpec::new);
        Ok(ScrapeSettings {
            interval: seconds("interval_seconds", settings.interval_seconds)?,
            timeout: seconds("timeout_seconds", settings.timeout_seconds)?,
            path: settings.path,
            engines: engines
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            engine_label_key: settings.engine_label_key,
            default_engine: settings.default_engine,
            filter: settings.filter,
            idle_backoff: seconds("idle_backoff_seconds", settings.idle_backoff_seconds)?,
            clock: warmroute_extproc::now,
        })
    }
}

/// Polls the metrics page of every endpoint.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct Scraper {
    inner: Mutex<warmroute_scrape::Scraper>,
}

#[pymethods]
impl Scraper {
    #[new]
    fn new(engine: &Engine, settings: &str) -> PyResult<Self> {
        let settings = Settings::read(settings)
            .map_err(|error| PyValueError::new_err(format!("scraper settings: {error}")))?;
        let scraper = warmroute_scrape::Scraper::start(engine.inner.pool().clone(), settings, 1)
            .map_err(|error| PyValueError::new_err(format!("scraper settings: {error}")))?;
        Ok(Self {
            inner: Mutex::new(scraper),
        })
    }

    fn states<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for state in self.inner.lock().states() {
            let row = PyDict::new(py);
            row.set_item("address", state.address)?;
            row.set_item("ok", state.ok)?;
            row.set_item("error", state.error)?;
            row.set_item("filtered", state.filtered)?;
            row.set_item("note", state.note)?;
            row.set_item("bytes", state.bytes)?;
            row.set_item("interval_seconds", state.interval.as_secs_f64())?;
            row.set_item("scrapes", state.scrapes)?;
            row.set_item("failures", state.failures)?;
            rows.append(row)?;
        }
        Ok(rows)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.lock().stop());
    }
}
