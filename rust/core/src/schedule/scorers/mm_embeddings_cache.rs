//! `mm-embeddings-cache-scorer`: the more of the request's media the endpoint's encoder has cached, the better.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Scorer};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "mm-embeddings-cache-scorer",
    roles: &[Role::Scorer],
    summary: "Share of the request's pictures, films and sounds that the endpoint's encoder is expected to have cached.",
    parameters: &[ParameterKind {
        name: "producerName",
        shape: Shape::ProducerName(Data::EncoderMatch),
        summary: "Whose matches are scored.",
        ..ParameterKind::BASE
    }],
    consumes: &[Data::EncoderMatch],
    build: |_| Ok(Parts::scorer(MmEmbeddingsCacheScorer)),
    ..PluginKind::BASE
};

/// The column as it is; 0 for a request without media.
#[derive(Clone, Copy, Debug, Default)]
pub struct MmEmbeddingsCacheScorer;

impl Scorer for MmEmbeddingsCacheScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        for (score, matched) in scores.iter_mut().zip(&context.candidates.media_matched) {
            *score = *matched;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    #[test]
    fn the_matched_share_is_the_score_and_nothing_matched_is_zero() {
        let mut scene = Scene::new(3);
        assert_eq!(scene.scores(&MmEmbeddingsCacheScorer), [0.0, 0.0, 0.0]);
        scene.candidates.media_matched = vec![0.0, 0.5, 1.0];
        assert_eq!(scene.scores(&MmEmbeddingsCacheScorer), [0.0, 0.5, 1.0]);
    }
}
