//! `weighted-random-picker`: at random, in proportion to the totals.

use smallvec::SmallVec;

use crate::plugin::{PluginKind, Role};
use crate::schedule::{Context, Picker};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "weighted-random-picker",
    roles: &[Role::Picker],
    summary: "Candidates at random, in proportion to their totals; those without a total only after all others.",
    parameters: super::PARAMETERS,
    build: |parameters| Ok(super::build(WeightedRandomPicker, parameters)),
    ..PluginKind::BASE
};

/// Weighted sampling without replacement after Efraimidis and Spirakis (A-Res): the k largest keys `U^(1/score)`.
///
/// Compared by `ln U / score`, which has the same order and does not round to 0 for small scores. A total of 0 or less has the least key;
/// among such rows a second random number decides, so that they are picked at random when there is nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandomPicker;

/// (key, tie breaker, row)
type Keyed = (f64, f64, u32);

impl Picker for WeightedRandomPicker {
    fn pick(&self, context: &Context<'_>, scores: &[f64], limit: usize, ranked: &mut Vec<u32>) {
        let mut random = context.random.borrow_mut();
        let limit = limit.min(scores.len());
        // The largest keys so far, falling. Lists of fallbacks are short.
        let mut largest: SmallVec<[Keyed; 8]> = SmallVec::new();
        for (row, &score) in (0..).zip(scores) {
            let key = if score > 0.0 {
                (1.0 - random.f64()).ln() / score
            } else {
                f64::NEG_INFINITY
            };
            let keyed = (key, random.f64(), row);
            let place = largest.partition_point(|held| (held.0, held.1) >= (keyed.0, keyed.1));
            if place < limit {
                largest.truncate(limit - 1);
                largest.insert(place, keyed);
            }
        }
        ranked.clear();
        ranked.extend(largest.iter().map(|keyed| keyed.2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    fn first_choices(scores: &[f64], limit: usize) -> Vec<u32> {
        let scene = Scene::new(0);
        let mut ranked = Vec::new();
        let mut first = vec![0_u32; scores.len()];
        for _ in 0..12_000 {
            WeightedRandomPicker.pick(&scene.context(), scores, limit, &mut ranked);
            assert_eq!(ranked.len(), limit.min(scores.len()));
            first[ranked[0] as usize] += 1;
        }
        first
    }

    #[test]
    fn first_choices_are_in_proportion_to_the_scores() {
        for limit in [1, 2, 3] {
            let first = first_choices(&[0.5, 1.5, 1.0], limit);
            // 2,000, 6,000 and 4,000 expected, standard deviations up to 55.
            assert!(
                first[0].abs_diff(2000) < 280
                    && first[1].abs_diff(6000) < 280
                    && first[2].abs_diff(4000) < 280,
                "{first:?}"
            );
        }
    }

    #[test]
    fn tiny_scores_keep_their_proportions() {
        let first = first_choices(&[1e-9, 3e-9], 1);
        assert!(first[0].abs_diff(3000) < 250, "{first:?}");
    }

    #[test]
    fn without_scores_all_are_equally_likely() {
        let first = first_choices(&[0.0, -1.0, 0.0], 1);
        assert!(
            first.iter().all(|count| count.abs_diff(4000) < 270),
            "{first:?}"
        );
    }

    #[test]
    fn what_has_no_score_comes_last() {
        let scene = Scene::new(0);
        let mut ranked = Vec::new();
        for _ in 0..100 {
            WeightedRandomPicker.pick(&scene.context(), &[0.0, 1e-6, 0.0], 3, &mut ranked);
            assert_eq!(ranked[0], 1);
            ranked.sort_unstable();
            assert_eq!(ranked, [0, 1, 2]);
        }
    }
}
