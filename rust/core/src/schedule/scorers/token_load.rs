//! `token-load-scorer`: the fewer prompt tokens are on their way to the endpoint, the better.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "token-load-scorer",
    roles: &[Role::Scorer],
    summary: "1 − load / threshold, where load is the uncached tokens in flight and those of this request.",
    parameters: &[
        ParameterKind {
            name: "queueThresholdTokens",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "4194304",
            unit: "tokens",
            summary: "Load at which the score is 0.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "inFlightLoadProducerName",
            shape: Shape::ProducerName(Data::InFlightLoad),
            summary: "Whose count of the load is scored.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::InFlightLoad, Data::PrefixMatch],
    build: |parameters| {
        Ok(Parts::scorer(TokenLoadScorer {
            threshold_tokens: parameters.number("queueThresholdTokens"),
        }))
    },
    ..PluginKind::BASE
};

/// `1 − min(load, threshold) / threshold` with load = uncached tokens in flight through this picker + this request's; 1 without load.
#[derive(Clone, Copy, Debug)]
pub struct TokenLoadScorer {
    /// Tokens, positive.
    pub threshold_tokens: f64,
}

impl Scorer for TokenLoadScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        // Found once and not for each row.
        let prefix = context.prefix(None);
        for (row, (score, inflight)) in scores
            .iter_mut()
            .zip(&context.candidates.inflight_tokens)
            .enumerate()
        {
            let load = inflight + context.uncached_by(prefix, row);
            *score = if load <= 0.0 {
                1.0
            } else if load.is_nan() {
                // `f64::min` would take it for a full queue, which it may be, but that is for the profile to say.
                f64::NAN
            } else {
                1.0 - load.min(self.threshold_tokens) / self.threshold_tokens
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    #[test]
    fn load_counts_what_is_in_flight_and_what_this_request_adds() {
        let mut scene = Scene::new(4);
        scene.candidates.inflight_tokens = vec![0.0, 1000.0, 0.0, 9000.0];
        scene.set_matched(vec![0, 0, 10, 0]);
        // Loads 1,000, 2,000, 360 and 10,000 of 4,000.
        assert_eq!(
            scene.scores(&TokenLoadScorer {
                threshold_tokens: 4000.0
            }),
            [0.75, 0.5, 0.91, 0.0]
        );
    }

    #[test]
    fn no_load_scores_one_and_no_number_scores_none() {
        let mut scene = Scene::new(2);
        scene.candidates.inflight_tokens = vec![-1000.0, f64::NAN];
        let scores = scene.scores(&TokenLoadScorer {
            threshold_tokens: 4000.0,
        });
        assert!(scores[0] >= 1.0 && scores[1].is_nan());
    }
}
