//! `marginal-latency-scorer`: the least total latency added, to this request and to those already there. The default policy.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, PrefixColumn, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "marginal-latency-scorer",
    roles: &[Role::Scorer],
    summary: "Least cost P + u·(1 + n/3) over own cost: P tokens waiting for prefill, u uncached tokens of this request, n requests in flight.",
    parameters: &[ParameterKind {
        name: "countEngineRequests",
        shape: Shape::Boolean,
        default: "true",
        summary: "Take n as the engine's running and waiting requests where those are more than the ones in flight through this picker.",
        ..ParameterKind::BASE
    }],
    consumes: &[Data::PrefixMatch, Data::InFlightLoad],
    build: |parameters| {
        Ok(Parts::scorer(MarginalLatencyScorer {
            count_engine_requests: parameters.boolean("countEngineRequests"),
        }))
    },
    ..PluginKind::BASE
};

/// Share of a prefill that each request in flight on the endpoint is stalled by: `k_x` of `policy.md`.
const STALL: f64 = 1.0 / 3.0;

/// The marginal latency cost in its token form (`policy.md` §1, "tok-mlc"), which needs no rates: `cost = P + u · (1 + n/3)` tokens.
///
/// * `P`: uncached tokens reserved on the endpoint and not yet prefilled: what this request waits for.
/// * `u`: prompt tokens of this request that are not in the endpoint's cache, at least 1: its own prefill, which also stalls
/// * `n` requests in flight. That is what this picker has reserved, exact and without delay; where the engine reports more running and
///   waiting requests, other routers send there too, and the larger number counts. The two are not added: they count the same requests,
///   and a scraped page lags behind the reservations. What the page still counts after its requests have ended makes `n` too large
///   for one scrape interval at most; `countEngineRequests: false` gives the pure form.
///
/// The score is `least cost / cost`, in 0..=1, 1 for the least: the order of costs is kept, ties stay ties, and nothing but the least cost scores 1, because
/// the quotient of two different doubles does not round to 1 from below.
#[derive(Clone, Copy, Debug)]
pub struct MarginalLatencyScorer {
    /// Take the engine's own count of requests where it is larger.
    pub count_engine_requests: bool,
}

impl MarginalLatencyScorer {
    /// Tokens; at least 1, NaN where an input is no number.
    fn cost(self, context: &Context<'_>, prefix: &PrefixColumn, row: usize) -> f64 {
        let candidates = context.candidates;
        let own = candidates.inflight_requests[row];
        let requests = if self.count_engine_requests {
            // A scraped value that is no number is passed over by `max`.
            own.max(candidates.running[row] + candidates.waiting[row])
        } else {
            own
        };
        let uncached = context.uncached_by(prefix, row);
        candidates.prefill_tokens[row] + uncached * (1.0 + requests * STALL)
    }
}

impl Scorer for MarginalLatencyScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let mut least = f64::INFINITY;
        // Found once and not for each row.
        let prefix = context.prefix(None);
        for (row, score) in scores.iter_mut().enumerate() {
            *score = self.cost(context, prefix, row);
            least = least.min(*score);
        }
        for score in scores {
            *score = least / *score;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;
    use proptest::prelude::*;

    const PURE: MarginalLatencyScorer = MarginalLatencyScorer {
        count_engine_requests: false,
    };
    const HYBRID: MarginalLatencyScorer = MarginalLatencyScorer {
        count_engine_requests: true,
    };

    fn cost(scene: &Scene, row: usize) -> f64 {
        cost_by(PURE, scene, row)
    }

    fn cost_by(scorer: MarginalLatencyScorer, scene: &Scene, row: usize) -> f64 {
        let context = scene.context();
        scorer.cost(&context, context.prefix(None), row)
    }

    #[test]
    fn cost_is_waiting_prefill_and_own_prefill_with_the_stall_it_causes() {
        let mut scene = Scene::new(4);
        scene.candidates.prefill_tokens = vec![0.0, 500.0, 0.0, 0.0];
        scene.candidates.inflight_requests = vec![0.0, 0.0, 3.0, 3.0];
        scene.set_matched(vec![0, 0, 0, 15]);
        // 1,000; 1,500; 1,000 · 2; 40 · 2.
        let costs: Vec<f64> = (0..4).map(|row| cost(&scene, row)).collect();
        assert_eq!(costs, [1000.0, 1500.0, 2000.0, 80.0]);
        assert_eq!(scene.scores(&PURE), [0.08, 80.0 / 1500.0, 0.04, 1.0]);
    }

    #[test]
    fn a_warm_endpoint_loses_when_its_queue_is_longer_than_the_cold_prefill() {
        let mut scene = Scene::new(2);
        scene.set_matched(vec![15, 0]);
        scene.candidates.prefill_tokens = vec![2000.0, 0.0];
        let scores = scene.scores(&PURE);
        assert!(scores[1] > scores[0]);
    }

    #[test]
    fn other_routers_requests_count_when_they_are_more_than_our_own() {
        let mut scene = Scene::new(3);
        scene.candidates.inflight_requests = vec![3.0, 3.0, 3.0];
        scene.candidates.running = vec![2.0, 5.0, f64::NAN];
        scene.candidates.waiting = vec![0.0, 1.0, 0.0];
        let costs: Vec<f64> = (0..3).map(|row| cost_by(HYBRID, &scene, row)).collect();
        assert_eq!(costs, [2000.0, 3000.0, 2000.0]);
        let pure: Vec<f64> = (0..3).map(|row| cost(&scene, row)).collect();
        assert_eq!(pure, [2000.0; 3]);
    }

    #[test]
    fn one_endpoint_and_equal_ones_score_one() {
        assert_eq!(Scene::new(1).scores(&HYBRID), [1.0]);
        assert_eq!(Scene::new(3).scores(&HYBRID), [1.0; 3]);
    }

    #[test]
    fn a_request_without_tokens_goes_by_the_load() {
        let mut scene = Scene::new(2);
        scene.request.prompt_tokens = 0;
        scene.candidates.inflight_requests = vec![3.0, 0.0];
        assert_eq!(scene.scores(&PURE), [0.5, 1.0]);
    }

    #[test]
    fn what_is_no_number_does_not_disturb_the_others() {
        let mut scene = Scene::new(2);
        scene.candidates.prefill_tokens = vec![f64::NAN, 1000.0];
        let scores = scene.scores(&PURE);
        assert!(scores[0].is_nan());
        assert_eq!(scores[1..], [1.0]);
    }

    proptest! {
        #[test]
        fn scores_are_in_range_and_keep_the_order_of_costs(rows in proptest::collection::vec((0u32..100_000, 0u32..300, 0u32..16), 1..50)) {
            let mut scene = Scene::new(rows.len() as u8);
            scene.candidates.prefill_tokens = rows.iter().map(|row| f64::from(row.0)).collect();
            scene.candidates.inflight_requests = rows.iter().map(|row| f64::from(row.1)).collect();
            scene.set_matched(rows.iter().map(|row| row.2).collect());
            let scores = scene.scores(&PURE);
            let costs: Vec<f64> = (0..rows.len()).map(|row| cost(&scene, row)).collect();
            let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
            for (left, cost) in costs.iter().enumerate() {
                prop_assert!(scores[left] > 0.0 && scores[left] <= 1.0);
                prop_assert_eq!(scores[left] >= 1.0, *cost <= least);
                for (right, other) in costs.iter().enumerate() {
                    prop_assert!(cost >= other || scores[left] >= scores[right]);
                }
            }
        }
    }
}
