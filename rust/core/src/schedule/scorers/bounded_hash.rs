//! `bounded-hash-scorer`: consistent hashing of prompts with bounded loads.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::relative::lower_is_better;
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "bounded-hash-scorer",
    roles: &[Role::Scorer],
    summary: "Each beginning of a prompt has an order of endpoints: 1 for the first that has room, falling to those further on, last those without room.",
    parameters: &[
        ParameterKind {
            name: "prefixTokens",
            shape: Shape::Integer {
                least: 1,
                most: 1 << 24,
            },
            default: "256",
            unit: "tokens",
            summary: "How much of a prompt's beginning is hashed, rounded up to whole blocks: prompts that are alike so far go to the same endpoints.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "loadFactor",
            shape: Shape::Number {
                least: 1.0,
                most: f64::INFINITY,
            },
            default: "1.25",
            summary: "An endpoint has room while its requests in flight, with this one, are at most this many times the mean, rounded up.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch, Data::InFlightLoad],
    build: |parameters| {
        Ok(Parts::scorer(BoundedHashScorer {
            prefix_tokens: parameters.integer("prefixTokens") as u32,
            load_factor: parameters.number("loadFactor"),
        }))
    },
    ..PluginKind::BASE
};

/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2017) over a rendezvous order instead of a ring: endpoints by falling
/// `hash(beginning of the prompt, address)`. Room is `requests + 1 ≤ ⌈load factor · (all requests + 1) / endpoints⌉`, rounded up as in the paper, so
/// that some endpoint always has it. The score is `1 − place / endpoints`.
///
/// Nothing is remembered, and addresses are what all pickers agree on: several pickers send a prompt to the same endpoints without talking to each other.
/// A prompt of which no block is known goes by the requests in flight.
#[derive(Clone, Copy, Debug)]
pub struct BoundedHashScorer {
    /// Tokens, at least 1.
    pub prefix_tokens: u32,
    /// At least 1.
    pub load_factor: f64,
}

impl Scorer for BoundedHashScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let load = &context.candidates.inflight_requests;
        let Some(head) = context.prompt.head(self.prefix_tokens) else {
            return lower_is_better(load, scores);
        };
        let count = scores.len() as f64;
        let total: f64 = load.iter().sum();
        let room = (self.load_factor * (total + 1.0) / count).ceil();
        // Those without room after all others, and each by falling hash.
        let place = |row: usize| {
            let endpoint = context.endpoint(row);
            let authority = endpoint.map_or("", |endpoint| &*endpoint.authority);
            let hash = xxh3_64_with_seed(authority.as_bytes(), head);
            (load[row] + 1.0 > room, !hash, row)
        };
        let mut order: SmallVec<[(bool, u64, usize); 64]> = (0..scores.len()).map(place).collect();
        order.sort_unstable();
        for (place, (_, _, row)) in order.into_iter().enumerate() {
            scores[row] = 1.0 - place as f64 / count;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::Prompt;
    use crate::schedule::testing::Scene;

    /// Rows from the first choice to the last.
    fn order(plugin: &Parts, scene: &Scene, chain: &[u64]) -> Vec<usize> {
        let mut context = scene.context();
        context.prompt = Prompt {
            chain,
            block_tokens: 64,
            sent: None,
        };
        let mut scores = vec![0.0; scene.candidates.len()];
        let rating = plugin.scorer.as_ref().expect("a scorer");
        rating.score(&context, &mut scores);
        let mut rows: Vec<usize> = (0..scores.len()).collect();
        rows.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]));
        assert_eq!(scores[rows[0]].to_bits(), 1_f64.to_bits());
        rows
    }

    #[test]
    fn a_beginning_always_has_the_same_order_and_others_have_others() {
        let plugin = built(&KIND, &json!({}));
        let scene = Scene::new(8);
        let mut first = [0_u32; 8];
        for head in 0..800 {
            // 256 tokens are four blocks: what comes later does not matter.
            let chain = [7, 7, 7, head * 77_777, 1, 2];
            let rows = order(&plugin, &scene, &chain);
            assert_eq!(rows, order(&plugin, &scene, &chain[..4]));
            first[rows[0]] += 1;
        }
        // 100 expected each, standard deviation 9.4.
        assert!(
            first.iter().all(|count| count.abs_diff(100) < 50),
            "{first:?}"
        );
    }

    #[test]
    fn an_endpoint_that_leaves_changes_nothing_for_the_prompts_of_the_others() {
        let plugin = built(&KIND, &json!({}));
        let whole = Scene::new(5);
        let mut fewer = Scene::new(5);
        fewer.candidates.position = vec![0, 1, 3, 4];
        fewer.candidates.inflight_requests = vec![0.0; 4];
        fewer.set_matched(vec![0; 4]);
        for head in 0..50 {
            let position = |row: &usize| fewer.candidates.position[*row] as usize;
            let after: Vec<usize> = order(&plugin, &fewer, &[head])
                .iter()
                .map(position)
                .collect();
            let mut before = order(&plugin, &whole, &[head]);
            before.retain(|row| *row != 2);
            assert_eq!(after, before);
        }
    }

    #[test]
    fn a_full_endpoint_is_passed_over_and_comes_last() {
        let mut scene = Scene::new(4);
        let chain = [99];
        let free = order(&built(&KIND, &json!({})), &scene, &chain);
        // With 16 in flight there is room for ⌈factor · 17 / 4⌉: 6 by default, 7 with 1.5, 5 with 1.
        let mut load = vec![4.0; 4];
        load[free[0]] = 6.0;
        load[free[1]] = 2.0;
        scene.candidates.inflight_requests = load;
        let moved = [free[1], free[2], free[3], free[0]];
        for (parameters, expected) in [
            (json!({}), &moved[..]),
            (json!({"loadFactor": 1.5}), &free),
            (json!({"loadFactor": 1}), &moved),
        ] {
            assert_eq!(
                order(&built(&KIND, &parameters), &scene, &chain),
                expected,
                "{parameters}"
            );
        }
        assert_eq!(
            refused(&KIND, &json!({"loadFactor": 0.9})),
            "loadFactor: must be a number of at least 1, not 0.9"
        );
    }

    #[test]
    fn some_endpoint_has_room_at_any_load() {
        let plugin = built(&KIND, &json!({"loadFactor": 1}));
        let mut scene = Scene::new(3);
        for total in 0..40_u32 {
            // One after the other fills up the one with room.
            let rows = order(&plugin, &scene, &[5]);
            let load = &mut scene.candidates.inflight_requests;
            let room = f64::from((total + 1).div_ceil(3));
            assert!(load[rows[0]] < room, "{load:?}");
            load[rows[0]] += 1.0;
        }
    }

    #[test]
    fn the_beginning_is_as_long_as_configured_and_without_one_the_load_decides() {
        let short = built(&KIND, &json!({"prefixTokens": 64}));
        let scene = Scene::new(8);
        assert_eq!(
            order(&short, &scene, &[5, 1]),
            order(&short, &scene, &[5, 2])
        );
        let long = built(&KIND, &json!({"prefixTokens": 65}));
        assert_ne!(order(&long, &scene, &[5, 1]), order(&long, &scene, &[5, 2]));
        let mut scene = Scene::new(2);
        scene.candidates.inflight_requests = vec![3.0, 1.0];
        assert_eq!(order(&short, &scene, &[]), [1, 0]);
    }
}
