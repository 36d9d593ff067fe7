//! How long each plugin of the profile takes.

use std::sync::Arc;

use super::buckets;
use super::number::Histogram;
use crate::Nanos;

/// A plugin as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLabels<'a> {
    /// `Filter`, `Scorer` or `Picker`.
    pub extension_point: &'static str,
    /// Type in the configuration.
    pub plugin_type: &'static str,
    /// Name in the configuration.
    pub plugin_name: &'a str,
}

/// One histogram for each plugin, in the order in which a decision runs them.
#[derive(Debug, Default)]
pub(super) struct PluginDurations(Vec<([Arc<str>; 3], Histogram)>);

impl PluginDurations {
    pub(super) fn new<'a>(plugins: impl Iterator<Item = PluginLabels<'a>>) -> Self {
        let series = plugins.map(|plugin| {
            let labels = [
                plugin.extension_point,
                plugin.plugin_type,
                plugin.plugin_name,
            ]
            .map(Arc::from);
            (labels, Histogram::new(buckets::SMALL))
        });
        Self(series.collect())
    }

    /// `marks`: when the first plugin began and when each ended. A decision that a filter ends has fewer.
    pub(super) fn observe(&self, marks: &[Nanos]) {
        for ((_, histogram), mark) in self.0.iter().zip(marks.windows(2)) {
            histogram.observe((mark[1] - mark[0]).as_secs_f64());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &([Arc<str>; 3], Histogram)> {
        self.0.iter()
    }
}
