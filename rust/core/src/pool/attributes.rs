//! Numbers that extractors publish of an endpoint, by the name of the extractor and a key.
//!
//! Keys as the reference's: `customMetrics[].attributeKey` of `core-metrics-extractor`, `GPUUtilization` of `dcgm-extractor`.

use std::sync::Arc;

use super::endpoint::EngineMetrics;

/// The producer whose built-in keys can be read before it has published anything.
pub const CORE_METRICS_EXTRACTOR: &str = "core-metrics-extractor";

/// Key and value.
pub type Attribute = (Arc<str>, f64);

/// What one producer published last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AttributeSet {
    producer: Box<str>,
    /// Its built-in keys stand in `EngineMetrics` and are read there.
    engine: bool,
    /// Sorted by key.
    values: Box<[Attribute]>,
}

impl AttributeSet {
    fn get(&self, key: &str) -> Option<f64> {
        let at = self
            .values
            .binary_search_by(|(known, _)| known.as_ref().cmp(key));
        at.ok().map(|at| self.values[at].1)
    }
}

/// All sets of an endpoint: as many as there are extractors that publish, so a handful.
pub(super) type AttributeTable = Vec<AttributeSet>;

/// How a built-in key stands in the metrics.
pub(super) type Read = fn(&EngineMetrics) -> Option<f64>;

/// The value under `key` of `producer`; `read` applies a reader to the endpoint's metrics.
pub(super) fn find(
    table: &AttributeTable,
    producer: &str,
    key: &str,
    read: impl FnOnce(Read) -> Option<f64>,
) -> Option<f64> {
    let set = table.iter().find(|set| set.producer.as_ref() == producer);
    if let Some(value) = set.and_then(|set| set.get(key)) {
        return Some(value);
    }
    let engine = set.map_or(producer == CORE_METRICS_EXTRACTOR, |set| set.engine);
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == key)?;
    if engine { read(built_in.1) } else { None }
}

/// Whether `replaced` would change nothing.
pub(super) fn holds(
    table: &AttributeTable,
    producer: &str,
    engine: bool,
    values: &[Attribute],
) -> bool {
    match table.iter().find(|set| set.producer.as_ref() == producer) {
        Some(set) => set.engine == engine && set.values.as_ref() == values,
        None => values.is_empty() && engine == (producer == CORE_METRICS_EXTRACTOR),
    }
}

/// The table with the set of `producer` replaced.
pub(super) fn replaced(
    table: &AttributeTable,
    producer: &str,
    engine: bool,
    values: &[Attribute],
) -> AttributeTable {
    let mut values: Box<[Attribute]> = values.into();
    values.sort_by(|left, right| left.0.cmp(&right.0));
    let mut table = table.clone();
    table.retain(|set| set.producer.as_ref() != producer);
    table.push(AttributeSet {
        producer: producer.into(),
        engine,
        values,
    });
    table
}

/// Everything published, as (producer, key, value); built-in keys are not among it.
pub(super) fn list(table: &AttributeTable) -> Vec<(Box<str>, Arc<str>, f64)> {
    let rows = table.iter().flat_map(|set| {
        let row = |(key, value): &Attribute| (set.producer.clone(), Arc::clone(key), *value);
        set.values.iter().map(row)
    });
    rows.collect()
}

/// Keys that every extractor of core metrics has, under the reference's names.
const BUILT_IN: [(&str, Read); 6] = [
    ("WaitingQueueSize", |metrics| metrics.waiting),
    ("RunningRequestsSize", |metrics| metrics.running),
    ("KVCacheUsagePercent", |metrics| metrics.kv_usage),
    ("MaxActiveModels", |metrics| {
        metrics.max_adapters.map(f64::from)
    }),
    ("CacheBlockSize", |metrics| {
        metrics.block_size.map(f64::from)
    }),
    ("CacheNumBlocks", |metrics| {
        metrics.num_blocks.map(f64::from)
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(values: &[(&str, f64)]) -> Vec<Attribute> {
        let own = |(key, value): &(&str, f64)| (Arc::from(*key), *value);
        values.iter().map(own).collect()
    }

    #[test]
    fn a_producer_replaces_its_own_set_and_no_other() {
        let get = |table: &AttributeTable, producer, key| find(table, producer, key, |_| None);
        let first = replaced(
            &Vec::new(),
            "a",
            false,
            &attributes(&[("y", 2.0), ("x", 1.0)]),
        );
        let both = replaced(&first, "b", false, &attributes(&[("x", 3.0)]));
        let later = replaced(&both, "a", false, &attributes(&[("y", 5.0)]));
        assert_eq!(
            (get(&both, "a", "x"), get(&both, "b", "x")),
            (Some(1.0), Some(3.0))
        );
        assert_eq!(
            (get(&later, "a", "x"), get(&later, "a", "y")),
            (None, Some(5.0))
        );
        assert_eq!(get(&later, "b", "x"), Some(3.0));
        assert!(holds(&later, "b", false, &attributes(&[("x", 3.0)])));
        assert!(!holds(&later, "b", false, &attributes(&[("x", 4.0)])));
        assert_eq!(list(&later).len(), 2);
    }

    #[test]
    fn built_in_keys_are_read_from_the_metrics_of_core_extractors_only() {
        let metrics = EngineMetrics {
            waiting: Some(3.0),
            block_size: Some(16),
            ..EngineMetrics::default()
        };
        let metrics = |read: Read| read(&metrics);
        let table = replaced(&Vec::new(), "mine", true, &attributes(&[("x", 1.0)]));
        for producer in ["mine", CORE_METRICS_EXTRACTOR] {
            let get = |key| find(&table, producer, key, metrics);
            assert_eq!(get("WaitingQueueSize"), Some(3.0));
            assert_eq!(get("CacheBlockSize"), Some(16.0));
            assert_eq!((get("KVCacheUsagePercent"), get("unknown")), (None, None));
        }
        assert_eq!(find(&table, "other", "WaitingQueueSize", metrics), None);
    }

    #[test]
    fn a_configured_metric_under_a_built_in_key_wins() {
        let table = replaced(
            &Vec::new(),
            CORE_METRICS_EXTRACTOR,
            true,
            &attributes(&[("WaitingQueueSize", 9.0)]),
        );
        let found = find(&table, CORE_METRICS_EXTRACTOR, "WaitingQueueSize", |_| None);
        assert_eq!(found, Some(9.0));
    }
}
