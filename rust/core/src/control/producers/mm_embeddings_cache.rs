//! `mm-embeddings-cache-producer`: which pictures, films and sounds each endpoint's encoder is expected to have cached, from what was sent to it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use lru::LruCache;
use parking_lot::Mutex;

use crate::Nanos;
use crate::body::{Medium, MediumKind};
use crate::control::{Chosen, EndpointProducer, PreRequest, RequestEdits};
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::pool::{Endpoint, Snapshot};
use crate::schedule::{Candidates, Context, RequestFacts};
use crate::stats::{Family, FamilySource, Histogram, Kind, RATIO, Sample, SampleValue};

const TYPE_NAME: &str = "mm-embeddings-cache-producer";

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: TYPE_NAME,
    roles: &[Role::Producer, Role::PreRequest],
    summary: "Remembers which media were sent to which endpoint and tells what share of a request's media, by number, an endpoint's encoder has cached.",
    parameters: &[ParameterKind {
        name: "cacheSizeInMBPerServer",
        shape: Shape::Integer {
            least: i64::MIN,
            most: 1 << 30,
        },
        default: "4096",
        unit: "MiB",
        summary: "Size of a model server's encoder cache; one medium for each 2 MiB is remembered. 0 and less: the default.",
        ..ParameterKind::BASE
    }],
    consumes: &[Data::TokenizedPrompt],
    produces: Some(Data::EncoderMatch),
    build: |parameters| {
        let mebibytes = match parameters.integer("cacheSizeInMBPerServer") {
            ..=0 => DEFAULT_MEBIBYTES,
            size => size,
        };
        let entries = usize::try_from(mebibytes / MEBIBYTES_PER_MEDIUM).unwrap_or(usize::MAX);
        let cache = Arc::new(EncoderCaches::new(
            parameters.plugin(),
            NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN),
        ));
        Ok(Parts {
            columns: Some(Arc::<EncoderCaches>::clone(&cache)),
            families: Some(Arc::<EncoderCaches>::clone(&cache)),
            ..Parts::default()
        }
        .with_pre_request(cache))
    },
    ..PluginKind::BASE
};

const DEFAULT_MEBIBYTES: i64 = 4096;
/// Taken for the size of a medium's embeddings, as in the reference.
const MEBIBYTES_PER_MEDIUM: i64 = 2;
/// What endpoints that are gone held is forgotten this often.
const SWEEP: Duration = Duration::from_secs(120);

/// A number for each kind of medium, in the order of [`MediumKind::ALL`].
type ByKind = [u64; MediumKind::ALL.len()];

/// What each endpoint's encoder cache is expected to hold.
#[derive(Debug)]
pub struct EncoderCaches {
    plugin: Arc<str>,
    /// Media remembered of an endpoint.
    entries: NonZeroUsize,
    state: Mutex<State>,
    hit_ratio: Histogram,
}

#[derive(Debug, Default)]
struct State {
    /// By the endpoint's authority.
    caches: HashMap<Box<str>, EncoderCache>,
    swept: Nanos,
    /// Media that were looked up.
    queries: ByKind,
}

/// One endpoint's.
#[derive(Debug)]
struct EncoderCache {
    /// `namespace/name` of the endpoint.
    pod: Arc<str>,
    /// Hashes of media.
    held: LruCache<u64, ()>,
    /// Media that were looked up and found. Goes with the endpoint, as in the reference.
    hits: ByKind,
}

impl EncoderCaches {
    /// Nothing cached anywhere. `plugin`: name in the configuration; `entries`: media remembered of an endpoint.
    pub fn new(plugin: &str, entries: NonZeroUsize) -> Self {
        Self {
            plugin: plugin.into(),
            entries,
            state: Mutex::default(),
            hit_ratio: Histogram::new(RATIO),
        }
    }

    /// Counts what the request found where before it is sent. The reference counts before it decides, so also what is then refused.
    fn count(&self, state: &mut State, context: &Context<'_>) {
        let media = &context.request.media;
        for medium in media {
            state.queries[medium.kind as usize] += 1;
        }
        for cache in state.caches.values_mut() {
            for medium in media
                .iter()
                .filter(|medium| cache.held.contains(&medium.hash))
            {
                cache.hits[medium.kind as usize] += 1;
            }
        }
        let rows = 0..context.candidates.len();
        for endpoint in rows.filter_map(|row| context.endpoint(row)) {
            self.hit_ratio.observe(state.share(endpoint, media));
        }
    }
}

