//! A picker with an exact index, its endpoints and what is asked of it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use warmroute_core::engine::{Decision, Inquiry, PolicySpec, Settings};
use warmroute_core::exchange::{Header, Refusal};
use warmroute_core::kv_events::Engine as Form;
use warmroute_core::plugin::Externals;
use warmroute_core::pool::EndpointIdentity;
use warmroute_core::schedule::RequestFacts;
use warmroute_core::stats::SampleValue;
use warmroute_core::tokens::{TokenSequence, TokenizeError};
use warmroute_core::{Engine, Nanos};

use crate::wire::{Publisher, Value, prompt, stored_map};

/// Tokens in a block, where a test says nothing else.
pub(crate) const SIZE: u32 = 16;
pub(crate) const EXACT: &str = "precise-prefix-cache-producer";

pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) model: &'a str,
    pub(crate) salt: Option<&'a str>,
    pub(crate) tokens: Option<Result<Vec<TokenSequence>, TokenizeError>>,
    /// Numbers of the endpoints that the gateway allows; none: all.
    pub(crate) among: &'a [u8],
    pub(crate) headers: &'a [(&'static str, &'static str)],
    pub(crate) now: Nanos,
}

impl Ask<'_> {
    pub(crate) fn of(ids: &[u32]) -> Self {
        Self {
            model: "tiny",
            salt: None,
            tokens: Some(Ok(vec![prompt(ids)])),
            among: &[],
            headers: &[],
            now: Nanos(0),
        }
    }
}

/// A policy whose scorer goes by the exact producer; `more` plugins beside them.
pub(crate) fn policy(parameters: &Json, more: &[Json]) -> PolicySpec {
    let named = json!({"prefixMatchInfoProducerName": EXACT});
    let mut plugins = vec![
        json!({"type": EXACT, "parameters": parameters}),
        json!({"type": "prefix-cache-scorer", "parameters": named}),
    ];
    plugins.extend_from_slice(more);
    let profile = json!({"name": "default", "plugins": [{"plugin": "prefix-cache-scorer"}]});
    serde_json::from_value(json!({"plugins": plugins, "profiles": [profile]})).expect("a policy")
}

pub(crate) fn identity(number: u8) -> EndpointIdentity {
    EndpointIdentity {
        namespace: "default".into(),
        name: format!("endpoint-{number}").into(),
        address: [10, 0, 0, number].into(),
        port: 8000,
        metrics_host: None,
        labels: std::collections::BTreeMap::new(),
    }
}

impl Gateway {
    pub(crate) fn new(policy: &PolicySpec, endpoints: u8) -> Self {
        Self::at(|| Nanos(0), policy, endpoints, &Externals::new())
    }

    pub(crate) fn at(
        clock: fn() -> Nanos,
        policy: &PolicySpec,
        endpoints: u8,
        externals: &Externals,
    ) -> Self {
        let settings = Settings::default();
        let engine = Engine::new(settings, policy, externals, clock).expect("a valid policy");
        for number in 1..=endpoints {
            engine.upsert_endpoint(identity(number)).expect("room");
        }
        Self {
            engine: Arc::new(engine),
        }
    }

    /// Slot of an endpoint by its number.
    pub(crate) fn slot(&self, number: u8) -> u32 {
        let snapshot = self.engine.pool().snapshot();
        let authority = format!("10.0.0.{number}:8000");
        snapshot.by_authority(&authority).expect("there").slot
    }

