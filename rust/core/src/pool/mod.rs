//! The endpoints of the pool, what their metrics say, and the load reserved on them.

mod endpoint;
mod engine_spec;
mod engines;
mod page;
mod prefill;
mod reservation;
mod snapshot;

pub use endpoint::{Endpoint, EndpointIdentity, EngineMetrics, MetricsCell, Picks, SharedEndpoint};
pub use engine_spec::{EngineDefinition, EngineSpec, SeriesSpec, SpecError};
pub use page::{MetricsPage, PageError};
pub use prefill::ScrapeMark;
pub use reservation::Reservation;
pub use snapshot::{Pool, PoolFull, SLOT_LIMIT, SlotChange, Snapshot};
