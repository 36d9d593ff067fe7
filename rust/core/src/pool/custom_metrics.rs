//! `customMetrics` of an engine: series that become attributes of the endpoint.

use std::sync::Arc;

use serde::Deserialize;

use super::series_spec::SeriesSpec;

/// Most custom metrics of one engine.
pub const CUSTOM_METRIC_LIMIT: usize = 64;

/// A series and the attribute that it becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomMetric {
    /// Key of the attribute; scorers and filters name it.
    pub attribute_key: String,
    /// `name` or `name{label=value,…}`, a gauge or a counter.
    pub metric_spec: String,
}

/// Field, what it holds, and what is wrong with it.
type Fault<'a> = (&'static str, &'a str, &'static str);

/// Keys and series, sorted by key.
pub(super) fn prepare(metrics: &[CustomMetric]) -> Result<Vec<(Arc<str>, SeriesSpec)>, Fault<'_>> {
    const KEY: &str = "customMetrics[].attributeKey";
    const SPEC: &str = "customMetrics[].metricSpec";
    if metrics.len() > CUSTOM_METRIC_LIMIT {
        return Err(("customMetrics", "", "an engine can have 64 at most"));
    }
    let mut prepared: Vec<(Arc<str>, SeriesSpec)> = Vec::with_capacity(metrics.len());
    for metric in metrics {
        let (key, spec) = (metric.attribute_key.as_str(), metric.metric_spec.as_str());
        if key.is_empty() {
            return Err((KEY, key, "a custom metric needs a key"));
        }
        if prepared.iter().any(|(known, _)| known.as_ref() == key) {
            return Err((KEY, key, "the key is given twice"));
        }
        let series = SeriesSpec::parse(spec).map_err(|reason| (SPEC, spec, reason))?;
        prepared.push((key.into(), series));
    }
    prepared.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(key: &str, spec: &str) -> CustomMetric {
        CustomMetric {
            attribute_key: key.into(),
            metric_spec: spec.into(),
        }
    }

    #[test]
    fn metrics_are_sorted_by_key() {
        let metrics = [metric("b", "x{q=1}"), metric("a", "y")];
        let prepared = prepare(&metrics).expect("good metrics");
        let keys: Vec<&str> = prepared.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn bad_metrics_name_the_field() {
        let many: Vec<CustomMetric> = (0..65).map(|n| metric(&n.to_string(), "x")).collect();
        for (metrics, field, reason) in [
            (
                &[metric("", "x")][..],
                "customMetrics[].attributeKey",
                "needs a key",
            ),
            (
                &[metric("a", "x"), metric("a", "y")],
                "customMetrics[].attributeKey",
                "twice",
            ),
            (
                &[metric("a", "")],
                "customMetrics[].metricSpec",
                "not a metric name",
            ),
            (
                &[metric("a", "x{")],
                "customMetrics[].metricSpec",
                "closing brace",
            ),
            (&many, "customMetrics", "64 at most"),
        ] {
            let (named, _, found) = prepare(metrics).expect_err("a bad metric");
            assert!(named == field && found.contains(reason), "{named}: {found}");
        }
    }
}
