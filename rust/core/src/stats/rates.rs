//! What the default policy has learnt of the endpoints, and from which signals.

use std::sync::Arc;

use super::family::{Family, FamilySource, Kind, Sample, SampleValue};
use crate::Nanos;
use crate::learn::{Rates, Signal};
use crate::pool::{Endpoint, Snapshot};

const ENDPOINT: &[&str] = &["name", "namespace", "port"];

/// The learnt rates as gauges: there from the start, since what is learnt does not depend on the policy in force.
#[derive(Debug)]
pub(crate) struct RateFamilies {
    rates: Arc<Rates>,
    /// A signal that was silent for a minute is none.
    clock: fn() -> Nanos,
}

impl RateFamilies {
    /// Of the pool whose rates these are.
    pub(crate) fn new(rates: Arc<Rates>, clock: fn() -> Nanos) -> Self {
        Self { rates, clock }
    }
}

impl FamilySource for RateFamilies {
    fn families(&self, snapshot: &Snapshot) -> Vec<Family> {
        let now = (self.clock)();
        let mut counts = Signal::ALL.map(|signal| (signal, 0_u32));
        for endpoint in &snapshot.endpoints {
            let signal = endpoint.signal(now);
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == signal) {
                *count += 1;
            }
        }
        let signals = counts.map(|(signal, count)| Sample {
            labels: vec![signal.name().into()],
            value: SampleValue::Number(f64::from(count)),
        });
        let output = Sample {
            labels: Vec::new(),
            value: SampleValue::Number(self.rates.curve().output_tokens),
        };
        vec![
            gauge(
                "policy_signal_endpoints",
                "[ALPHA] Endpoints by the best signal of first tokens that was heard of them in the last minute: first_token of every answer, \
                 sampled of a share of them, kv_events, counters of the engine's page, only the ends of answers, or none.",
                &["signal"],
                signals.into(),
            ),
            gauge(
                "policy_prefill_tokens_per_second",
                "[ALPHA] Prompt tokens that the endpoint is expected to prefill in a second, as learnt.",
                ENDPOINT,
                of_each(snapshot, Endpoint::prefill_rate),
            ),
            gauge(
                "policy_decode_seconds_per_token",
                "[ALPHA] Seconds that the endpoint is expected to take for an output token of a request, with the requests in flight there now, as learnt.",
                ENDPOINT,
                of_each(snapshot, Endpoint::decode_seconds_per_token),
            ),
            gauge(
                "policy_output_tokens",
                "[ALPHA] Output tokens that an answer is expected to have, as learnt.",
                &[],
                vec![output],
            ),
        ]
    }
}

fn gauge(
    name: &'static str,
    help: &'static str,
    label_names: &'static [&'static str],
    samples: Vec<Sample>,
) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        help,
        label_names,
        buckets: &[],
        samples,
    }
}

fn of_each(snapshot: &Snapshot, value: fn(&Endpoint) -> f64) -> Vec<Sample> {
    let endpoints = snapshot.endpoints.iter();
    let samples = endpoints.map(|endpoint| Sample {
        labels: vec![
            (&*endpoint.identity.name).into(),
            (&*endpoint.identity.namespace).into(),
            endpoint.identity.port.to_string().into(),
        ],
        value: SampleValue::Number(value(endpoint)),
    });
    samples.collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::pool::{EndpointIdentity, EngineMetrics, Pool, Reservation};

    #[test]
    fn endpoints_are_counted_by_their_signal_and_show_their_rates() {
        let pool = Pool::new();
        let endpoints: Vec<Arc<Endpoint>> = (1..=3)
            .map(|number| {
                pool.upsert(EndpointIdentity {
                    namespace: "default".into(),
                    name: format!("e{number}").into(),
                    address: Ipv4Addr::new(10, 0, 0, number).into(),
                    port: 8000,
                    metrics_host: None,
                    labels: std::collections::BTreeMap::new(),
                })
            })
            .collect();
        Reservation::reserve(&endpoints[0], 9, 0, Nanos(1)).first_token(Nanos(2));
        let counted = EngineMetrics {
            first_tokens: Some(1.0),
            ..EngineMetrics::default()
        };
        endpoints[1].refresh(counted, Nanos(2));
        let source = RateFamilies::new(Arc::clone(pool.rates()), || Nanos(3));
        let families = source.families(&pool.snapshot());
        let numbers = |family: usize| -> Vec<(String, f64)> {
            let samples = families[family].samples.iter();
            let number = |sample: &Sample| match sample.value {
                SampleValue::Number(number) => (sample.labels.join("/"), number),
                SampleValue::Histogram { .. } => panic!("a gauge"),
            };
            samples.map(number).collect()
        };
        let signals = [
            "first_token",
            "sampled",
            "kv_events",
            "counters",
            "ends",
            "none",
        ];
        let expected = signals.into_iter().zip([1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let expected: Vec<(String, f64)> = expected
            .map(|(signal, count)| (signal.to_owned(), count))
            .collect();
        assert_eq!(numbers(0), expected);
        for family in [1, 2] {
            let labels: Vec<String> = numbers(family)
                .into_iter()
                .map(|(labels, _)| labels)
                .collect();
            assert_eq!(
                labels,
                ["e1/default/8000", "e2/default/8000", "e3/default/8000"]
            );
            assert!(
                numbers(family)
                    .iter()
                    .all(|(_, number)| *number > 0.0 && number.is_finite())
            );
        }
        assert_eq!(numbers(3), [(String::new(), 100.0)]);
    }
}
