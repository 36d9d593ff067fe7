//! Load generator of warmroute: `ext_proc` servers driven as Envoy drives them, HTTP gateways, and a stand-in for model servers.
#![forbid(unsafe_code)]

pub mod error;
pub mod exchange;
pub mod extproc;
pub mod http_load;
pub mod pace;
mod page;
pub mod payload;
pub mod process;
pub mod reply;
pub mod report;
pub mod run;
pub mod target;
pub mod upstream;
pub mod wire;
