//! `prefix-cache-scorer`: the more of the prompt is in the endpoint's cache, the better.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "prefix-cache-scorer",
    roles: &[Role::Scorer],
    summary: "Matched share of the prompt's blocks, mixed by matchLengthWeight with the square of the matched length.",
    parameters: &[
        ParameterKind {
            name: "matchLengthWeight",
            shape: Shape::Number {
                least: 0.0,
                most: 1.0,
            },
            default: "0",
            summary: "Share of the score that comes from the matched length instead of the matched ratio.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "matchLengthScaleTokens",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "8192",
            unit: "tokens",
            summary: "Matched tokens at which the length part is 1.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixMatchInfoProducerName",
            shape: Shape::ProducerName(Data::PrefixMatch),
            summary: "Whose matches are scored.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch],
    build: |parameters| {
        Ok(Parts::scorer(PrefixCacheScorer {
            length_weight: parameters.number("matchLengthWeight"),
            length_scale_tokens: parameters.number("matchLengthScaleTokens"),
            producer: parameters
                .optional_text("prefixMatchInfoProducerName")
                .map(Box::from),
        }))
    },
    ..PluginKind::BASE
};

/// `w · min(1, matched tokens / scale)² + (1 − w) · matched blocks / total blocks`; 0 for a prompt without blocks.
#[derive(Clone, Debug)]
pub struct PrefixCacheScorer {
    /// `w`, 0 to 1.
    pub length_weight: f64,
    /// Tokens, positive.
    pub length_scale_tokens: f64,
    /// Whose matches; `None`: those of the producer that is meant where none is named.
    pub producer: Option<Box<str>>,
}

impl Scorer for PrefixCacheScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let prefix = context.prefix(self.producer.as_deref());
        let total = f64::from(prefix.total_blocks);
        if total == 0.0 {
            scores.fill(0.0);
            return;
        }
        let block_tokens = f64::from(prefix.block_tokens);
        for (row, score) in scores.iter_mut().enumerate() {
            let matched = f64::from(prefix.blocks(row));
            let length = (matched * block_tokens / self.length_scale_tokens).min(1.0);
            *score = self.length_weight * length * length
                + (1.0 - self.length_weight) * (matched / total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    const RATIO: PrefixCacheScorer = PrefixCacheScorer {
        length_weight: 0.0,
        length_scale_tokens: 8192.0,
        producer: None,
    };

    #[test]
    fn the_matched_share_is_the_score() {
        let mut scene = Scene::new(3);
        scene.set_matched(vec![0, 4, 16]);
        assert_eq!(scene.scores(&RATIO), [0.0, 0.25, 1.0]);
    }

    #[test]
    fn one_of_several_producers_is_scored_by_name() {
        let mut scene = Scene::new(2);
        scene.set_matched(vec![4, 0]);
        scene.add_producer("exact", vec![0, 8]);
        let named = PrefixCacheScorer {
            producer: Some("exact".into()),
            ..RATIO
        };
        assert_eq!(scene.scores(&RATIO), [0.25, 0.0]);
        assert_eq!(scene.scores(&named), [0.0, 0.25], "of its own 32 blocks");
        let unknown = PrefixCacheScorer {
            producer: Some("gone".into()),
            ..RATIO
        };
        assert_eq!(scene.scores(&unknown), [0.0, 0.0]);
    }

    #[test]
    fn the_matched_length_counts_by_its_weight() {
        let mut scene = Scene::new(3);
        scene.set_matched(vec![8, 16, 0]);
        // 512 and 1,024 of 1,024 tokens: squares 0.25 and 1; ratios 0.5 and 1.
        let scorer = PrefixCacheScorer {
            length_weight: 0.5,
            length_scale_tokens: 1024.0,
            producer: None,
        };
        assert_eq!(scene.scores(&scorer), [0.375, 1.0, 0.0]);
    }

    #[test]
    fn a_match_beyond_the_scale_counts_as_the_scale() {
        let mut scene = Scene::new(1);
        scene.set_matched(vec![16]);
        assert_eq!(
            scene.scores(&PrefixCacheScorer {
                length_weight: 1.0,
                length_scale_tokens: 10.0,
                producer: None,
            }),
            [1.0]
        );
    }

    #[test]
    fn a_prompt_without_blocks_scores_nothing() {
        let mut scene = Scene::new(2);
        scene.candidates.prefixes[0].total_blocks = 0;
        assert_eq!(scene.scores(&RATIO), [0.0, 0.0]);
    }
}
