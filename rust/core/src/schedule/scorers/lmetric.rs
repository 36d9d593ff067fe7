//! `lmetric-scorer`: new prefill work times the requests that share the endpoint.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, PrefixColumn, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "lmetric-scorer",
    roles: &[Role::Scorer],
    summary: "Least cost (P + u)·(n + 1) over own cost: P tokens waiting for prefill, u uncached tokens of this request, n requests in flight.",
    parameters: &[ParameterKind {
        name: "countEngineRequests",
        shape: Shape::Boolean,
        default: "true",
        summary: "Take n as the engine's running and waiting requests where those are more than the ones in flight through this picker.",
        ..ParameterKind::BASE
    }],
    consumes: &[Data::PrefixMatch, Data::InFlightLoad],
    build: |parameters| {
        Ok(Parts::scorer(LmetricScorer {
            count_engine_requests: parameters.boolean("countEngineRequests"),
        }))
    },
    ..PluginKind::BASE
};

/// The product form of `LMetric`: `cost = (P + u) · (n + 1)` tokens × requests, without a weight to tune. `P`, `u` and `n` are those of `marginal-latency-scorer`.
///
/// Unlike the sum there, it charges what waits already by the requests in flight as well, and knows no rate.
/// The score is `least cost / cost`: in 0..=1, 1 for the least.
#[derive(Clone, Copy, Debug)]
pub struct LmetricScorer {
    /// Take the engine's own count of requests where it is larger.
    pub count_engine_requests: bool,
}

impl LmetricScorer {
    /// At least 1; NaN where an input is no number.
    fn cost(self, context: &Context<'_>, prefix: &PrefixColumn, row: usize) -> f64 {
        let candidates = context.candidates;
        let own = candidates.inflight_requests[row];
        let requests = if self.count_engine_requests {
            // A scraped value that is no number is passed over by `max`.
            own.max(candidates.running[row] + candidates.waiting[row])
        } else {
            own
        };
        (candidates.prefill_tokens[row] + context.uncached_by(prefix, row)) * (requests + 1.0)
    }
}

impl Scorer for LmetricScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let mut least = f64::INFINITY;
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
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn scene() -> Scene {
        let mut scene = Scene::new(4);
        scene.candidates.prefill_tokens = vec![0.0, 1000.0, 0.0, 960.0];
        scene.candidates.inflight_requests = vec![0.0, 0.0, 3.0, 3.0];
        scene.set_matched(vec![0, 0, 0, 15]);
        scene
    }

    #[test]
    fn cost_is_the_product_of_prefill_and_requests() {
        let plugin = built(&KIND, &json!({"countEngineRequests": false}));
        // 1,000 · 1; 2,000 · 1; 1,000 · 4; (960 + 40) · 4: what waits counts by the requests too.
        assert_eq!(scene().rated(&plugin), [1.0, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn the_engines_own_requests_count_where_they_are_more() {
        let mut scene = scene();
        scene.candidates.running = vec![1.0, f64::NAN, 1.0, 0.0];
        scene.candidates.waiting = vec![2.0, 0.0, 1.0, 0.0];
        // 4,000; 2,000; 4,000; 4,000.
        let plugin = built(&KIND, &json!({}));
        assert_eq!(scene.rated(&plugin), [0.5, 1.0, 0.5, 0.5]);
        let pure = built(&KIND, &json!({"countEngineRequests": false}));
        assert_eq!(scene.rated(&pure), [1.0, 0.5, 0.25, 0.25]);
        assert_eq!(
            refused(&KIND, &json!({"countEngineRequests": 1})),
            "countEngineRequests: must be true or false, not 1"
        );
    }

    #[test]
    fn one_endpoint_equal_ones_and_no_number() {
        let plugin = built(&KIND, &json!({}));
        assert_eq!(Scene::new(1).rated(&plugin), [1.0]);
        let mut scene = Scene::new(3);
        assert_eq!(scene.rated(&plugin), [1.0; 3]);
        scene.candidates.prefill_tokens = vec![f64::NAN, 0.0, 1000.0];
        let scores = scene.rated(&plugin);
        assert!(scores[0].is_nan(), "the profile counts it as 0");
        assert_eq!(scores[1..], [1.0, 0.5]);
    }
}
