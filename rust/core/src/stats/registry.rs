//! All counters of an engine, and the look-up from labels to series.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use parking_lot::RwLock;

use super::buckets;
use super::family::FamilySource;
use super::in_flight::InFlightStats;
use super::labels::LabelValues;
use super::number::Histogram;
use super::plugins::{
    PluginDurations, PluginFailure, PluginFailures, PluginFamilies, PluginLabels, PluginTimers,
};
use super::prefix::PrefixStats;
use super::request::RequestSeries;
use super::streams::StreamStats;
use super::tokenize::TokenizeStats;
use crate::Nanos;
use crate::plugin::ExternalFailure;
use crate::pool::{Endpoint, Pool};

/// Distinct values of `model_name` and `target_model_name` together, as the reference caps them.
const MODEL_VALUES: usize = 1000;
/// Distinct values of `fairness_id`, as the reference caps them.
const FAIRNESS_VALUES: usize = 1000;
/// Label sets of requests. The two caps alone would allow a million for each priority, at up to 2 KB each.
const REQUEST_SERIES: usize = 10_000;
/// Label sets of scheduling attempts: endpoints come and go, their names stay.
const ATTEMPT_SERIES: usize = 10_000;

#[derive(Debug, PartialEq, Eq, Hash)]
struct SeriesKey {
    model: Arc<str>,
    target_model: Arc<str>,
    fairness_id: Arc<str>,
    priority: i32,
}

/// The same, borrowed: a look-up copies nothing.
#[derive(Hash)]
struct SeriesRef<'a> {
    model: &'a str,
    target_model: &'a str,
    fairness_id: &'a str,
    priority: i32,
}

impl Equivalent<SeriesKey> for SeriesRef<'_> {
    fn equivalent(&self, key: &SeriesKey) -> bool {
        self.priority == key.priority
            && self.model == key.model.as_ref()
            && self.target_model == key.target_model.as_ref()
            && self.fairness_id == key.fairness_id.as_ref()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AttemptKey {
    target_model: Arc<str>,
    name: Box<str>,
    namespace: Box<str>,
    port: Box<str>,
    success: bool,
}

#[derive(Hash)]
struct AttemptRef<'a> {
    target_model: &'a str,
    name: &'a str,
    namespace: &'a str,
    port: &'a str,
    success: bool,
}

impl Equivalent<AttemptKey> for AttemptRef<'_> {
    fn equivalent(&self, key: &AttemptKey) -> bool {
        self.success == key.success
            && self.name == key.name.as_ref()
            && self.target_model == key.target_model.as_ref()
            && self.namespace == key.namespace.as_ref()
            && self.port == key.port.as_ref()
    }
}

/// Every counter of an engine. Shared by all streams; adding is lock-free but for one read lock per look-up.
#[derive(Debug)]
pub struct Stats {
    models: LabelValues,
    fairness_ids: Arc<LabelValues>,
    requests: RwLock<HashMap<SeriesKey, Arc<RequestSeries>>>,
    attempts: RwLock<HashMap<AttemptKey, AtomicU64>>,
    pub(super) in_flight: Arc<InFlightStats>,
    pub(super) request_processing: Histogram,
    pub(super) response_processing: Histogram,
    pub(super) scheduler_e2e: Histogram,
    pub(super) plugins: PluginDurations,
    pub(super) plugin_failures: PluginFailures,
    pub(super) plugin_families: PluginFamilies,
    pub(super) streams: Option<Arc<StreamStats>>,
    /// Of the producers of prefix matches in force.
    pub(super) prefixes: ArcSwap<Vec<Arc<PrefixStats>>>,
    pub(super) tokenize: Arc<TokenizeStats>,
}

impl Stats {
    /// All zero.
    pub fn new() -> Self {
        let fairness_ids = Arc::new(LabelValues::new(FAIRNESS_VALUES));
        Self {
            models: LabelValues::new(MODEL_VALUES),
            in_flight: Arc::new(InFlightStats::new(Arc::clone(&fairness_ids))),
            fairness_ids,
            requests: RwLock::default(),
            attempts: RwLock::default(),
            request_processing: Histogram::new(buckets::REQUEST_PROCESSING),
            response_processing: Histogram::new(buckets::RESPONSE_PROCESSING),
            scheduler_e2e: Histogram::new(buckets::SMALL),
            plugins: PluginDurations::default(),
            plugin_failures: PluginFailures::default(),
            plugin_families: PluginFamilies::default(),
            streams: None,
            prefixes: ArcSwap::default(),
            tokenize: Arc::default(),
        }
    }

