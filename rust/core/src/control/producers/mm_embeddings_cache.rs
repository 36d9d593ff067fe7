//! `mm-embeddings-cache-producer`: which pictures, films and sounds each endpoint's encoder is expected to have cached, from what was sent to it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use lru::LruCache;
use parking_lot::Mutex;

use crate::Nanos;
use crate::control::{Chosen, EndpointProducer, PreRequest, RequestEdits};
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::pool::Snapshot;
use crate::schedule::{Candidates, Context, RequestFacts};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "mm-embeddings-cache-producer",
    roles: &[Role::Producer, Role::PreRequest],
    summary: "Remembers which media were sent to which endpoint and tells what share of a request's media an endpoint's encoder has cached.",
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
            NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN),
        ));
        Ok(Parts {
            columns: Some(Arc::<EncoderCaches>::clone(&cache)),
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

/// What each endpoint's encoder cache is expected to hold.
#[derive(Debug)]
pub struct EncoderCaches {
    /// Media remembered of an endpoint.
    entries: NonZeroUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Hashes of media by the endpoint's authority.
    caches: HashMap<Box<str>, LruCache<u64, ()>>,
    swept: Nanos,
}

impl EncoderCaches {
    /// Nothing cached anywhere.
    pub fn new(entries: NonZeroUsize) -> Self {
        Self {
            entries,
            state: Mutex::default(),
        }
    }
}

impl EndpointProducer for EncoderCaches {
    fn produce(&self, request: &RequestFacts, snapshot: &Snapshot, candidates: &mut Candidates) {
        candidates.media_matched.clear();
        if request.media.is_empty() {
            return;
        }
        // Sizes in placeholder tokens, so that a film counts for more than a picture.
        let total: f64 = request
            .media
            .iter()
            .map(|medium| f64::from(medium.tokens))
            .sum();
        let state = self.state.lock();
        let shares = candidates.position.iter().map(|position| {
            let endpoint = &snapshot.endpoints[*position as usize];
            let Some(cache) = state.caches.get(&endpoint.authority) else {
                return 0.0;
            };
            let held = request
                .media
                .iter()
                .filter(|medium| cache.contains(&medium.hash));
            held.map(|medium| f64::from(medium.tokens)).sum::<f64>() / total
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
        let Some(endpoint) = context.endpoint(chosen.ranked[0] as usize) else {
            return;
        };
        let mut state = self.state.lock();
        if context.now - state.swept >= SWEEP {
            state.swept = context.now;
            let live = |authority: &str| context.snapshot.by_authority(authority).is_some();
            state.caches.retain(|authority, _| live(authority));
        }
        let cache = state
            .caches
            .entry(endpoint.authority.clone())
            .or_insert_with(|| LruCache::new(self.entries));
        for medium in media {
            cache.put(medium.hash, ());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::body::{Medium, MediumKind};
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
    fn the_share_is_by_size_and_only_of_what_was_sent_there() {
        let parts = built(&KIND, &json!({}));
        let mut scene = Scene::new(3);
        send(&parts, &mut scene, 1, vec![medium(1, 300)]);
        send(&parts, &mut scene, 2, vec![medium(1, 300), medium(2, 100)]);
        let both = vec![medium(1, 300), medium(2, 100)];
        assert_eq!(matched(&parts, &mut scene, both), [0.0, 0.75, 1.0]);
        assert!(matched(&parts, &mut scene, Vec::new()).is_empty());
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