impl State {
    /// Of these media (at least one), the share that the endpoint holds. Each counts the same, as in the reference.
    fn share(&self, endpoint: &Endpoint, media: &[Medium]) -> f64 {
        self.caches.get(&endpoint.authority).map_or(0.0, |cache| {
            let held = |medium: &&Medium| cache.held.contains(&medium.hash);
            media.iter().filter(held).count() as f64 / media.len() as f64
        })
    }
}

impl EndpointProducer for EncoderCaches {
    fn produce(&self, request: &RequestFacts, snapshot: &Snapshot, candidates: &mut Candidates) {
        candidates.media_matched.clear();
        if request.media.is_empty() {
            return;
        }
        let state = self.state.lock();
        let shares = candidates.position.iter().map(|position| {
            let endpoint = &snapshot.endpoints[*position as usize];
            state.share(endpoint, &request.media)
        });
        candidates.media_matched.extend(shares);
    }
}

impl PreRequest for EncoderCaches {
    fn pre_request(&self, context: &Context<'_>, chosen: &Chosen<'_>, _edits: &mut RequestEdits) {
        let media = &context.request.media;
        if media.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        self.count(&mut state, context);
        let Some(endpoint) = context.endpoint(chosen.ranked[0] as usize) else {
            return;
        };
        if context.now - state.swept >= SWEEP {
            state.swept = context.now;
            let live = |authority: &str| context.snapshot.by_authority(authority).is_some();
            state.caches.retain(|authority, _| live(authority));
        }
        let cache = state
            .caches
            .entry(endpoint.authority.clone())
            .or_insert_with(|| EncoderCache {
                pod: format!("{}/{}", endpoint.identity.namespace, endpoint.identity.name).into(),
                held: LruCache::new(self.entries),
                hits: ByKind::default(),
            });
        for medium in media {
            cache.held.put(medium.hash, ());
        }
    }
}

