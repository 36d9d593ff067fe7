//! The warmroute engine: everything that is decided for a request, without any input or output.
//!
//! Messages in, messages out, time passed in. Hosts (see `warmroute-extproc`) own sockets, tasks and clocks.
#![forbid(unsafe_code)]

pub mod body;
pub mod control;
pub mod engine;
pub mod exchange;
pub mod kv_events;
pub mod learn;
pub mod plugin;
pub mod pool;
pub mod prefix;
pub mod schedule;
pub mod stats;
mod time;
pub mod tokens;

pub use engine::{Engine, PolicySpec};
pub use time::Nanos;
