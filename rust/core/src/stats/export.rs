//! The engine's counters as metric families.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buckets;
use super::family::{Family, Kind, Sample, SampleValue};
use super::number::Histogram;
use super::prefix;
use super::registry::Stats;
use super::request::RequestSeries;
use super::streams::StreamStats;

const REQUEST: &[&str] = &["model_name", "target_model_name", "fairness_id", "priority"];
const ERROR: &[&str] = &[
    "model_name",
    "target_model_name",
    "fairness_id",
    "priority",
    "error_code",
];
const TTFT: &[&str] = &[
    "model_name",
    "target_model_name",
    "fairness_id",
    "priority",
    "streaming",
];
const ATTEMPT: &[&str] = &[
    "status",
    "target_model_name",
    "endpoint_name",
    "namespace",
    "port",
];
pub(super) const PLUGIN: &[&str] = &["plugin_name", "plugin_type"];

type Select = fn(&RequestSeries) -> &Histogram;

/// (name, help, buckets, series) of the histograms with one series for each label set of requests.
type RequestHistogram = (&'static str, &'static str, &'static [f64], Select);

const REQUEST_HISTOGRAMS: &[RequestHistogram] = &[
    (
        "request_duration_seconds",
        "[ALPHA] Duration of requests in seconds, to the last byte of the response.",
        buckets::LATENCY,
        |series| &series.duration,
    ),
    (
        "request_size_bytes",
        "[ALPHA] Size of request bodies in bytes.",
        buckets::REQUEST_BYTES,
        |series| &series.request_bytes,
    ),
    (
        "response_size_bytes",
        "[ALPHA] Size of response bodies in bytes.",
        buckets::RESPONSE_BYTES,
        |series| &series.response_bytes,
    ),
    (
        "request_input_tokens",
        "[ALPHA] Prompt tokens of requests.",
        buckets::TOKENS,
        |series| &series.input_tokens,
    ),
    (
        "request_output_tokens",
        "[ALPHA] Generated tokens of requests.",
        buckets::OUTPUT_TOKENS,
        |series| &series.output_tokens,
    ),
    (
        "request_cached_tokens",
        "[ALPHA] Prompt tokens of requests that the model server had cached.",
        buckets::TOKENS,
        |series| &series.cached_tokens,
    ),
    (
        "request_ntpot_seconds",
        "[ALPHA] Duration of requests over their output tokens, in seconds.",
        buckets::NTPOT,
        |series| &series.ntpot,
    ),
    (
        "request_streaming_tpot_seconds",
        "[ALPHA] Mean time per output token of streamed responses in seconds.",
        buckets::TPOT,
        |series| &series.tpot,
    ),
    (
        "request_streaming_itl_seconds",
        "[ALPHA] Time between tokens of streamed responses in seconds.",
        buckets::ITL,
        |series| &series.itl,
    ),
];

impl Stats {
    /// Every family with its samples now. A label set shows in a family once something was counted for it; families without labels always show.
    pub fn export(&self) -> Vec<Family> {
        let requests = self.all_requests();
        let mut families = vec![
            numbers(
                "request_total",
                Kind::Counter,
                "[ALPHA] Requests received.",
                &requests,
                |series| &series.total,
            ),
            errors(&requests),
            numbers(
                "request_running",
                Kind::Gauge,
                "[ALPHA] Requests running now.",
                &requests,
                |series| &series.running,
            ),
        ];
        families.extend(
            REQUEST_HISTOGRAMS
                .iter()
                .map(|histogram| request_histogram(histogram, &requests)),
        );
        families.push(ttft(&requests));
        families.extend([
            plain(
                "request_processing_duration_seconds",
                "[ALPHA] Time the picker spent on the request path of an exchange, in seconds.",
                &self.request_processing,
            ),
            plain(
                "response_processing_duration_seconds",
                "[ALPHA] Time the picker spent on the response path of an exchange, in seconds.",
                &self.response_processing,
            ),
            plain(
                "scheduler_e2e_duration_seconds",
                "[ALPHA] Duration of scheduling from the request's facts to the choice, in seconds.",
                &self.scheduler_e2e,
            ),
            self.attempts_family(),
            self.plugins_family(),
            self.plugin_failures_family(),
        ]);
        families.extend(
            self.streams
                .iter()
                .flat_map(|streams| stream_families(streams)),
        );
        families.extend(prefix::families(&self.prefixes.load()));
        families.extend(self.tokenize.families());
        families.extend(self.plugin_families.all());
        families.extend(self.in_flight.families());
        families
    }

    fn attempts_family(&self) -> Family {
        let attempts = self.all_attempts().into_iter();
        Family {
            name: "scheduler_attempts_total",
            kind: Kind::Counter,
            help: "[ALPHA] Scheduling attempts by outcome and endpoint.",
            label_names: ATTEMPT,
            buckets: &[],
            samples: attempts
                .map(|(labels, count)| Sample {
                    labels,
                    value: SampleValue::Number(count as f64),
                })
                .collect(),
        }
    }

    fn plugins_family(&self) -> Family {
        let plugins = self.plugins.all();
        let observed = plugins.iter().filter_map(|(labels, histogram)| {
            Some(Sample {
                labels: labels.to_vec(),
                value: histogram.observed()?,
            })
        });
        Family {
            name: "plugin_duration_seconds",
            kind: Kind::Histogram,
            help: "[ALPHA] Duration of each plugin in a decision, in seconds.",
            label_names: &["extension_point", "plugin_type", "plugin_name"],
            buckets: buckets::SMALL,
            samples: observed.collect(),
        }
    }

    fn plugin_failures_family(&self) -> Family {
        let failures = self.plugin_failures().into_iter();
        Family {
            name: "plugin_failures_total",
            kind: Kind::Counter,
            help: "[ALPHA] Calls of plugins that gave no usable answer, so that the plugin was skipped.",
            label_names: &["plugin_type", "plugin_name", "reason"],
            buckets: &[],
            samples: failures
                .map(|failure| Sample {
                    labels: vec![failure.plugin_type, failure.plugin_name, failure.reason],
                    value: SampleValue::Number(failure.count as f64),
                })
                .collect(),
        }
    }
}

fn stream_families(streams: &StreamStats) -> [Family; 3] {
    [
        Family {
            name: "extproc_streams_inflight",
            kind: Kind::Gauge,
            help: "[ALPHA] Process streams open now.",
            label_names: &[],
            buckets: &[],
            samples: vec![Sample {
                labels: vec![],
                value: SampleValue::Number(streams.inflight.load(Ordering::Relaxed) as f64),
            }],
        },
        plain(
            "extproc_stream_duration_seconds",
            "[ALPHA] Duration of Process streams in seconds.",
            &streams.duration,
        ),
        Family {
            name: "extproc_streams_total",
            kind: Kind::Counter,
            help: "[ALPHA] Process streams that have ended, by gRPC status code.",
            label_names: &["code"],
            buckets: &[],
            samples: streams
                .ended()
                .map(|(code, count)| Sample {
                    labels: vec![code.into()],
                    value: SampleValue::Number(count as f64),
                })
                .collect(),
        },
    ]
}

fn labelled(series: &RequestSeries, extra: Option<&str>, value: SampleValue) -> Sample {
    Sample {
        labels: series
            .labels
            .iter()
            .cloned()
            .chain(extra.map(Arc::from))
            .collect(),
        value,
    }
}

fn numbers(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    requests: &[Arc<RequestSeries>],
    select: fn(&RequestSeries) -> &std::sync::atomic::AtomicU64,
) -> Family {
    // A series that was looked up but never used has nothing to show.
    let used = requests
        .iter()
        .filter(|series| series.total.load(Ordering::Relaxed) > 0);
    let samples = used
        .map(|series| {
            labelled(
                series,
                None,
                SampleValue::Number(select(series).load(Ordering::Relaxed) as f64),
            )
        })
        .collect();
    Family {
        name,
        kind,
        help,
        label_names: REQUEST,
        buckets: &[],
        samples,
    }
}

fn errors(requests: &[Arc<RequestSeries>]) -> Family {
    let samples = requests.iter().flat_map(|series| {
        series
            .errors()
            .into_iter()
            .map(|(code, count)| labelled(series, Some(&code), SampleValue::Number(count as f64)))
    });
    Family {
        name: "request_error_total",
        kind: Kind::Counter,
        help: "[ALPHA] Requests that ended in an error, by code.",
        label_names: ERROR,
        buckets: &[],
        samples: samples.collect(),
    }
}

fn request_histogram(
    (name, help, buckets, select): &RequestHistogram,
    requests: &[Arc<RequestSeries>],
) -> Family {
    let samples = requests
        .iter()
        .filter_map(|series| Some(labelled(series, None, select(series).observed()?)));
    Family {
        name,
        kind: Kind::Histogram,
        help,
        label_names: REQUEST,
        buckets,
        samples: samples.collect(),
    }
}

fn ttft(requests: &[Arc<RequestSeries>]) -> Family {
    let samples = requests.iter().flat_map(|series| {
        [
            ("false", &series.ttft_whole),
            ("true", &series.ttft_streaming),
        ]
        .into_iter()
        .filter_map(|(streaming, histogram)| {
            Some(labelled(series, Some(streaming), histogram.observed()?))
        })
    });
    Family {
        name: "request_ttft_seconds",
        kind: Kind::Histogram,
        help: "[ALPHA] Time to the first token in seconds; of responses that are not streamed, to the response.",
        label_names: TTFT,
        buckets: buckets::TTFT,
        samples: samples.collect(),
    }
}

fn plain(name: &'static str, help: &'static str, histogram: &Histogram) -> Family {
    let samples = vec![Sample {
        labels: Vec::new(),
        value: histogram.value(),
    }];
    Family {
        name,
        kind: Kind::Histogram,
        help,
        label_names: &[],
        buckets: histogram.bounds(),
        samples,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn family(stats: &Stats, name: &str) -> Family {
        stats
            .export()
            .into_iter()
            .find(|family| family.name == name)
            .expect("a family")
    }

    fn number(stats: &Stats, name: &str) -> Vec<f64> {
        let value = |sample: Sample| match sample.value {
            SampleValue::Number(number) => number,
            SampleValue::Histogram { sum, .. } => sum,
        };
        family(stats, name).samples.into_iter().map(value).collect()
    }

    #[test]
    fn a_request_shows_in_its_families_and_ends_at_zero_running() {
        let stats = Stats::new();
        let running = stats.series("m", "m-v2", "tenant", -1).started(8000);
        assert_eq!(number(&stats, "request_running"), [1.0]);
        running.input_tokens(2000);
        running.ttft(Duration::from_millis(200), true);
        running.error("ServiceUnavailable");
        drop(running);
        assert_eq!(
            (
                number(&stats, "request_running"),
                number(&stats, "request_total")
            ),
            (vec![0.0], vec![1.0])
        );
        let labels = |name: &str| family(&stats, name).samples[0].labels.clone();
        assert_eq!(
            labels("request_total"),
            ["m", "m-v2", "tenant", "-1"].map(Arc::from)
        );
        assert_eq!(
            labels("request_ttft_seconds"),
            ["m", "m-v2", "tenant", "-1", "true"].map(Arc::from)
        );
        assert_eq!(
            labels("request_error_total"),
            ["m", "m-v2", "tenant", "-1", "ServiceUnavailable"].map(Arc::from)
        );
        assert_eq!(
            (
                number(&stats, "request_size_bytes"),
                number(&stats, "request_input_tokens")
            ),
            (vec![8000.0], vec![2000.0])
        );
        assert!(
            family(&stats, "request_output_tokens").samples.is_empty(),
            "nothing was observed"
        );
    }

    #[test]
    fn every_family_is_consistent() {
        let stats = Stats::new();
        let running = stats.series("m", "m", "f", 0).started(1);
        running.duration(Duration::from_secs(1));
        running.tpot(Duration::from_millis(1));
        stats.scheduler_attempt("m", None);
        let name = "p".into();
        let prefixes = stats.prefix_producers([(&name, &name)].into_iter());
        prefixes[0].hit(0.5, 512);
        prefixes[0].set_entries(7);
        for family in stats.export() {
            assert!(family.help.starts_with("[ALPHA] "), "{}", family.name);
            assert_eq!(
                family.kind == Kind::Histogram,
                !family.buckets.is_empty(),
                "{}",
                family.name
            );
            assert_eq!(
                family.kind == Kind::Counter,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            for sample in &family.samples {
                assert_eq!(
                    sample.labels.len(),
                    family.label_names.len(),
                    "{}",
                    family.name
                );
                if let SampleValue::Histogram { cumulative, .. } = &sample.value {
                    assert_eq!(
                        cumulative.len(),
                        family.buckets.len() + 1,
                        "{}",
                        family.name
                    );
                    assert!(cumulative.is_sorted());
                }
            }
        }
        assert_eq!(
            (
                number(&stats, "prefix_indexer_size"),
                number(&stats, "prefix_indexer_hit_bytes")
            ),
            (vec![7.0], vec![512.0])
        );
    }

    #[test]
    fn label_values_are_capped_across_models_and_fairness_ids() {
        let stats = Stats::new();
        for number in 0..1500 {
            drop(
                stats
                    .series(
                        "base",
                        &format!("model-{number}"),
                        &format!("tenant-{number}"),
                        0,
                    )
                    .started(1),
            );
        }
        let samples = family(&stats, "request_total").samples;
        let distinct = |label: usize| {
            samples
                .iter()
                .map(|sample| &sample.labels[label])
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert_eq!(
            (distinct(1), distinct(2), samples.len()),
            (1000, 1001, 1001),
            "999 models beside `base`, and `other`"
        );
        assert_eq!(
            number(&stats, "request_total").iter().sum::<f64>() as u64,
            1500
        );
    }

    #[test]
    fn label_sets_are_capped_in_number() {
        let stats = Stats::new();
        for priority in 0..20_000 {
            drop(stats.series("m", "m", "f", priority).started(1));
        }
        assert_eq!(family(&stats, "request_total").samples.len(), 10_001);
        for priority in 0..20_000 {
            assert!(Arc::strong_count(&stats.series("m", "m", "f", priority)) >= 2);
        }
    }

    #[test]
    fn attempts_name_the_endpoint_or_the_failure() {
        let stats = Stats::new();
        let pool = crate::pool::Pool::new();
        let endpoint = pool.upsert(crate::pool::EndpointIdentity {
            namespace: "ns".into(),
            name: "e".into(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 8000,
            metrics_host: None,
            labels: std::collections::BTreeMap::new(),
        });
        stats.scheduler_attempt("m", Some(&endpoint));
        stats.scheduler_attempt("m", Some(&endpoint));
        stats.scheduler_attempt("m", None);
        let samples = family(&stats, "scheduler_attempts_total").samples;
        assert_eq!(
            samples[0].labels,
            ["failure", "m", "", "", ""].map(Arc::from)
        );
        assert_eq!(
            samples[1].labels,
            ["success", "m", "e", "ns", "8000"].map(Arc::from)
        );
        assert_eq!(samples[1].value, SampleValue::Number(2.0));
    }

    #[test]
    fn error_codes_are_capped() {
        let stats = Stats::new();
        let series = stats.series("m", "m", "f", 0);
        (0..100).for_each(|code| series.error(&code.to_string()));
        let samples = family(&stats, "request_error_total").samples;
        assert_eq!(
            (
                samples.len(),
                number(&stats, "request_error_total").iter().sum::<f64>()
            ),
            (33, 100.0)
        );
    }
}
