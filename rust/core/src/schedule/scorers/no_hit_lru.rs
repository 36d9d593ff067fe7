//! `no-hit-lru-scorer`: spread requests that no cache knows over the endpoints that took none of them for longest.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::control::{Chosen, PreRequest, RequestEdits};
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::pool::EndpointIdentity;
use crate::schedule::{Context, Scorer};

/// Endpoints remembered where `lruSize` says 0 or less, as in the reference.
const DEFAULT_SIZE: usize = 1024;

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "no-hit-lru-scorer",
    roles: &[Role::Scorer, Role::PreRequest],
    summary: "0.5 for all where any endpoint holds some of the prompt; else from 1 for the endpoint without such a request for longest down to 0.",
    parameters: &[
        ParameterKind {
            name: "lruSize",
            shape: Shape::Integer {
                least: i64::MIN,
                most: 1 << 20,
            },
            default: "1024",
            unit: "endpoints",
            summary: "Endpoints whose last request without a cached prefix is remembered; 0 or less means the default.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixMatchInfoProducerName",
            shape: Shape::ProducerName(Data::PrefixMatch),
            summary: "Whose matches tell what is cached.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixPluginType",
            summary: "Read and not used, as in the reference.",
            deprecated: Some("nothing: it has no effect"),
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixPluginName",
            summary: "Read and not used, as in the reference.",
            deprecated: Some("prefixMatchInfoProducerName"),
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch],
    build: |parameters| {
        let size = usize::try_from(parameters.integer("lruSize"))
            .ok()
            .filter(|size| *size > 0)
            .unwrap_or(DEFAULT_SIZE);
        let producer = parameters.optional_text("prefixMatchInfoProducerName");
        let scorer = Arc::new(NoHitLruScorer::new(size, producer));
        Ok(Parts::default()
            .with_scorer(Arc::clone(&scorer) as _)
            .with_pre_request(scorer))
    },
    ..PluginKind::BASE
};

/// Warm (a candidate with a matched block): 0.5 for all. Cold: endpoints without a cold request so far get `1 − i/(n − 1)` in their order, the others
/// `max(0, 1 − rank/(n − 1))` with rank = number of the former + place among all that are remembered, the oldest 0; a single endpoint 1.
#[derive(Debug)]
pub struct NoHitLruScorer {
    size: usize,
    producer: Option<Box<str>>,
    /// Of the hash of names.
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Hashed `namespace/name` of endpoints, the one with the oldest cold request first.
    order: Vec<u64>,
    /// Place of each in `order`.
    places: HashMap<u64, u32>,
    /// Place of each candidate, kept between requests so that none allocates.
    found: Vec<Option<u32>>,
    /// Hashed id of the request that was scored last, and whether it was cold: the same critical section goes on to the choice.
    scored: Option<(u64, bool)>,
}

impl NoHitLruScorer {
    /// Remembers up to `size` endpoints (at least 1). `producer`: whose matches tell what is cached.
    pub fn new(size: usize, producer: Option<&str>) -> Self {
        Self {
            size: size.max(1),
            producer: producer.map(Box::from),
            seed: fastrand::u64(..),
            state: Mutex::default(),
        }
    }

    fn key(&self, endpoint: &EndpointIdentity) -> u64 {
        let namespace = xxh3_64_with_seed(endpoint.namespace.as_bytes(), self.seed);
        xxh3_64_with_seed(endpoint.name.as_bytes(), namespace)
    }
}

impl State {
    fn touch(&mut self, key: u64, size: usize) {
        let from = match self.places.get(&key) {
            Some(place) => *place as usize,
            None if self.order.len() >= size => {
                self.places.remove(&self.order[0]);
                0
            }
            None => {
                self.places.insert(key, self.order.len() as u32);
                self.order.push(key);
                return;
            }
        };
        self.order.remove(from);
        self.order.push(key);
        for (place, key) in self.order.iter().enumerate().skip(from) {
            self.places.insert(*key, place as u32);
        }
    }
}

impl Scorer for NoHitLruScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let prefix = context.prefix(self.producer.as_deref());
        let cold = prefix.blocks.iter().all(|blocks| *blocks == 0);
        let mut state = self.state.lock();
        state.scored = Some((xxh3_64(&context.request.request_id), cold));
        if !cold {
            scores.fill(0.5);
            return;
        }
        let last = scores.len().saturating_sub(1);
        if last == 0 {
            scores.fill(1.0);
            return;
        }
        let State { places, found, .. } = &mut *state;
        found.clear();
        found.extend((0..scores.len()).map(|row| {
            let endpoint = context.endpoint(row)?;
            places.get(&self.key(&endpoint.identity)).copied()
        }));
        let never_used = found.iter().filter(|place| place.is_none()).count() as u32;
        let mut next_never_used = 0;
        for (score, place) in scores.iter_mut().zip(found) {
            let rank = if let Some(place) = place {
                never_used + *place
            } else {
                next_never_used += 1;
                next_never_used - 1
            };
            *score = (1.0 - f64::from(rank) / last as f64).max(0.0);
        }
    }
}

