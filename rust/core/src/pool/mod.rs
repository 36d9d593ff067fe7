//! The endpoints of the pool, what their metrics say, and the load reserved on them.

mod attributes;
mod custom_metrics;
mod drift;
mod endpoint;
mod engine_spec;
mod engines;
mod gpu;
mod ledger;
mod models;
mod numbers;
mod page;
mod prefill;
mod prefill_handle;
mod reservation;
mod series_spec;
mod snapshot;

pub use attributes::{Attribute, CORE_METRICS_EXTRACTOR};
pub use custom_metrics::{CUSTOM_METRIC_LIMIT, CustomMetric};
pub use endpoint::{Endpoint, EndpointIdentity, EngineMetrics, MetricsCell, Picks, SharedEndpoint};
pub use engine_spec::{EngineDefinition, EngineSpec, SeriesSet, SpecError};
pub use gpu::{GPU_UTILIZATION_FAMILY, GPU_UTILIZATION_KEY, GpuPageError, gpu_utilization};
pub use models::{MODEL_LIMIT, MODEL_LIST_BYTES, ModelListError, model_ids};
pub use page::{MetricsPage, PageError, PageReading};
pub use prefill::ScrapeMark;
pub use prefill_handle::PrefillHandle;
pub use reservation::Reservation;
pub use series_spec::SeriesSpec;
pub use snapshot::{Pool, PoolFull, SLOT_LIMIT, SlotChange, Snapshot};
