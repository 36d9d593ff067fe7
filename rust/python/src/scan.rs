//! The engine's scanners by themselves, for tests and tools.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use warmroute_core::body::{self, BodyScanner, Parsers, ScanError, ScanLimits};
use warmroute_core::pool::{EngineMetrics, EngineSpec, MetricsPage};

use crate::convert;

/// What the engine's page says.
#[pyfunction]
#[pyo3(signature = (page, engine="vllm"))]
pub(crate) fn scan_metrics_page<'py>(
    py: Python<'py>,
    page: &[u8],
    engine: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let metrics = scan_page(page, engine)?;
    let row = PyDict::new(py);
    convert::metrics(&row, &metrics)?;
    Ok(row)
}

/// What the scanner finds in a request body.
#[pyfunction]
pub(crate) fn scan_body<'py>(
    py: Python<'py>,
    path: &str,
    body: &[u8],
) -> PyResult<Bound<'py, PyDict>> {
    let (parser, dialect) = Parsers::all()
        .resolve_parser(path)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let mut scanner = BodyScanner::new(dialect, ScanLimits::default());
    let refusal = |error: ScanError| {
        PyValueError::new_err(body::refusal(dialect, error, std::iter::once(body)))
    };
    scanner.feed(body).map_err(refusal)?;
    let found = scanner.finish().map_err(refusal)?;
    let row = PyDict::new(py);
    row.set_item("dialect", parser)?;
    row.set_item("model", found.model.as_deref())?;
    row.set_item("stream", found.stream)?;
    row.set_item("max_tokens", found.max_tokens)?;
    row.set_item("prompt_tokens", found.prompt_tokens)?;
    row.set_item(
        "blocks",
        found.sequences.iter().map(Vec::len).sum::<usize>(),
    )?;
    Ok(row)
}

/// Scans a page with the names of a built-in engine.
pub(crate) fn scan_page(page: &[u8], engine: &str) -> PyResult<EngineMetrics> {
    let spec = EngineSpec::named(engine).ok_or_else(|| {
        PyValueError::new_err(format!("engine {engine:?} is not one of those built in"))
    })?;
    MetricsPage::scan(page, spec).map_err(|error| PyValueError::new_err(error.to_string()))
}
