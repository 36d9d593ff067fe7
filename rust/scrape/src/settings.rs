//! What a scraper is told.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use warmroute_core::Nanos;
use warmroute_core::pool::{Endpoint, EngineSpec};

/// The label that named an engine before `llm-d.ai/engine-type`, still read where the configured one is absent.
const LEGACY_ENGINE_LABEL: &str = "inference.networking.k8s.io/engine-type";

/// How pages are fetched and read.
#[derive(Clone, Debug)]
pub struct ScrapeSettings {
    /// Time between two pages of one endpoint while something happens there.
    pub interval: Duration,
    /// How long one page may take, from connecting to its last byte.
    pub timeout: Duration,
    /// Path of the page.
    pub path: String,
    /// Engines that override a built-in one of the same name or add to them.
    pub engines: Vec<EngineSpec>,
    /// Label of an endpoint that names its engine.
    pub engine_label_key: String,
    /// Engine of endpoints without that label.
    pub default_engine: String,
    /// Ask for the wanted families with `name[]`, and fall back to whole pages where the server cannot.
    pub filter: bool,
    /// Longest interval of an endpoint on which nothing happens; not above `interval`: no back-off.
    pub idle_backoff: Duration,
    /// The clock that the engine's other callers use too.
    pub clock: fn() -> Nanos,
}

/// Nanoseconds since its first use; fit where nothing else feeds the engine.
fn process_clock() -> Nanos {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    Nanos((EPOCH.elapsed().as_nanos() as u64).max(1))
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            path: "/metrics".to_owned(),
            engines: Vec::new(),
            engine_label_key: "llm-d.ai/engine-type".to_owned(),
            default_engine: "vllm".to_owned(),
            filter: true,
            idle_backoff: Duration::from_secs(1),
            clock: process_clock,
        }
    }
}

impl ScrapeSettings {
    /// A known engine by name, configured ones first.
    pub(crate) fn engine(&self, name: &str) -> Option<&EngineSpec> {
        self.engines
            .iter()
            .find(|engine| engine.name() == name)
            .or_else(|| EngineSpec::named(name))
    }

    /// The engine of an endpoint, and a note when its label names one that is not known (it is then read as the default engine).
    pub(crate) fn engine_of(&self, endpoint: &Endpoint) -> (Option<&EngineSpec>, String) {
        let labels = &endpoint.identity.labels;
        let label = labels
            .get(self.engine_label_key.as_str())
            .or_else(|| labels.get(LEGACY_ENGINE_LABEL));
        let fallback = || self.engine(&self.default_engine);
        match label {
            None => (fallback(), String::new()),
            Some(name) => match self.engine(name) {
                Some(engine) => (Some(engine), String::new()),
                None => (
                    fallback(),
                    format!(
                        "engine {name:?} is not known; the page is read as {:?}",
                        self.default_engine
                    ),
                ),
            },
        }
    }

    /// `path` with the query that asks for an engine's families. vLLM heeds it only with a slash before the question mark.
    pub(crate) fn filtered_path(&self, engine: &EngineSpec) -> String {
        let mut path = format!("{}/", self.path.trim_end_matches('/'));
        for (index, family) in engine.families().iter().enumerate() {
            path.push_str(if index == 0 { "?" } else { "&" });
            path.push_str("name%5B%5D=");
            path.push_str(family);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_asks_for_families_behind_a_slash() {
        let settings = ScrapeSettings::default();
        let engine = EngineSpec::named("triton-tensorrt-llm").expect("built in");
        let expected = "/metrics/?name%5B%5D=nv_trt_llm_request_metrics&name%5B%5D=nv_trt_llm_kv_cache_block_metrics";
        assert_eq!(settings.filtered_path(engine), expected);
    }
}
