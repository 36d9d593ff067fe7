//! The endpoints of the pool, what their metrics say, and the load reserved on them.

mod endpoint;
mod page;
mod reservation;
mod snapshot;

pub use endpoint::{Endpoint, EndpointIdentity, EngineMetrics};
pub use page::{EngineSpec, MetricsPage, PageError};
pub use reservation::Reservation;
pub use snapshot::{Pool, Snapshot};