    /// A publisher of an endpoint, by its number.
    pub(crate) fn publisher(&self, number: u8, rank: u32, form: Form) -> Publisher<'_> {
        Publisher::open(self.engine.kv_events(), self.slot(number), rank, form)
    }

    /// The endpoint tells that it holds a prompt in blocks of a size, with these fields beside the required ones.
    pub(crate) fn holds<'a>(
        &'a self,
        number: u8,
        ids: &[u32],
        size: u32,
        fields: Vec<(&str, Value)>,
    ) -> Publisher<'a> {
        let mut publisher = self.publisher(number, 0, Form::Vllm);
        publisher.send(vec![stored(ids, size, fields)]);
        publisher
    }

    pub(crate) fn try_ask(&self, ask: &Ask<'_>) -> Result<Decision, Refusal> {
        let active = self.engine.active();
        let ids = ask.tokens.iter().flatten().flatten();
        let ids: Vec<&[u32]> = ids.map(|one| &one.tokens[..]).collect();
        let headers = ask.headers.iter().map(|(key, value)| Header {
            key: Bytes::from(*key),
            value: Bytes::from(*value),
        });
        let among = ask.among.iter();
        let among: Vec<Box<str>> = among
            .map(|number| format!("10.0.0.{number}:8000").into())
            .collect();
        let request_id = Bytes::from_static(b"id");
        // As the body's scanner has them: an id for each 64 tokens.
        let chunks = ids.iter().map(|ids| ids.chunks(64));
        let sequences: Vec<Vec<u64>> = chunks
            .map(|chunks| {
                chunks
                    .map(|ids| ids.iter().map(|id| u64::from(*id)).sum())
                    .collect()
            })
            .collect();
        self.engine.decide(&Inquiry {
            active: &active,
            facts: RequestFacts {
                target_model: ask.model.into(),
                prompt_tokens: ids.iter().map(|ids| ids.len() as u32).sum(),
                headers: headers.collect(),
                request_id: request_id.clone(),
                ..RequestFacts::default()
            },
            sequences: &sequences,
            cache_salt: ask.salt,
            tokens: ask.tokens.clone(),
            subset_hint: (!among.is_empty()).then_some(&among[..]),
            request_id: &request_id,
            explain: false,
            now: ask.now,
        })
    }

    /// Number of the endpoint that is chosen, and the prompt's tokens that count as held there.
    pub(crate) fn ask(&self, ask: &Ask<'_>) -> (u8, u32) {
        let decision = self.try_ask(ask).expect("an endpoint");
        let all = ask.tokens.iter().flatten().flatten();
        let all: u32 = all.map(|one| one.tokens.len() as u32).sum();
        let chosen = std::str::from_utf8(&decision.destination).expect("text");
        let number = chosen
            .strip_prefix("10.0.0.")
            .and_then(|rest| rest.split(':').next());
        let number = number
            .and_then(|number| number.parse().ok())
            .expect("one of ours");
        (number, all - decision.reservation.uncached_tokens())
    }

    /// Tokens of a prompt that count as held at an endpoint.
    pub(crate) fn cached(&self, number: u8, ask: Ask<'_>) -> u32 {
        let among = [number];
        let (chosen, cached) = self.ask(&Ask {
            among: &among,
            ..ask
        });
        assert_eq!(chosen, number);
        cached
    }

    /// A number of the metrics page, by its family and labels: that of a counter or gauge, or the count of a histogram.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<u64> {
        let families = self.engine.stats().export();
        let family = families.into_iter().find(|family| family.name == name)?;
        let mut samples = family.samples.into_iter();
        let sample = samples.find(|sample| {
            sample
                .labels
                .iter()
                .map(|label| &**label)
                .eq(labels.iter().copied())
        })?;
        match sample.value {
            SampleValue::Number(number) => Some(number as u64),
            SampleValue::Histogram { cumulative, .. } => cumulative.last().copied(),
        }
    }
}

/// The engine's own hash of the block that ends after these tokens.
pub(crate) fn own(ids: &[u32], size: u32) -> u64 {
    let fold = |hash: u64, id: &u32| (hash ^ u64::from(*id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ids.iter().fold(u64::from(size) + 1, fold) | 1
}

/// All full blocks of a prompt.
pub(crate) fn stored(ids: &[u32], size: u32, fields: Vec<(&str, Value)>) -> Value {
    let blocks = ids.len() / size as usize;
    let ids = &ids[..blocks * size as usize];
    let ends = (1..=blocks).map(|block| own(&ids[..block * size as usize], size));
    stored_map(&ends.collect::<Vec<_>>(), None, ids, size, fields)
}
