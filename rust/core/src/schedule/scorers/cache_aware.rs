//! `cache-aware-scorer`: the best match while the load is even, the fewest requests while it is not.

use smallvec::SmallVec;

use super::relative::lower_is_better;
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "cache-aware-scorer",
    roles: &[Role::Scorer],
    summary: "The router of SGLang: fewest requests in flight where the load is uneven; else the longest match where it is long enough; else the smallest index.",
    parameters: &[
        ParameterKind {
            name: "absoluteThreshold",
            shape: Shape::Integer {
                least: 0,
                most: 1 << 32,
            },
            default: "32",
            unit: "requests",
            summary: "Lead of the busiest candidate over the idlest, in requests in flight, above which the load may be uneven.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "relativeThreshold",
            shape: Shape::Number {
                least: 1.0,
                most: f64::INFINITY,
            },
            default: "1.1",
            summary: "How many times as many requests as the idlest the busiest must have, besides, for the load to be uneven.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "cacheThreshold",
            shape: Shape::Number {
                least: 0.0,
                most: 1.0,
            },
            default: "0.5",
            summary: "Share of the prompt's tokens above which a match decides.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch, Data::InFlightLoad],
    build: |parameters| {
        Ok(Parts::scorer(CacheAwareScorer {
            absolute_threshold: parameters.number("absoluteThreshold"),
            relative_threshold: parameters.number("relativeThreshold"),
            cache_threshold: parameters.number("cacheThreshold"),
        }))
    },
    ..PluginKind::BASE
};

/// The `cache_aware` policy of the `SGLang` router (SMG), with the defaults of its library (`balance_abs_threshold`, `balance_rel_threshold`, `cache_threshold`).
///
/// Its load is the requests in flight through the picker. Its "smallest tree" is here the endpoint that the approximate index holds fewest blocks of:
/// what was sent to it, up to what its cache can hold. Each rule scores 1 for its first choice and falls for the others; equal ones are left to the picker,
/// where the original takes the first.
#[derive(Clone, Copy, Debug)]
pub struct CacheAwareScorer {
    /// Requests.
    pub absolute_threshold: f64,
    /// At least 1.
    pub relative_threshold: f64,
    /// 0 to 1.
    pub cache_threshold: f64,
}

impl CacheAwareScorer {
    fn is_uneven(&self, load: &[f64]) -> bool {
        let least = load.iter().copied().fold(f64::INFINITY, f64::min);
        let most = load.iter().copied().fold(0.0, f64::max);
        most - least > self.absolute_threshold && most > self.relative_threshold * least
    }
}

impl Scorer for CacheAwareScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let load = &context.candidates.inflight_requests;
        if self.is_uneven(load) {
            return lower_is_better(load, scores);
        }
        let prefix = context.prefix(None);
        // A share of all tokens, also where an index keeps only the beginnings of long prompts.
        let prompt = f64::from(context.request.prompt_tokens.max(1));
        let matched =
            |row: usize| f64::from(prefix.blocks(row)) * f64::from(prefix.block_tokens) / prompt;
        let best = (0..scores.len()).map(matched).fold(0.0, f64::max);
        if best > self.cache_threshold {
            for (row, score) in scores.iter_mut().enumerate() {
                *score = matched(row) / best;
            }
            return;
        }
        let Some(index) = context.prompt.sent else {
            return lower_is_better(load, scores);
        };
        let size = |row| {
            let endpoint = context.endpoint(row);
            endpoint.map_or(0, |endpoint| index.blocks_of(endpoint.slot)) as f64
        };
        let sizes: SmallVec<[f64; 64]> = (0..scores.len()).map(size).collect();
        lower_is_better(&sizes, scores);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::prefix::ApproximateIndex;
    use crate::schedule::testing::Scene;

    /// An index in which the slots hold these numbers of blocks.
    fn index(blocks: &[u64]) -> ApproximateIndex {
        let index = ApproximateIndex::new(1 << 20);
        for (slot, blocks) in (0..).zip(blocks) {
            index.add_endpoint(slot, 1000);
            let chain: Vec<u64> = (1..=*blocks).map(|block| block << 16).collect();
            index.record(slot, &chain);
        }
        index
    }

    fn scores(plugin: &Parts, scene: &Scene, index: &ApproximateIndex) -> Vec<f64> {
        let mut context = scene.context();
        context.prompt.sent = Some(index);
        let mut scores = vec![0.0; scene.candidates.len()];
        let rating = plugin.scorer.as_ref().expect("a scorer");
        rating.score(&context, &mut scores);
        scores
    }

    #[test]
    fn each_rule_decides_where_it_applies() {
        let index = index(&[30, 10, 20]);
        let mut scene = Scene::new(3);
        for (load, blocks, expected, why) in [
            (
                [40.0, 8.0, 24.0],
                [16, 0, 8],
                [1.0, 0.0, 0.5],
                "32 apart is even",
            ),
            (
                [41.0, 8.0, 24.5],
                [16, 0, 8],
                [0.0, 1.0, 0.5],
                "33 apart and five times as many is not",
            ),
            (
                [440.0, 400.0, 420.0],
                [16, 0, 8],
                [1.0, 0.0, 0.5],
                "40 apart of 440 is within a tenth",
            ),
            ([0.0; 3], [0, 4, 8], [0.0, 0.5, 1.0], "512 of 1,000 tokens"),
            ([0.0; 3], [4, 7, 0], [0.0, 1.0, 0.5], "448 are not enough"),
            (
                [9.0, 9.0, 0.0],
                [0; 3],
                [0.0, 1.0, 0.5],
                "the smallest index has 10",
            ),
        ] {
            scene.candidates.inflight_requests = load.to_vec();
            scene.set_matched(blocks.to_vec());
            let plugin = built(&KIND, &json!({}));
            assert_eq!(scores(&plugin, &scene, &index), expected, "{why}");
        }
    }

    #[test]
    fn thresholds_are_parameters() {
        let index = index(&[3, 1]);
        let mut scene = Scene::new(2);
        scene.candidates.inflight_requests = vec![4.0, 2.0];
        scene.set_matched(vec![4, 0]);
        for (parameters, expected) in [
            (json!({}), [0.0, 1.0]),
            (json!({"cacheThreshold": 0.25}), [1.0, 0.0]),
            (
                json!({"cacheThreshold": 0.25, "absoluteThreshold": 1}),
                [0.0, 1.0],
            ),
            (
                json!({"cacheThreshold": 0.25, "absoluteThreshold": 1, "relativeThreshold": 2}),
                [1.0, 0.0],
            ),
        ] {
            let plugin = built(&KIND, &parameters);
            assert_eq!(scores(&plugin, &scene, &index), expected, "{parameters}");
        }
        assert_eq!(
            refused(&KIND, &json!({"relativeThreshold": 0.5})),
            "relativeThreshold: must be a number of at least 1, not 0.5"
        );
    }

    #[test]
    fn one_endpoint_equal_ones_and_a_prompt_that_is_unknown() {
        let plugin = built(&KIND, &json!({}));
        assert_eq!(Scene::new(1).rated(&plugin), [1.0]);
        let mut scene = Scene::new(2);
        scene.request.prompt_tokens = 0;
        assert_eq!(scores(&plugin, &scene, &index(&[5, 5])), [1.0; 2]);
        // Without an index the load is all there is.
        scene.candidates.inflight_requests = vec![2.0, 1.0];
        assert_eq!(scene.rated(&plugin), [0.0, 1.0]);
    }
}
