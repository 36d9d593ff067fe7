//! Any bytes, read as a metrics page of every built-in engine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warmroute_core::pool::{EngineSpec, MetricsPage};

fuzz_target!(|bytes: &[u8]| {
    for spec in EngineSpec::built_in() {
        if let Ok(metrics) = MetricsPage::scan(bytes, spec) {
            assert!(
                metrics
                    .kv_usage
                    .is_none_or(|usage| (0.0..=1.0).contains(&usage))
            );
            assert!(metrics.waiting.is_none_or(|waiting| waiting >= 0.0));
        }
        let _ = MetricsPage::is_filtered(bytes, spec);
    }
});