impl FamilySource for EncoderCaches {
    fn families(&self, _snapshot: &Snapshot) -> Vec<Family> {
        let own = || vec![Arc::from(TYPE_NAME), Arc::clone(&self.plugin)];
        // Endpoints may share a name after one of them moved to another address.
        let mut hits: BTreeMap<Arc<str>, ByKind> = BTreeMap::new();
        let queries = {
            let state = self.state.lock();
            for cache in state.caches.values() {
                let sums = hits.entry(Arc::clone(&cache.pod)).or_default();
                for (sum, hits) in sums.iter_mut().zip(cache.hits) {
                    *sum += hits;
                }
            }
            state.queries
        };
        let counted = |counts: ByKind, labels: Vec<Arc<str>>| {
            let kinds = MediumKind::ALL.into_iter().zip(counts);
            kinds
                .filter(|(_, count)| *count > 0)
                .map(move |(kind, count)| Sample {
                    labels: [labels.clone(), vec![kind.name().into()]].concat(),
                    value: SampleValue::Number(count as f64),
                })
        };
        let ratio = self.hit_ratio.observed().map(|value| Sample {
            labels: own(),
            value,
        });
        vec![
            Family {
                name: "encoder_cache_queries_total",
                kind: Kind::Counter,
                help: "[ALPHA] Pictures, films and sounds of requests that were looked up in the memory of what encoders hold.",
                label_names: &["plugin_type", "plugin_name", "modality"],
                buckets: &[],
                samples: counted(queries, own()).collect(),
            },
            Family {
                name: "encoder_cache_hits_total",
                kind: Kind::Counter,
                help: "[ALPHA] Those that an endpoint's encoder was expected to hold.",
                label_names: &["plugin_type", "plugin_name", "pod", "modality"],
                buckets: &[],
                samples: hits
                    .into_iter()
                    .flat_map(|(pod, hits)| counted(hits, [own(), vec![pod]].concat()))
                    .collect(),
            },
            Family {
                name: "encoder_cache_hit_ratio",
                kind: Kind::Histogram,
                help: "[ALPHA] Share of a request's pictures, films and sounds that an endpoint's encoder was expected to hold, of every candidate.",
                label_names: &["plugin_type", "plugin_name"],
                buckets: RATIO,
                samples: ratio.into_iter().collect(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn medium(hash: u64, tokens: u32) -> Medium {
        Medium {
            kind: MediumKind::Image,
            hash,
            tokens,
        }
    }

    /// Sends media to a row.
    fn send(parts: &Parts, scene: &mut Scene, row: u32, media: Vec<Medium>) {
        scene.request.media = media;
        let chosen = Chosen {
            ranked: &[row],
            profile: "default",
        };
        let plugin = parts.pre_request.as_ref().expect("pre-request");
        plugin.pre_request(&scene.context(), &chosen, &mut RequestEdits::default());
    }

    fn matched(parts: &Parts, scene: &mut Scene, media: Vec<Medium>) -> Vec<f64> {
        scene.request.media = media;
        let plugin = parts.columns.as_ref().expect("columns");
        plugin.produce(&scene.request, &scene.snapshot, &mut scene.candidates);
        scene.candidates.media_matched.clone()
    }

    #[test]
    fn the_share_is_by_number_and_only_of_what_was_sent_there() {
        let parts = built(&KIND, &json!({}));
        let mut scene = Scene::new(3);
        send(&parts, &mut scene, 1, vec![medium(1, 4500)]);
        send(&parts, &mut scene, 2, vec![medium(1, 4500), medium(2, 225)]);
        // As the reference: a film has no more say than a picture.
        let both = vec![medium(1, 4500), medium(2, 225)];
        assert_eq!(matched(&parts, &mut scene, both), [0.0, 0.5, 1.0]);
        assert!(matched(&parts, &mut scene, Vec::new()).is_empty());
    }

    #[test]
    fn look_ups_hits_and_ratios_are_counted_before_a_request_is_remembered() {
        let parts = built(&KIND, &json!({}));
        let mut scene = Scene::new(2);
        let film = Medium {
            kind: MediumKind::Video,
            ..medium(2, 1)
        };
        send(&parts, &mut scene, 1, vec![medium(1, 1)]);
        send(&parts, &mut scene, 1, vec![medium(1, 1), film]);
        send(&parts, &mut scene, 0, Vec::new());
        let source = parts.families.as_ref().expect("families");
        let told: Vec<_> = source
            .families(&scene.snapshot)
            .into_iter()
            .map(|family| {
                let samples = family.samples.into_iter();
                let samples = samples.map(|sample| (sample.labels.join(" "), sample.value));
                (family.name, samples.collect::<Vec<_>>())
            })
            .collect();
        let own = |rest: &str| format!("mm-embeddings-cache-producer mine{rest}");
        let number = SampleValue::Number;
        // Of two candidates each: none; then half at the second one.
        let mut cumulative = vec![3; 5];
        cumulative.extend([4; 7]);
        assert_eq!(
            told,
            [
                (
                    "encoder_cache_queries_total",
                    vec![(own(" image"), number(2.0)), (own(" video"), number(1.0))]
                ),
                (
                    "encoder_cache_hits_total",
                    vec![(own(" default/endpoint-002 image"), number(1.0))]
                ),
                (
                    "encoder_cache_hit_ratio",
                    vec![(
                        own(""),
                        SampleValue::Histogram {
                            cumulative,
                            sum: 0.5
                        }
                    )]
                ),
            ]
        );
    }

    #[test]
    fn the_longest_unused_medium_is_forgotten_first() {
        let parts = built(&KIND, &json!({"cacheSizeInMBPerServer": 4}));
        let mut scene = Scene::new(1);
        for hash in [1, 2, 1, 3] {
            send(&parts, &mut scene, 0, vec![medium(hash, 1)]);
        }
        for (hash, share) in [(1, 1.0), (2, 0.0), (3, 1.0)] {
            assert_eq!(matched(&parts, &mut scene, vec![medium(hash, 1)]), [share]);
        }
    }

    #[test]
    fn endpoints_that_are_gone_are_forgotten() {
        let parts = built(&KIND, &json!({"cacheSizeInMBPerServer": 0}));
        let mut before = Scene::new(2);
        before.now = Nanos(1);
        send(&parts, &mut before, 1, vec![medium(1, 1)]);
        let mut after = Scene::new(1);
        after.now = Nanos(SWEEP.as_nanos() as u64 * 2);
        send(&parts, &mut after, 0, vec![medium(2, 1)]);
        assert_eq!(matched(&parts, &mut before, vec![medium(1, 1)]), [0.0, 0.0]);
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        assert_eq!(
            refused(&KIND, &json!({"cacheSizeInMBPerServer": "4Gi"})),
            "cacheSizeInMBPerServer: must be a whole number of at most 1073741824, not \"4Gi\""
        );
    }
}