    /// Where to count what these producers of prefix matches (name and type) find: those that were there before go on, others are no longer shown.
    pub fn prefix_producers<'a>(
        &self,
        producers: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>,
    ) -> Vec<Arc<PrefixStats>> {
        let known = self.prefixes.load();
        let stats: Vec<_> = producers
            .map(|(name, type_name)| {
                let known = known.iter().find(|stats| stats.is_of(name, type_name));
                known.map_or_else(|| Arc::new(PrefixStats::new(name, type_name)), Arc::clone)
            })
            .collect();
        self.prefixes.store(Arc::new(stats.clone()));
        stats
    }

    /// Where to measure these plugins, given in the order in which a decision runs them.
    pub fn plugin_timers<'a>(
        &self,
        plugins: impl Iterator<Item = PluginLabels<'a>>,
    ) -> PluginTimers {
        self.plugins.timers(plugins)
    }

    /// A plugin gave no usable answer and was skipped.
    pub fn plugin_failed(
        &self,
        plugin_type: &Arc<str>,
        plugin_name: &Arc<str>,
        failure: &ExternalFailure,
    ) {
        self.plugin_failures.record(
            plugin_type,
            plugin_name,
            failure.reason(),
            failure.to_string(),
        );
    }

    /// From now on, plugins with metrics of their own are these; they are asked with the endpoints of `pool`.
    pub fn set_plugin_families(&self, sources: Vec<Arc<dyn FamilySource>>, pool: &Arc<Pool>) {
        self.plugin_families.set(sources, pool);
    }

    /// Every kind of failure of plugins so far.
    pub fn plugin_failures(&self) -> Vec<PluginFailure> {
        self.plugin_failures.all()
    }

    /// Where requests are counted while they are in flight.
    pub fn in_flight(&self) -> &Arc<InFlightStats> {
        &self.in_flight
    }

    /// Counts `Process` streams too.
    #[must_use]
    pub fn with_streams(mut self, clock: fn() -> Nanos) -> Self {
        self.streams = Some(Arc::new(StreamStats::new(clock)));
        self
    }

    /// Where streams are counted; `None` unless asked for.
    pub fn streams(&self) -> Option<&Arc<StreamStats>> {
        self.streams.as_ref()
    }

    /// Where jobs for the tokenizer are counted.
    pub fn tokenize(&self) -> &Arc<TokenizeStats> {
        &self.tokenize
    }

    /// The series of a label set. Values beyond the caps become `other`; beyond 10,000 label sets all four do (priority 0).
    pub fn series(
        &self,
        model: &str,
        target_model: &str,
        fairness_id: &str,
        priority: i32,
    ) -> Arc<RequestSeries> {
        let wanted = SeriesRef {
            model,
            target_model,
            fairness_id,
            priority,
        };
        if let Some(known) = self.requests.read().get(&wanted) {
            return Arc::clone(known);
        }
        let mut key = SeriesKey {
            model: self.models.intern(model),
            target_model: self.models.intern(target_model),
            fairness_id: self.fairness_ids.intern(fairness_id),
            priority,
        };
        let mut requests = self.requests.write();
        if requests.len() >= REQUEST_SERIES && !requests.contains_key(&key) {
            let overflow = self.models.overflow();
            key = SeriesKey {
                model: Arc::clone(&overflow),
                target_model: Arc::clone(&overflow),
                fairness_id: overflow,
                priority: 0,
            };
        }
        let labels = [
            Arc::clone(&key.model),
            Arc::clone(&key.target_model),
            Arc::clone(&key.fairness_id),
            key.priority.to_string().into(),
        ];
        Arc::clone(
            requests
                .entry(key)
                .or_insert_with(|| Arc::new(RequestSeries::new(labels))),
        )
    }

    /// One run of the scheduler for a model: on `endpoint`, or without success.
    pub fn scheduler_attempt(&self, target_model: &str, endpoint: Option<&Endpoint>) {
        let mut port = [0; 5];
        let (name, namespace, port) = match endpoint {
            Some(endpoint) => (
                endpoint.identity.name.as_ref(),
                endpoint.identity.namespace.as_ref(),
                decimal(endpoint.identity.port, &mut port),
            ),
            None => ("", "", ""),
        };
        let wanted = AttemptRef {
            target_model,
            name,
            namespace,
            port,
            success: endpoint.is_some(),
        };
        if let Some(count) = self.attempts.read().get(&wanted) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let target_model = self.models.intern(target_model);
        let mut attempts = self.attempts.write();
        let mut key = AttemptKey {
            target_model,
            name: name.into(),
            namespace: namespace.into(),
            port: port.into(),
            success: wanted.success,
        };
        if attempts.len() >= ATTEMPT_SERIES && !attempts.contains_key(&key) {
            let overflow = self.models.overflow();
            let text = || Box::from(overflow.as_ref());
            key = AttemptKey {
                name: text(),
                namespace: text(),
                port: text(),
                target_model: overflow,
                success: wanted.success,
            };
        }
        attempts
            .entry(key)
            .or_default()
            .fetch_add(1, Ordering::Relaxed);
    }

    /// From the start of a scheduling run to its choice.
    pub fn scheduler_e2e(&self, duration: Duration) {
        self.scheduler_e2e.observe(duration.as_secs_f64());
    }

    /// Time the picker itself spent on the request path of one exchange.
    pub fn request_processing(&self, duration: Duration) {
        self.request_processing.observe(duration.as_secs_f64());
    }

    /// Time the picker itself spent on the response path of one exchange.
    pub fn response_processing(&self, duration: Duration) {
        self.response_processing.observe(duration.as_secs_f64());
    }

    /// All request series, ordered by label values.
    pub(super) fn all_requests(&self) -> Vec<Arc<RequestSeries>> {
        let mut all: Vec<_> = self.requests.read().values().cloned().collect();
        all.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        all
    }

    /// (status, `target_model_name`, `endpoint_name`, namespace, port) and count of each, ordered by label values.
    pub(super) fn all_attempts(&self) -> Vec<(Vec<Arc<str>>, u64)> {
        let attempts = self.attempts.read();
        let mut all: Vec<_> = attempts
            .iter()
            .map(|(key, count)| {
                let status = if key.success { "success" } else { "failure" };
                let labels = vec![
                    status.into(),
                    Arc::clone(&key.target_model),
                    (*key.name).into(),
                    (*key.namespace).into(),
                    (*key.port).into(),
                ];
                (labels, count.load(Ordering::Relaxed))
            })
            .collect();
        all.sort_unstable();
        all
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

/// `number` in decimal digits, without an allocation: this runs once a request.
fn decimal(number: u16, digits: &mut [u8; 5]) -> &str {
    let mut rest = number;
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    str::from_utf8(&digits[start..]).unwrap_or_default()
}
