//! Prefix indexes side by side: warmroute's own, two public crates and a plain map, on the same seeded workloads.
//!
//! The `measure` binary takes one index through everything and prints one JSON object; `cargo bench` times the queries of all of them in one criterion run.
//! `bench/run.py --only index` runs both and `bench/page.py` writes the page.

pub mod allocator;
pub mod beside;
pub mod churn;
pub mod clock;
pub mod long_prompt;
pub mod many_workers;
pub mod measure;
pub mod mooncake;
pub mod oracle;
pub mod queries;
pub mod report;
pub mod resident;
pub mod roster;
pub mod subject;
pub mod subjects;
pub mod timing;
pub mod verify;
pub mod workload;
