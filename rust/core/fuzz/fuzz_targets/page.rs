//! Any bytes, read as a metrics page of every built-in engine, as a page of the DCGM exporter and as a list of models.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warmroute_core::pool::{EngineSpec, MODEL_LIMIT, MetricsPage, gpu_utilization, model_ids};

fuzz_target!(|bytes: &[u8]| {
    for spec in EngineSpec::built_in() {
        if let Ok(reading) = MetricsPage::read(bytes, spec) {
            let metrics = reading.metrics;
            assert!(
                metrics
                    .kv_usage
                    .is_none_or(|usage| (0.0..=1.0).contains(&usage))
            );
            assert!(metrics.waiting.is_none_or(|waiting| waiting >= 0.0));
            assert!(metrics.waiting.is_none() || !reading.found.is_empty());
            spec.describe(reading.missing);
        }
        let _ = MetricsPage::is_filtered(bytes, spec);
    }
    if let Ok(busy) = gpu_utilization(bytes, "pod") {
        assert!((0.0..=1.0).contains(&busy));
    }
    if let Ok(ids) = model_ids(bytes) {
        assert!(ids.len() <= MODEL_LIMIT);
    }
});
