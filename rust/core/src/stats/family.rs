//! Metric families as plain values, for whoever renders the page.

use std::fmt;
use std::sync::Arc;

use crate::pool::Snapshot;

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations by bucket.
    Histogram,
}

impl Kind {
    /// `counter`, `gauge` or `histogram`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric family with its samples now.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Name without the prefix `llm_d_epp_`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Help text.
    pub help: &'static str,
    /// Names of the labels, in the order of `Sample::labels`.
    pub label_names: &'static [&'static str],
    /// Upper bounds without +Inf; empty unless a histogram.
    pub buckets: &'static [f64],
    /// One for each label set that has been seen.
    pub samples: Vec<Sample>,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Values of the labels.
    pub labels: Vec<Arc<str>>,
    /// What was counted.
    pub value: SampleValue,
}

/// A plugin with metrics of its own.
pub trait FamilySource: Send + Sync + fmt::Debug {
    /// Its families with their samples now, for the endpoints in `snapshot`. Called when the metrics page is read; families of one name
    /// from several plugins become one, so their samples have to differ in labels: type and name of the plugin do.
    fn families(&self, snapshot: &Snapshot) -> Vec<Family>;
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// Observations up to each bound, then all (+Inf).
        cumulative: Vec<u64>,
        /// Sum of the observations.
        sum: f64,
    },
}
