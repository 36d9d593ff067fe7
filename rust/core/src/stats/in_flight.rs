//! Requests and tokens in flight by endpoint and flow: `inflight_requests` and `inflight_tokens` of the reference (8.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{Equivalent, HashMap};
use parking_lot::RwLock;

use super::family::{Family, Kind, Sample, SampleValue};
use super::labels::{LabelValues, OVERFLOW};
use crate::pool::EndpointIdentity;

/// Label sets. Beyond that those without a request in flight go, and if there are none, endpoint and flow become `other`.
const SERIES: usize = 10_000;

const LABELS: &[&str] = &[
    "endpoint_name",
    "namespace",
    "producer_name",
    "fairness_id",
    "priority",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Box<str>,
    namespace: Box<str>,
    producer: Arc<str>,
    fairness_id: Arc<str>,
    priority: i32,
}

/// The same, borrowed: a look-up copies nothing.
#[derive(Hash)]
struct KeyRef<'a> {
    endpoint: &'a str,
    namespace: &'a str,
    producer: &'a str,
    fairness_id: &'a str,
    priority: i32,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.priority == key.priority
            && self.endpoint == &*key.endpoint
            && self.namespace == &*key.namespace
            && self.producer == &*key.producer
            && self.fairness_id == &*key.fairness_id
    }
}

#[derive(Debug, Default)]
struct Series {
    requests: AtomicU64,
    tokens: AtomicU64,
}

/// All label sets. A request looks its own up under a read lock and then only adds to atomics.
#[derive(Debug)]
pub struct InFlightStats {
    fairness_ids: Arc<LabelValues>,
    series: RwLock<HashMap<Key, Arc<Series>>>,
    most: usize,
}

/// One request in flight: counted at its endpoint until this is dropped.
#[derive(Debug)]
#[must_use = "the request counts as in flight only as long as this lives"]
pub struct InFlightRequest {
    stats: Arc<InFlightStats>,
    series: Arc<Series>,
    producer: Arc<str>,
    fairness_id: Arc<str>,
    priority: i32,
    tokens: u64,
    until_first_token: bool,
}

impl InFlightStats {
    pub(super) fn new(fairness_ids: Arc<LabelValues>) -> Self {
        Self {
            fairness_ids,
            series: RwLock::default(),
            most: SERIES,
        }
    }

    /// Counts a request with so many tokens at `endpoint`. `until_first_token`: the tokens count only until then, as without an estimate of the output.
    pub fn enter(
        self: &Arc<Self>,
        producer: &Arc<str>,
        endpoint: &EndpointIdentity,
        (fairness_id, priority): (&str, i32),
        tokens: u64,
        until_first_token: bool,
    ) -> InFlightRequest {
        let fairness_id = self.fairness_ids.intern(fairness_id);
        let series = self.series(producer, endpoint, &fairness_id, priority);
        series.add(tokens);
        InFlightRequest {
            stats: Arc::clone(self),
            series,
            producer: Arc::clone(producer),
            fairness_id,
            priority,
            tokens,
            until_first_token,
        }
    }

    fn series(
        &self,
        producer: &Arc<str>,
        endpoint: &EndpointIdentity,
        fairness_id: &Arc<str>,
        priority: i32,
    ) -> Arc<Series> {
        let wanted = KeyRef {
            endpoint: &endpoint.name,
            namespace: &endpoint.namespace,
            producer,
            fairness_id,
            priority,
        };
        if let Some(known) = self.series.read().get(&wanted) {
            return Arc::clone(known);
        }
        let mut key = Key {
            endpoint: endpoint.name.clone(),
            namespace: endpoint.namespace.clone(),
            producer: Arc::clone(producer),
            fairness_id: Arc::clone(fairness_id),
            priority,
        };
        let mut all = self.series.write();
        if all.len() >= self.most && !all.contains_key(&key) {
            // Whoever counts here holds a reference; none can be taken while this is locked.
            all.retain(|_, series| Arc::strong_count(series) > 1);
            if all.len() >= self.most {
                key.endpoint = OVERFLOW.into();
                key.namespace = OVERFLOW.into();
                key.fairness_id = OVERFLOW.into();
                key.priority = 0;
            }
        }
        Arc::clone(all.entry(key).or_default())
    }

    /// Both gauges, ordered by label values. What has nothing in flight shows as 0.
    pub(super) fn families(&self) -> [Family; 2] {
        let mut all: Vec<(Vec<Arc<str>>, Arc<Series>)> = {
            let series = self.series.read();
            let labelled = series
                .iter()
                .map(|(key, series)| (key.labels(), Arc::clone(series)));
            labelled.collect()
        };
        all.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let family = |name, help, select: fn(&Series) -> &AtomicU64| Family {
            name,
            kind: Kind::Gauge,
            help,
            label_names: LABELS,
            buckets: &[],
            samples: all
                .iter()
                .map(|(labels, series)| Sample {
                    labels: labels.clone(),
                    value: SampleValue::Number(select(series).load(Ordering::Relaxed) as f64),
                })
                .collect(),
        };
        [
            family(
                "inflight_requests",
                "[ALPHA] Requests in flight by endpoint.",
                |series| &series.requests,
            ),
            family(
                "inflight_tokens",
                "[ALPHA] Uncached prompt tokens in flight by endpoint until the first token, or with the expected output until the end.",
                |series| &series.tokens,
            ),
        ]
    }
}

