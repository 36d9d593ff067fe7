//! `prefix-cache-affinity-filter`: only endpoints that hold most of the prompt, unless waiting for them costs more than it saves.

use crate::plugin::{Data, ParameterError, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Filter, PrefixColumn};

/// The reference's type of that name, without its latency predictor.
pub const KIND: PluginKind = PluginKind {
    type_name: "prefix-cache-affinity-filter",
    roles: &[Role::Filter],
    summary: "Only endpoints that hold at least affinityThreshold of the prompt's blocks, where there are any and the wait for them is not more than maxTTFTPenaltyMs longer than elsewhere.",
    parameters: &[
        ParameterKind {
            name: "affinityThreshold",
            shape: Shape::Number {
                least: 0.0,
                most: 1.0,
            },
            default: "0.8",
            summary: "Share of the prompt's blocks from which on an endpoint is kept; 0 keeps all.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "explorationProbability",
            shape: Shape::Number {
                least: 0.0,
                most: 1.0,
            },
            default: "0",
            summary: "Share of the requests for which all are kept.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "maxTTFTPenaltyMs",
            shape: Shape::Number {
                least: 0.0,
                most: f64::INFINITY,
            },
            default: "18000",
            unit: "ms",
            summary: "How much later the first token may come than from the best endpoint that does not hold the prompt; beyond, all are kept. 0: any time.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "ttftSource",
            shape: Shape::Choice(&[PREFILL_THROUGHPUT, LATENCY_PREDICTOR]),
            default: "\"prefillThroughput\"",
            summary: "How the time to the first token is estimated: tokens in flight over peakPrefillThroughput. latencyPredictor is not in this version.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "peakPrefillThroughput",
            shape: Shape::Number {
                least: 0.0,
                most: f64::INFINITY,
            },
            default: "15928",
            unit: "tokens/s",
            summary: "How fast an endpoint prefills; more than 0 unless maxTTFTPenaltyMs is 0.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixMatchInfoProducerName",
            shape: Shape::ProducerName(Data::PrefixMatch),
            summary: "Whose matches tell what an endpoint holds.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "inFlightLoadProducerName",
            shape: Shape::ProducerName(Data::InFlightLoad),
            summary: "Whose count the tokens in flight are.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "latencyPredictionInfoProducerName",
            summary: "Read with ttftSource latencyPredictor only.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch, Data::InFlightLoad],
    build: |parameters| {
        if parameters.text("ttftSource") == LATENCY_PREDICTOR {
            return Err(ParameterError::new(
                "ttftSource",
                "this version has no latency predictor; write \"prefillThroughput\" and set peakPrefillThroughput",
            ));
        }
        let filter = PrefixCacheAffinityFilter {
            threshold: parameters.number("affinityThreshold"),
            exploration: parameters.number("explorationProbability"),
            max_penalty_ms: parameters.number("maxTTFTPenaltyMs"),
            tokens_per_second: parameters.number("peakPrefillThroughput"),
            producer: parameters
                .optional_text("prefixMatchInfoProducerName")
                .map(Box::from),
        };
        if filter.max_penalty_ms > 0.0 && filter.tokens_per_second <= 0.0 {
            return Err(ParameterError::new(
                "peakPrefillThroughput",
                "must be more than 0 unless maxTTFTPenaltyMs is 0",
            ));
        }
        Ok(Parts::filter(filter))
    },
    ..PluginKind::BASE
};

const PREFILL_THROUGHPUT: &str = "prefillThroughput";
const LATENCY_PREDICTOR: &str = "latencyPredictor";

/// Keeps the endpoints that hold the prompt ("sticky"), unless their best time to first token is too far behind the others'.
#[derive(Clone, Debug)]
pub struct PrefixCacheAffinityFilter {
    /// Matched share of the prompt's blocks from which on an endpoint is sticky, 0 to 1; 0 keeps all.
    pub threshold: f64,
    /// Probability of keeping all, 0 to 1.
    pub exploration: f64,
    /// Milliseconds; 0: no limit.
    pub max_penalty_ms: f64,
    /// Tokens a second, positive unless `max_penalty_ms` is 0.
    pub tokens_per_second: f64,
    /// Whose matches; `None`: those of the producer that is meant where none is named.
    pub producer: Option<Box<str>>,
}

/// The least numbers of tokens in flight; infinite where no endpoint tells.
struct Least {
    sticky: f64,
    others: f64,
}

impl PrefixCacheAffinityFilter {
    fn is_sticky(&self, prefix: &PrefixColumn, row: usize) -> bool {
        let total = f64::from(prefix.total_blocks);
        // A prompt without blocks is held by none.
        total > 0.0 && f64::from(prefix.blocks(row)) / total >= self.threshold
    }

    /// Whether waiting for a sticky endpoint is worth it; not where the load of either side is unknown.
    fn worth_waiting(&self, least: &Least) -> bool {
        let milliseconds = |tokens: f64| tokens / self.tokens_per_second * 1000.0;
        least.sticky.is_finite()
            && least.others.is_finite()
            && milliseconds(least.sticky) - milliseconds(least.others) <= self.max_penalty_ms
    }
}

impl Filter for PrefixCacheAffinityFilter {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        let left = keep.iter().filter(|keep| **keep).count();
        if left <= 1
            || self.threshold <= 0.0
            || (self.exploration > 0.0 && context.random.borrow_mut().f64() < self.exploration)
        {
            return;
        }
        let prefix = context.prefix(self.producer.as_deref());
        let mut sticky = 0;
        let mut least = Least {
            sticky: f64::INFINITY,
            others: f64::INFINITY,
        };
        for (row, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
            let tokens = context.candidates.inflight_tokens[row];
            // `f64::min` passes over what is no number.
            if self.is_sticky(prefix, row) {
                sticky += 1;
                least.sticky = least.sticky.min(tokens);
            } else {
                least.others = least.others.min(tokens);
            }
        }
        if sticky == 0
            || sticky == left
            || (self.max_penalty_ms > 0.0 && !self.worth_waiting(&least))
        {
            return;
        }
        for (row, keep) in keep.iter_mut().enumerate() {
            *keep = *keep && self.is_sticky(prefix, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    const ALL: [bool; 3] = [true; 3];
    const STICKY: [bool; 3] = [true, false, true];

    /// Of 16 blocks endpoint 0 holds 16, endpoint 1 holds 12 and endpoint 2 holds 13.
    fn scene(tokens: [f64; 3]) -> Scene {
        let mut scene = Scene::new(3);
        scene.set_matched(vec![16, 12, 13]);
        scene.candidates.inflight_tokens = tokens.to_vec();
        scene
    }

    fn kept(scene: &Scene, parameters: &Value) -> Vec<bool> {
        scene.kept(&built(&KIND, parameters))
    }

    #[test]
    fn endpoints_that_hold_enough_of_the_prompt_stay() {
        let idle = scene([0.0; 3]);
        for (threshold, expected) in [
            // 12 of 16 are 0.75, 13 of 16 are 0.8125.
            (0.8, STICKY),
            (0.75, ALL),
            (0.99, [true, false, false]),
            (0.0, ALL),
        ] {
            assert_eq!(
                kept(&idle, &json!({"affinityThreshold": threshold})),
                expected,
                "{threshold}"
            );
        }
        let mut cold = scene([0.0; 3]);
        cold.set_matched(vec![0; 3]);
        assert_eq!(kept(&cold, &json!({})), ALL);
        let mut blockless = scene([0.0; 3]);
        blockless.candidates.prefixes[0].total_blocks = 0;
        assert_eq!(kept(&blockless, &json!({})), ALL);
    }

    #[test]
    fn stickiness_ends_where_the_wait_is_longer_than_the_penalty() {
        // At 1,000 tokens a second the better sticky endpoint waits 3,000 ms, the other one 1,000.
        let loaded = scene([9000.0, 1000.0, 3000.0]);
        let with =
            |penalty: f64| json!({"peakPrefillThroughput": 1000, "maxTTFTPenaltyMs": penalty});
        for (penalty, expected) in [(2000.0, STICKY), (1999.0, ALL), (0.0, STICKY)] {
            assert_eq!(kept(&loaded, &with(penalty)), expected, "{penalty}");
        }
        // 18 s at 15,928 tokens a second are 286,704 tokens.
        assert_eq!(kept(&scene([286_704.0, 0.0, 9e9]), &json!({})), STICKY);
        assert_eq!(kept(&scene([286_720.0, 0.0, 9e9]), &json!({})), ALL);
        // An unknown load is passed over; where a side tells none, all are kept.
        assert_eq!(kept(&scene([f64::NAN, 0.0, 0.0]), &json!({})), STICKY);
        assert_eq!(kept(&scene([0.0, f64::NAN, 0.0]), &json!({})), ALL);
        assert_eq!(kept(&scene([0.0, f64::NAN, 0.0]), &with(0.0)), STICKY);
    }

    #[test]
    fn what_earlier_filters_dropped_neither_counts_nor_comes_back() {
        let parts = built(
            &KIND,
            &json!({"peakPrefillThroughput": 1000, "maxTTFTPenaltyMs": 1000}),
        );
        let filter = parts.filter.expect("a filter");
        // Endpoint 1, idle, would end the stickiness; alone with one other, endpoint 0 stays alone.
        let scene = scene([5000.0, 0.0, 5000.0]);
        for (before, after) in [
            ([true, false, true], [true, false, true]),
            ([false, true, false], [false, true, false]),
            ([true, true, false], [true, true, false]),
        ] {
            let mut keep = before;
            filter.filter(&scene.context(), &mut keep);
            assert_eq!(keep, after);
        }
    }

    #[test]
    fn exploration_keeps_all_for_its_share_of_requests() {
        let idle = scene([0.0; 3]);
        assert_eq!(kept(&idle, &json!({"explorationProbability": 1})), ALL);
        let parts = built(&KIND, &json!({"explorationProbability": 0.25}));
        let explored = (0..4000).filter(|_| idle.kept(&parts) == ALL).count();
        // 1,000 expected, standard deviation 27.
        assert!(explored.abs_diff(1000) < 140, "{explored}");
    }

    #[test]
    fn what_cannot_be_estimated_is_refused() {
        for (parameters, error) in [
            (
                json!({"ttftSource": "latencyPredictor"}),
                "ttftSource: this version has no latency predictor; write \"prefillThroughput\" and set peakPrefillThroughput",
            ),
            (
                json!({"ttftSource": "guess"}),
                "ttftSource: must be one of \"prefillThroughput\", \"latencyPredictor\", not \"guess\"",
            ),
            (
                json!({"peakPrefillThroughput": 0}),
                "peakPrefillThroughput: must be more than 0 unless maxTTFTPenaltyMs is 0",
            ),
            (
                json!({"affinityThreshold": 1.5}),
                "affinityThreshold: must be a number from 0 to 1, not 1.5",
            ),
            (
                json!({"maxTTFTPenaltyMs": -1}),
                "maxTTFTPenaltyMs: must be a number of at least 0, not -1",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
        built(
            &KIND,
            &json!({"peakPrefillThroughput": 0, "maxTTFTPenaltyMs": 0}),
        );
    }
}
