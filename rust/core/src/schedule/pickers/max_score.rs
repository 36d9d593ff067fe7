//! `max-score-picker`: the best total wins, equal ones by lot.

use crate::plugin::{PluginKind, Role};
use crate::schedule::{Context, Picker};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "max-score-picker",
    roles: &[Role::Picker],
    summary: "The highest totals, best first; equal totals in random order.",
    parameters: super::PARAMETERS,
    build: |parameters| Ok(super::build(MaxScorePicker, parameters)),
    ..PluginKind::BASE
};

/// Has the distribution of a shuffle followed by a stable sort by falling total, without sorting what is not asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxScorePicker;

impl Picker for MaxScorePicker {
    fn pick(&self, context: &Context<'_>, scores: &[f64], limit: usize, ranked: &mut Vec<u32>) {
        let mut random = context.random.borrow_mut();
        ranked.clear();
        if limit <= 1 {
            ranked.extend(best(scores, &mut random));
            return;
        }
        ranked.extend(0..scores.len() as u32);
        // After the shuffle each of several equal rows is as likely to be at any place as the others, so whatever the selection does with them is fair.
        random.shuffle(ranked);
        let falling =
            |left: &u32, right: &u32| scores[*right as usize].total_cmp(&scores[*left as usize]);
        if limit < ranked.len() {
            ranked.select_nth_unstable_by(limit - 1, falling);
            ranked.truncate(limit);
        }
        ranked.sort_unstable_by(falling);
    }
}

/// The row with the highest score; the k-th of equal ones replaces those before it with probability 1/k, which makes all equally likely.
fn best(scores: &[f64], random: &mut fastrand::Rng) -> Option<u32> {
    let mut best = None;
    let mut highest = f64::NEG_INFINITY;
    let mut ties = 0_u32;
    for (row, &score) in (0..).zip(scores) {
        if score > highest || best.is_none() {
            (best, highest, ties) = (Some(row), score, 1);
        } else if score >= highest {
            ties += 1;
            if random.u32(0..ties) == 0 {
                best = Some(row);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    fn pick(scores: &[f64], limit: usize, scene: &Scene) -> Vec<u32> {
        let mut ranked = vec![9];
        MaxScorePicker.pick(&scene.context(), scores, limit, &mut ranked);
        ranked
    }

    #[test]
    fn the_best_come_first() {
        let scene = Scene::new(0);
        let scores = [0.2, 0.9, 0.5, 0.7];
        assert_eq!(pick(&scores, 1, &scene), [1]);
        assert_eq!(pick(&scores, 3, &scene), [1, 3, 2]);
        assert_eq!(pick(&scores, 9, &scene), [1, 3, 2, 0]);
        assert_eq!(pick(&[0.0], 1, &scene), [0]);
    }

    #[test]
    fn ties_are_broken_evenly() {
        for limit in [1, 2] {
            let scene = Scene::new(0);
            let mut first = [0_u32; 5];
            for _ in 0..12_000 {
                let ranked = pick(&[0.5, 1.0, 1.0, 0.1, 1.0], limit, &scene);
                first[ranked[0] as usize] += 1;
            }
            assert_eq!((first[0], first[3]), (0, 0));
            // 4,000 expected each, standard deviation 52.
            assert!(
                [1, 2, 4]
                    .iter()
                    .all(|&row: &usize| first[row].abs_diff(4000) < 260),
                "{first:?}"
            );
        }
    }
}