impl Key {
    fn labels(&self) -> Vec<Arc<str>> {
        vec![
            (*self.endpoint).into(),
            (*self.namespace).into(),
            Arc::clone(&self.producer),
            Arc::clone(&self.fairness_id),
            self.priority.to_string().into(),
        ]
    }
}

impl Series {
    fn add(&self, tokens: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    fn take_off(&self, tokens: u64) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.tokens.fetch_sub(tokens, Ordering::Relaxed);
    }
}

impl InFlightRequest {
    /// The first token was seen.
    pub fn first_token(&mut self) {
        if self.until_first_token {
            let tokens = std::mem::take(&mut self.tokens);
            self.series.tokens.fetch_sub(tokens, Ordering::Relaxed);
        }
    }

    /// Another endpoint serves the request.
    pub fn move_to(&mut self, endpoint: &EndpointIdentity) {
        let series = self
            .stats
            .series(&self.producer, endpoint, &self.fairness_id, self.priority);
        series.add(self.tokens);
        let before = std::mem::replace(&mut self.series, series);
        before.take_off(self.tokens);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.series.take_off(self.tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> EndpointIdentity {
        EndpointIdentity {
            namespace: "ns".into(),
            name: name.into(),
            address: [10, 0, 0, 1].into(),
            port: 8000,
            metrics_host: None,
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn stats(most: usize) -> Arc<InFlightStats> {
        let mut stats = InFlightStats::new(Arc::new(LabelValues::new(100)));
        stats.most = most;
        Arc::new(stats)
    }

    /// (label values joined, requests, tokens).
    fn shown(stats: &InFlightStats) -> Vec<(String, f64, f64)> {
        let [requests, tokens] = stats.families();
        let number = |sample: &Sample| match sample.value {
            SampleValue::Number(number) => number,
            SampleValue::Histogram { .. } => f64::NAN,
        };
        let both = requests.samples.iter().zip(&tokens.samples);
        both.map(|(requests, tokens)| {
            assert_eq!(requests.labels, tokens.labels);
            (requests.labels.join(" "), number(requests), number(tokens))
        })
        .collect()
    }

    #[test]
    fn a_request_counts_where_it_is_until_it_ends() {
        let stats = stats(10);
        let producer: Arc<str> = "load".into();
        let mut first = stats.enter(&producer, &endpoint("a"), ("f", 0), 700, true);
        let mut second = stats.enter(&producer, &endpoint("a"), ("f", 0), 50, false);
        let third = stats.enter(&producer, &endpoint("a"), ("f", -1), 1, true);
        let negative = ("a ns load f -1".to_owned(), 1.0, 1.0);
        assert_eq!(
            shown(&stats),
            [negative.clone(), ("a ns load f 0".to_owned(), 2.0, 750.0)]
        );
        first.first_token();
        first.first_token();
        second.first_token();
        assert_eq!(shown(&stats)[1], ("a ns load f 0".to_owned(), 2.0, 50.0));
        second.move_to(&endpoint("b"));
        drop(first);
        assert_eq!(
            shown(&stats),
            [
                negative,
                ("a ns load f 0".to_owned(), 0.0, 0.0),
                ("b ns load f 0".to_owned(), 1.0, 50.0)
            ]
        );
        drop((second, third));
        assert!(
            shown(&stats)
                .iter()
                .all(|(_, requests, tokens)| *requests == 0.0 && *tokens == 0.0)
        );
    }

    #[test]
    fn label_sets_are_bounded_and_idle_ones_go_first() {
        let stats = stats(3);
        let producer: Arc<str> = "load".into();
        for number in 0..50 {
            drop(stats.enter(&producer, &endpoint(&number.to_string()), ("f", 0), 1, true));
        }
        assert!(shown(&stats).len() <= 3);
        let live: Vec<InFlightRequest> = (0..50)
            .map(|number| {
                let name = number.to_string();
                stats.enter(&producer, &endpoint(&name), (&name, 0), 2, true)
            })
            .collect();
        let all = shown(&stats);
        assert_eq!(all.len(), 4, "three and `other`: {all:?}");
        assert_eq!(
            all.iter()
                .map(|(_, requests, _)| *requests as u64)
                .sum::<u64>(),
            50
        );
        assert!(all.contains(&("other other load other 0".to_owned(), 47.0, 94.0)));
        drop(live);
        assert!(
            shown(&stats)
                .iter()
                .all(|(_, requests, tokens)| *requests == 0.0 && *tokens == 0.0)
        );
    }
}