impl PreRequest for NoHitLruScorer {
    fn pre_request(&self, context: &Context<'_>, chosen: &Chosen<'_>, _edits: &mut RequestEdits) {
        let mut state = self.state.lock();
        let scored = state.scored.take();
        // A profile without this scorer has told nothing of the request.
        if scored != Some((xxh3_64(&context.request.request_id), true)) {
            return;
        }
        let first = chosen.ranked.first();
        if let Some(endpoint) = first.and_then(|row| context.endpoint(*row as usize)) {
            let key = self.key(&endpoint.identity);
            state.touch(key, self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn choose(plugin: &Parts, scene: &Scene, row: u32) {
        let chosen = Chosen {
            ranked: &[row],
            profile: "default",
        };
        let part = plugin.pre_request.as_ref().expect("a pre-request part");
        part.pre_request(&scene.context(), &chosen, &mut RequestEdits::default());
    }

    /// Scores a cold request and sends it to that row.
    fn sent(plugin: &Parts, scene: &Scene, row: u32) -> Vec<f64> {
        let scores = scene.rated(plugin);
        choose(plugin, scene, row);
        scores
    }

    #[test]
    fn cold_requests_go_where_none_went_for_longest() {
        let plugin = built(&KIND, &json!({}));
        let scene = Scene::new(3);
        // Nobody was used: in list order.
        assert_eq!(sent(&plugin, &scene, 1), [1.0, 0.5, 0.0]);
        // Used: only the second. Two before it: rank 2 of 2.
        assert_eq!(sent(&plugin, &scene, 0), [1.0, 0.0, 0.5]);
        // Used: the second, then the first.
        assert_eq!(sent(&plugin, &scene, 2), [0.0, 0.5, 1.0]);
        // All used, oldest first: second, first, third.
        assert_eq!(sent(&plugin, &scene, 1), [0.5, 1.0, 0.0]);
        assert_eq!(sent(&plugin, &scene, 1), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn a_warm_request_is_neutral_and_leaves_the_order() {
        let plugin = built(&KIND, &json!({}));
        let mut scene = Scene::new(3);
        sent(&plugin, &scene, 0);
        scene.set_matched(vec![0, 0, 1]);
        assert_eq!(sent(&plugin, &scene, 2), [0.5, 0.5, 0.5]);
        scene.set_matched(vec![0; 3]);
        assert_eq!(scene.rated(&plugin), [0.0, 1.0, 0.5]);
    }

    #[test]
    fn remembered_endpoints_that_are_no_candidates_count_in_the_rank() {
        let plugin = built(&KIND, &json!({}));
        let mut scene = Scene::new(4);
        for row in [3, 2, 0] {
            sent(&plugin, &scene, row);
        }
        // Oldest first: fourth, third, first. The ranks are 1 + 2 for the first, and 2 would be the last of three candidates.
        scene.candidates.position = vec![0, 1];
        scene.set_matched(vec![0; 2]);
        assert_eq!(scene.rated(&plugin), [0.0, 1.0]);
    }

    #[test]
    fn one_endpoint_gets_all() {
        let plugin = built(&KIND, &json!({}));
        let scene = Scene::new(1);
        assert_eq!(sent(&plugin, &scene, 0), [1.0]);
        assert_eq!(sent(&plugin, &scene, 0), [1.0]);
    }

    #[test]
    fn only_the_request_that_was_scored_counts() {
        let plugin = built(&KIND, &json!({}));
        let mut scene = Scene::new(2);
        scene.request.request_id = "scored".into();
        scene.rated(&plugin);
        scene.request.request_id = "another".into();
        choose(&plugin, &scene, 0);
        assert_eq!(scene.rated(&plugin), [1.0, 0.0], "nobody was used");
        choose(&plugin, &scene, 0);
        choose(&plugin, &scene, 1);
        assert_eq!(scene.rated(&plugin), [0.0, 1.0], "told once");
    }

    #[test]
    fn beyond_its_size_the_oldest_is_forgotten() {
        let plugin = built(&KIND, &json!({"lruSize": 2}));
        let scene = Scene::new(3);
        for row in [0, 1, 2] {
            sent(&plugin, &scene, row);
        }
        // The first counts as never used again.
        assert_eq!(sent(&plugin, &scene, 2), [1.0, 0.5, 0.0]);
        assert_eq!(sent(&plugin, &scene, 1), [1.0, 0.5, 0.0]);
        assert_eq!(scene.rated(&plugin), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn sizes_without_sense_mean_the_default_and_huge_ones_are_refused() {
        for size in [0, -5] {
            let plugin = built(&KIND, &json!({"lruSize": size}));
            let scene = Scene::new(3);
            for row in [0, 1, 2] {
                sent(&plugin, &scene, row);
            }
            assert_eq!(scene.rated(&plugin), [1.0, 0.5, 0.0]);
        }
        assert_eq!(
            refused(&KIND, &json!({"lruSize": 1e9})),
            "lruSize: must be a whole number of at most 1048576, not 1000000000.0"
        );
    }
}
