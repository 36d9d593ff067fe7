//! How long each plugin takes, and how often one gave no usable answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::buckets;
use super::family::{Family, FamilySource};
use super::number::Histogram;
use crate::Nanos;
use crate::pool::Pool;

/// A plugin as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLabels<'a> {
    /// `Filter`, `Scorer` or `Picker`.
    pub extension_point: &'static str,
    /// Type in the configuration.
    pub plugin_type: &'a str,
    /// Name in the configuration.
    pub plugin_name: &'a str,
}

/// Labels of a series: extension point, type, name; or for failures type, name, reason.
type Labels = [Arc<str>; 3];

/// One histogram for each plugin that ran since the start; a reload adds those it brings and keeps those it takes away.
#[derive(Debug, Default)]
pub(super) struct PluginDurations(Mutex<Vec<(Labels, Arc<Histogram>)>>);

/// The histograms of one profile, in the order in which a decision runs its plugins.
#[derive(Clone, Debug, Default)]
pub struct PluginTimers(Vec<Arc<Histogram>>);

impl PluginTimers {
    /// `marks`: when the first plugin began and when each ended. A decision that a filter ends has fewer.
    pub fn observe(&self, marks: &[Nanos]) {
        for (histogram, mark) in self.0.iter().zip(marks.windows(2)) {
            histogram.observe((mark[1] - mark[0]).as_secs_f64());
        }
    }

    /// The same for the plugins at `skipped..` of the profile: its filters ran, and were told, apart.
    pub fn observe_from(&self, skipped: usize, marks: &[Nanos]) {
        for (histogram, mark) in self.0.iter().skip(skipped).zip(marks.windows(2)) {
            histogram.observe((mark[1] - mark[0]).as_secs_f64());
        }
    }
}

impl PluginDurations {
    /// Finds or makes the series of these plugins.
    pub(super) fn timers<'a>(
        &self,
        plugins: impl Iterator<Item = PluginLabels<'a>>,
    ) -> PluginTimers {
        let mut series = self.0.lock();
        PluginTimers(
            plugins
                .map(|plugin| {
                    let labels = [
                        plugin.extension_point,
                        plugin.plugin_type,
                        plugin.plugin_name,
                    ];
                    let known = series
                        .iter()
                        .find(|(known, _)| known.iter().map(|label| &**label).eq(labels));
                    if let Some((_, histogram)) = known {
                        return Arc::clone(histogram);
                    }
                    let histogram = Arc::new(Histogram::new(buckets::SMALL));
                    series.push((labels.map(Arc::from), Arc::clone(&histogram)));
                    histogram
                })
                .collect(),
        )
    }

    pub(super) fn all(&self) -> Vec<(Labels, Arc<Histogram>)> {
        self.0.lock().clone()
    }
}

/// How often a plugin gave no usable answer, and the last reason.
#[derive(Debug, Default)]
pub(super) struct PluginFailures(Mutex<BTreeMap<Labels, (u64, String)>>);

/// One kind of failure of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFailure {
    /// Type in the configuration.
    pub plugin_type: Arc<str>,
    /// Name in the configuration.
    pub plugin_name: Arc<str>,
    /// `exception`, `timeout`, `busy` or `bad_result`.
    pub reason: Arc<str>,
    /// Times since the start.
    pub count: u64,
    /// What it said the last time.
    pub last: String,
}

impl PluginFailures {
    pub(super) fn record(
        &self,
        plugin_type: &Arc<str>,
        plugin_name: &Arc<str>,
        reason: &'static str,
        text: String,
    ) {
        let key = [
            Arc::clone(plugin_type),
            Arc::clone(plugin_name),
            reason.into(),
        ];
        let mut failures = self.0.lock();
        let entry = failures.entry(key).or_default();
        entry.0 += 1;
        entry.1 = text;
    }

    pub(super) fn all(&self) -> Vec<PluginFailure> {
        let failures = self.0.lock();
        failures
            .iter()
            .map(
                |([plugin_type, plugin_name, reason], (count, last))| PluginFailure {
                    plugin_type: Arc::clone(plugin_type),
                    plugin_name: Arc::clone(plugin_name),
                    reason: Arc::clone(reason),
                    count: *count,
                    last: last.clone(),
                },
            )
            .collect()
    }
}

/// The plugins in force that have metrics of their own.
#[derive(Debug, Default)]
pub(super) struct PluginFamilies(Mutex<Option<Sources>>);

/// The plugins, and where their endpoints are.
type Sources = (Vec<Arc<dyn FamilySource>>, Arc<Pool>);

impl PluginFamilies {
    pub(super) fn set(&self, sources: Vec<Arc<dyn FamilySource>>, pool: &Arc<Pool>) {
        *self.0.lock() = Some((sources, Arc::clone(pool)));
    }

    /// One family for each name.
    pub(super) fn all(&self) -> Vec<Family> {
        let Some((sources, pool)) = self.0.lock().clone() else {
            return Vec::new();
        };
        let snapshot = pool.snapshot();
        let mut merged: Vec<Family> = Vec::new();
        for family in sources.iter().flat_map(|source| source.families(&snapshot)) {
            match merged.iter_mut().find(|known| known.name == family.name) {
                Some(known) => known.samples.extend(family.samples),
                None => merged.push(family),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Snapshot;
    use crate::stats::{Kind, Sample, SampleValue};

    /// A plugin of that name, which counts endpoints.
    #[derive(Debug)]
    struct Counting(&'static str);

    impl FamilySource for Counting {
        fn families(&self, snapshot: &Snapshot) -> Vec<Family> {
            vec![Family {
                name: "counted",
                kind: Kind::Gauge,
                help: "[ALPHA] Endpoints.",
                label_names: &["plugin_name"],
                buckets: &[],
                samples: vec![Sample {
                    labels: vec![self.0.into()],
                    value: SampleValue::Number(snapshot.endpoints.len() as f64),
                }],
            }]
        }
    }

    #[test]
    fn families_of_several_plugins_are_one_and_a_reload_replaces_them() {
        let families = PluginFamilies::default();
        assert_eq!(families.all(), []);
        let pool = Arc::new(Pool::new());
        families.set(
            vec![Arc::new(Counting("a")), Arc::new(Counting("b"))],
            &pool,
        );
        let [family] = &families.all()[..] else {
            panic!("one family");
        };
        let names: Vec<&str> = family
            .samples
            .iter()
            .map(|sample| &*sample.labels[0])
            .collect();
        assert_eq!(names, ["a", "b"]);
        families.set(vec![Arc::new(Counting("c"))], &pool);
        assert_eq!(families.all()[0].samples.len(), 1);
    }
}
