//! A pool of replicas in simulated time: the same engine that picks for live traffic picks here, over a trace, against any other policy.
//!
//! No input or output and no clock of its own: traces come as text, results go as numbers, and everything is the same for the same seed.

#![forbid(unsafe_code)]

pub mod hardware;
pub mod replica;
pub mod report;
pub mod simulation;
pub mod trace;

pub use hardware::{CostModel, Hardware, HardwareError};
pub use replica::{Arrival, Observed, Replica, ReplicaMetrics, RequestError};
pub use report::Report;
pub use simulation::{Progress, Settings, Signals, SimulationError, simulate};
pub use trace::{Request, Trace};
