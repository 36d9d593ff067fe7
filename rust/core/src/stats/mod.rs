//! What the engine counts: the reference's metric families, fed by atomics and exported as plain values.
//!
//! A request looks its label set up once (`Stats::series`) and then only adds to atomics. Names, labels and buckets are the reference's
//! (`endpoint-picker.md` 8.1, 8.2, 8.4); the prefix `llm_d_epp_` and the text form belong to whoever serves the page.

mod buckets;
mod exact;
mod export;
mod family;
mod in_flight;
mod labels;
mod number;
mod plugins;
mod prefix;
mod rates;
mod registry;
mod request;
mod streams;
mod tokenize;

pub(crate) use buckets::RATIO;
pub use exact::ExactStats;
pub use family::{Family, FamilySource, Kind, Sample, SampleValue};
pub use in_flight::{InFlightRequest, InFlightStats};
pub(crate) use number::Histogram;
pub use plugins::{PluginFailure, PluginLabels, PluginTimers};
pub use prefix::PrefixStats;
pub(crate) use rates::RateFamilies;
pub use registry::Stats;
pub use request::{RequestSeries, RunningRequest};
pub use streams::{OpenStream, StreamStats};
pub use tokenize::{QueuedJob, TokenOutcome, TokenizeStats};
