//! The pyo3 module `warmroute._core`: conversions only, no decisions. `python/warmroute/_core.pyi` documents each item.

mod convert;
mod ending;
mod engine;
mod exchange;
mod kv_events;
mod plugin;
mod plugins;
mod recording;
mod replay;
mod scan;
mod scraper;
mod scraper_settings;
mod server;
mod tokenizer;

use pyo3::prelude::*;

/// Requests allocate and free buffers of a body's size on several threads; the system's allocator gives such memory back to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The engine of warmroute.
#[pymodule(gil_used = false)]
#[pyo3(name = "_core")]
mod core_module {
    #[pymodule_export]
    use super::ending::end_after_signals;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::exchange::{EchoExchange, Exchange, TokenWork};
    #[pymodule_export]
    use super::kv_events::KvEvents;
    #[pymodule_export]
    use super::plugin::{PluginPool, PluginQuestion, PluginWork, PythonPlugin};
    #[pymodule_export]
    use super::plugins::{check_plugin, plugin_kinds};
    #[pymodule_export]
    use super::recording::Rerun;
    #[pymodule_export]
    use super::replay::{Progress, Trace, simulate};
    #[pymodule_export]
    use super::scan::{scan_body, scan_metrics_page};
    #[pymodule_export]
    use super::scraper::Scraper;
    #[pymodule_export]
    use super::server::NativeServer;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
