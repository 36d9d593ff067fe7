//! `p2p-source-producer`: names another endpoint that holds more of the prompt, for the chosen one to fetch it from.

use std::sync::Arc;

use bytes::Bytes;

use crate::control::lottery::draw;
use crate::control::{Chosen, PreRequest, RequestEdits};
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape, Stability};
use crate::schedule::{Context, PrefixColumn};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "p2p-source-producer",
    roles: &[Role::PreRequest],
    stability: Stability::Alpha,
    summary: "Names, in the request header x-kv-cache-source-host-port, an endpoint within a block of the longest cached prefix, where it holds enough more than the chosen one.",
    parameters: &[
        ParameterKind {
            name: "minCachedTokenDelta",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "1",
            unit: "tokens",
            summary: "Cached prompt tokens that it has to hold beyond the chosen endpoint.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixMatchInfoProducerName",
            shape: Shape::ProducerName(Data::PrefixMatch),
            summary: "Whose matches tell what an endpoint holds.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefillProfileName",
            default: "\"prefill\"",
            summary: "Profile whose endpoint computes the prompt where several run for a request; one runs in this version.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch],
    build: |parameters| {
        Ok(Parts::default().with_pre_request(Arc::new(P2pSource {
            least_more_tokens: u64::try_from(parameters.integer("minCachedTokenDelta"))
                .unwrap_or(1),
            producer: parameters
                .optional_text("prefixMatchInfoProducerName")
                .map(Box::from),
        })))
    },
    ..PluginKind::BASE
};

/// What the sidecar of the chosen endpoint reads.
const HEADER: &str = "x-kv-cache-source-host-port";

/// See [`KIND`].
#[derive(Clone, Debug)]
pub struct P2pSource {
    /// At least 1.
    pub least_more_tokens: u64,
    /// Whose matches; `None`: those of the producer that is meant where none is named.
    pub producer: Option<Box<str>>,
}

impl P2pSource {
    /// The row to fetch from: one of those within a block of the longest cached prefix, weighted by `1 / (1 + waiting)`. The same request
    /// gets the same one.
    fn source(context: &Context<'_>, prefix: &PrefixColumn) -> Option<usize> {
        // Fetched from another endpoint a block is worth the same, whatever memory it lies in there.
        let rows = 0..prefix.blocks.len();
        let most = rows.clone().map(|row| prefix.held(row)).max();
        let most = most.filter(|most| *most > 0)?;
        let weight = |row| {
            let blocks = prefix.held(row);
            if blocks > 0 && blocks + 1 >= most {
                1.0 / (1.0 + waiting(context, row))
            } else {
                0.0
            }
        };
        let weights: Vec<f64> = rows.map(weight).collect();
        draw(&weights, spread(&context.request.request_id))
    }
}

impl PreRequest for P2pSource {
    fn pre_request(&self, context: &Context<'_>, chosen: &Chosen<'_>, edits: &mut RequestEdits) {
        let prefix = context.prefix(self.producer.as_deref());
        let cached = |row: usize| prefix.cached_tokens(row);
        let computing = chosen.ranked.first().map_or(0, |row| cached(*row as usize));
        // It holds more, so it is another one.
        let source = Self::source(context, prefix)
            .filter(|source| cached(*source).saturating_sub(computing) >= self.least_more_tokens)
            .and_then(|source| context.endpoint(source));
        match source {
            Some(endpoint) => edits.set.push((
                Bytes::from_static(HEADER.as_bytes()),
                Bytes::copy_from_slice(endpoint.authority.as_bytes()),
            )),
            // Clients must not send engines anywhere.
            None => edits.remove.push(HEADER),
        }
    }
}

/// What is no number counts as no queue, as where there are no metrics.
fn waiting(context: &Context<'_>, row: usize) -> f64 {
    context.candidates.waiting[row].max(0.0)
}

/// The reference's coordinate of a request, from 0 to below 1: 32-bit FNV-1a of its id.
fn spread(request_id: &[u8]) -> f64 {
    let hash = request_id.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    f64::from(hash) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    /// The row that is named for a request that goes to `computing`.
    fn named(parameters: &Value, scene: &Scene, computing: u32) -> Option<u32> {
        let part = built(&KIND, parameters)
            .pre_request
            .expect("a pre-request part");
        let mut edits = RequestEdits::default();
        let chosen = Chosen {
            ranked: &[computing],
            profile: "default",
        };
        part.pre_request(&scene.context(), &chosen, &mut edits);
        match (&edits.set[..], &edits.remove[..]) {
            ([], ["x-kv-cache-source-host-port"]) => None,
            ([(name, value)], []) => {
                assert_eq!(&name[..], b"x-kv-cache-source-host-port");
                let value = std::str::from_utf8(value).expect("text");
                let number = value
                    .strip_prefix("10.0.0.")
                    .and_then(|rest| rest.strip_suffix(":8000"));
                Some(
                    number
                        .expect("an address")
                        .parse::<u32>()
                        .expect("a number")
                        - 1,
                )
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_holds_enough_more_than_the_chosen_one_is_named() {
        let mut scene = Scene::new(3);
        // 64 tokens a block.
        scene.set_matched(vec![2, 10, 0]);
        for (parameters, computing, source) in [
            (json!({}), 0, Some(1)),
            (json!({}), 2, Some(1)),
            // Itself.
            (json!({}), 1, None),
            (json!({"minCachedTokenDelta": 512}), 0, Some(1)),
            (json!({"minCachedTokenDelta": 513}), 0, None),
            (json!({"minCachedTokenDelta": 640}), 2, Some(1)),
        ] {
            assert_eq!(
                named(&parameters, &scene, computing),
                source,
                "{parameters}"
            );
        }
        scene.set_matched(vec![0; 3]);
        assert_eq!(named(&json!({}), &scene, 0), None, "nobody holds anything");
        assert_eq!(named(&json!({}), &Scene::new(1), 0), None);
    }

    #[test]
    fn sources_within_a_block_share_the_requests_by_their_queues() {
        let mut scene = Scene::new(5);
        scene.set_matched(vec![0, 10, 9, 10, 8]);
        scene.candidates.waiting = vec![0.0, 0.0, 1.0, f64::NAN, 0.0];
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for number in 0..5000 {
            scene.request.request_id = format!("request-{number}").into();
            let source = named(&json!({}), &scene, 0).expect("a source");
            assert_eq!(named(&json!({}), &scene, 0), Some(source), "the same again");
            *counts.entry(source).or_default() += 1;
        }
        // Weights 1, 1/2 and 1; the last one is two blocks behind.
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        for (row, expected) in [(1, 2000), (2, 1000), (3, 2000)] {
            assert!(counts[&row].abs_diff(expected) < 200, "{counts:?}");
        }
    }

    #[test]
    fn the_coordinate_is_fnv_1a() {
        // Of the empty string, "a" and "foobar", as its authors publish them.
        for (id, hash) in [
            ("", 0x811c_9dc5_u32),
            ("a", 0xe40c_292c),
            ("foobar", 0xbf9c_f968),
        ] {
            assert!((spread(id.as_bytes()) * 4_294_967_296.0 - f64::from(hash)).abs() < 0.5);
        }
    }

    #[test]
    fn a_difference_of_nothing_is_refused() {
        assert_eq!(
            refused(&KIND, &json!({"minCachedTokenDelta": 0})),
            "minCachedTokenDelta: must be a whole number of at least 1, not 0"
        );
    }
}
