//! How long each plugin takes, and how often one gave no usable answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::buckets;
use super::family::{Family, FamilySource};
use super::number::Histogram;
use crate::Nanos;
use crate::pool::Pool;

/// A plugin as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLabels<'a> {
    /// `Screener`, `Admission`, `Filter`, `Scorer` or `Picker`.
    pub extension_point: &'static str,
    /// Type in the configuration.
    pub plugin_type: &'a str,
    /// Name in the configuration.
    pub plugin_name: &'a str,
}

/// Labels of a series: extension point, type, name; or for failures type, name, reason.
type Labels = [Arc<str>; 3];

/// Series of plugins that are kept although no policy has them any more. A configuration that is written by a program may name plugins anew each time.
const MOST_SERIES: usize = 1024;

/// One histogram for each plugin that ran since the start; a reload adds those it brings and keeps those it takes away, up to a number.
#[derive(Debug, Default)]
pub(super) struct PluginDurations(Mutex<Vec<(Labels, Arc<Histogram>)>>);

/// The histograms of one profile, in the order in which a decision runs its plugins.
#[derive(Clone, Debug, Default)]
pub struct PluginTimers(Vec<Arc<Histogram>>);

impl PluginTimers {
    /// What one plugin, by its place, took.
    pub fn observe_one(&self, place: usize, took: Duration) {
        if let Some(histogram) = self.0.get(place) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// `marks`: when the first plugin began and when each ended. A decision that a filter ends has fewer.
    pub fn observe(&self, marks: &[Nanos]) {
        for (histogram, mark) in self.0.iter().zip(marks.windows(2)) {
            histogram.observe((mark[1] - mark[0]).as_secs_f64());
        }
    }

    /// The same for the plugins at `skipped..` of the profile: its filters ran, and were told, apart. `before`: seconds that plugins at
    /// these positions, in ascending order, worked before the first mark.
    pub fn observe_from(&self, skipped: usize, marks: &[Nanos], before: &[(usize, f64)]) {
        let mut before = before.iter().peekable();
        for (position, (histogram, mark)) in
            (skipped..).zip(self.0.iter().skip(skipped).zip(marks.windows(2)))
        {
            let seconds = before
                .next_if(|(plugin, _)| *plugin == position)
                .map_or(0.0, |(_, seconds)| *seconds);
            histogram.observe(seconds + (mark[1] - mark[0]).as_secs_f64());
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
        if series.len() >= MOST_SERIES {
            series.retain(|(_, histogram)| Arc::strong_count(histogram) > 1);
        }
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

/// How often a plugin gave no usable answer, and the last reason. Up to [`MOST_SERIES`]: beyond, what did not fail for longest goes.
#[derive(Debug, Default)]
pub(super) struct PluginFailures(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    by_labels: BTreeMap<Labels, Failing>,
    /// Of all plugins.
    count: u64,
}

#[derive(Debug, Default)]
struct Failing {
    count: u64,
    last: String,
    /// Failures of all plugins up to its last one.
    turn: u64,
}

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
        failures.count += 1;
        let turn = failures.count;
        let known = &mut failures.by_labels;
        if known.len() >= MOST_SERIES && !known.contains_key(&key) {
            let oldest = known.iter().min_by_key(|(_, failing)| failing.turn);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                known.remove(&oldest);
            }
        }
        let failing = known.entry(key).or_default();
        failing.count += 1;
        failing.last = text;
        failing.turn = turn;
    }

    pub(super) fn all(&self) -> Vec<PluginFailure> {
        let failures = self.0.lock();
        let known = failures.by_labels.iter();
        known
            .map(
                |([plugin_type, plugin_name, reason], failing)| PluginFailure {
                    plugin_type: Arc::clone(plugin_type),
                    plugin_name: Arc::clone(plugin_name),
                    reason: Arc::clone(reason),
                    count: failing.count,
                    last: failing.last.clone(),
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
    fn series_of_plugins_that_are_gone_are_kept_up_to_a_number() {
        let durations = PluginDurations::default();
        let timers = |name: &str| {
            durations.timers(std::iter::once(PluginLabels {
                extension_point: "Scorer",
                plugin_type: "queue-scorer",
                plugin_name: name,
            }))
        };
        let stays = timers("stays");
        for number in 1..MOST_SERIES {
            timers(&format!("reload-{number}"));
        }
        assert_eq!(durations.all().len(), MOST_SERIES);
        let new = timers("new");
        let names: Vec<_> = durations
            .all()
            .into_iter()
            .map(|([.., name], _)| name)
            .collect();
        assert_eq!(names, [Arc::from("stays"), Arc::from("new")]);
        drop((stays, new));
    }

    #[test]
    fn failures_are_kept_up_to_a_number_and_the_oldest_go() {
        let failures = PluginFailures::default();
        let fail = |name: &str| {
            failures.record(&"scorer".into(), &name.into(), "timeout", name.to_owned());
        };
        fail("stays");
        for number in 1..MOST_SERIES {
            fail(&format!("reload-{number:04}"));
        }
        fail("stays");
        fail("new");
        let all = failures.all();
        assert_eq!(all.len(), MOST_SERIES);
        let count = |name: &str| {
            let failure = all.iter().find(|failure| &*failure.plugin_name == name);
            failure.map(|failure| failure.count)
        };
        assert_eq!(
            [
                count("stays"),
                count("new"),
                count("reload-0001"),
                count("reload-0002")
            ],
            [Some(2), Some(1), None, Some(1)]
        );
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
