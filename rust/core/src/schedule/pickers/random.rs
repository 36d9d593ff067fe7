//! `random-picker`: any candidate, whatever its score.

use crate::plugin::{PluginKind, Role};
use crate::schedule::{Context, Picker};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "random-picker",
    roles: &[Role::Picker],
    summary: "Candidates at random, whatever their scores.",
    parameters: super::PARAMETERS,
    build: |parameters| Ok(super::build(RandomPicker, parameters)),
    ..PluginKind::BASE
};

/// The beginning of a shuffle.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomPicker;

impl Picker for RandomPicker {
    fn pick(&self, context: &Context<'_>, scores: &[f64], limit: usize, ranked: &mut Vec<u32>) {
        let mut random = context.random.borrow_mut();
        ranked.clear();
        ranked.extend(0..scores.len() as u32);
        let limit = limit.min(ranked.len());
        // Fisher-Yates, only as far as needed.
        for place in 0..limit {
            let other = random.usize(place..ranked.len());
            ranked.swap(place, other);
        }
        ranked.truncate(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    #[test]
    fn every_candidate_comes_first_equally_often() {
        let scene = Scene::new(0);
        let mut ranked = Vec::new();
        let mut first = [0_u32; 4];
        for _ in 0..12_000 {
            RandomPicker.pick(&scene.context(), &[0.0, 1.0, 0.5, 0.0], 2, &mut ranked);
            assert!(ranked.len() == 2 && ranked[0] != ranked[1]);
            first[ranked[0] as usize] += 1;
        }
        // 3,000 expected each, standard deviation 47.
        assert!(
            first.iter().all(|count| count.abs_diff(3000) < 240),
            "{first:?}"
        );
    }
}
