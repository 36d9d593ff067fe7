//! Engine values as Python values.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use warmroute_core::Nanos;
use warmroute_core::pool::{Endpoint, EngineMetrics};
use warmroute_core::stats::{Family, SampleValue};

/// The row of `Engine.endpoints()`.
pub(crate) fn endpoint<'py>(
    py: Python<'py>,
    endpoint: &Endpoint,
    now: Nanos,
) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    let identity = &endpoint.identity;
    row.set_item("namespace", &*identity.namespace)?;
    row.set_item("name", &*identity.name)?;
    row.set_item("address", &*endpoint.authority)?;
    let labels = PyDict::new(py);
    for (key, value) in &identity.labels {
        labels.set_item(&**key, &**value)?;
    }
    row.set_item("labels", labels)?;
    metrics(&row, &endpoint.metrics.load())?;
    let attributes = PyDict::new(py);
    for (producer, key, value) in endpoint.attributes() {
        attributes.set_item(format!("{producer}/{key}"), value)?;
    }
    row.set_item("attributes", attributes)?;
    row.set_item("models", names(&endpoint.models()))?;
    row.set_item("inflight_requests", endpoint.inflight_requests())?;
    row.set_item("inflight_tokens", endpoint.inflight_tokens())?;
    row.set_item("prefill_tokens", endpoint.prefill_tokens())?;
    let picks = endpoint.picks();
    row.set_item("picks", picks.requests)?;
    row.set_item("matched_tokens", picks.matched_tokens)?;
    row.set_item("prompt_tokens", picks.prompt_tokens)?;
    row.set_item("cache_drift", endpoint.cache_drift())?;
    row.set_item(
        "metrics_age",
        endpoint.refreshed().map(|at| (now - at).as_secs_f64()),
    )?;
    Ok(row)
}

/// The engine's own numbers, into `row`.
pub(crate) fn metrics(row: &Bound<'_, PyDict>, metrics: &EngineMetrics) -> PyResult<()> {
    row.set_item("waiting", metrics.waiting)?;
    row.set_item("running", metrics.running)?;
    row.set_item("kv_usage", metrics.kv_usage)?;
    row.set_item("block_size", metrics.block_size)?;
    row.set_item("num_blocks", metrics.num_blocks)?;
    row.set_item("running_adapters", names(&metrics.running_adapters))?;
    row.set_item("waiting_adapters", names(&metrics.waiting_adapters))?;
    row.set_item("max_adapters", metrics.max_adapters)?;
    row.set_item("first_tokens", metrics.first_tokens)?;
    row.set_item("first_token_seconds", metrics.first_token_seconds)?;
    row.set_item("token_gaps", metrics.token_gaps)?;
    row.set_item("token_gap_seconds", metrics.token_gap_seconds)?;
    row.set_item("output_tokens", metrics.output_tokens)?;
    row.set_item("finished_requests", metrics.finished_requests)?;
    row.set_item("queried_tokens", metrics.queried_tokens)?;
    row.set_item("cached_tokens", metrics.cached_tokens)
}

fn names(names: &[Box<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

/// The rows of `Engine.stats()`.
pub(crate) fn families(py: Python<'_>, families: Vec<Family>) -> PyResult<Bound<'_, PyList>> {
    let rows = PyList::empty(py);
    for family in families {
        let row = PyDict::new(py);
        row.set_item("name", family.name)?;
        row.set_item("kind", family.kind.as_str())?;
        row.set_item("help", family.help)?;
        row.set_item("label_names", family.label_names.to_vec())?;
        row.set_item("buckets", family.buckets.to_vec())?;
        let samples = PyList::empty(py);
        for sample in family.samples {
            let labels: Vec<&str> = sample.labels.iter().map(|value| &**value).collect();
            match sample.value {
                SampleValue::Number(value) => samples.append((labels, value))?,
                SampleValue::Histogram { cumulative, sum } => {
                    samples.append((labels, cumulative, sum))?;
                }
            }
        }
        row.set_item("samples", samples)?;
        rows.append(row)?;
    }
    Ok(rows)
}
