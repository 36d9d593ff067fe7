//! `round-robin-picker`: the candidates in turn, as a plain Service has it.

use parking_lot::Mutex;

use crate::plugin::{PluginKind, Role};
use crate::schedule::{Context, Picker};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "round-robin-picker",
    roles: &[Role::Picker],
    summary: "The candidate whose last turn is longest ago, whatever the scores; those without a turn so far first, in the order of their names.",
    parameters: super::PARAMETERS,
    build: |parameters| Ok(super::build(RoundRobinPicker::default(), parameters)),
    ..PluginKind::BASE
};

/// Turns go by endpoint and not by a cursor over rows: requests that may go to different endpoints then still give each its share, where a cursor
/// would come past some of them only with requests that may not use them. While all requests have the same candidates both are the same.
#[derive(Debug, Default)]
pub struct RoundRobinPicker {
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// Turns given so far.
    given: u64,
    /// Number of the last turn of each slot, from 1; 0: none. As long as the highest slot ever seen. A slot that is used again has the turn of
    /// the endpoint before, which is older than that of any other that is a candidate as often.
    last: Vec<u64>,
}

impl Picker for RoundRobinPicker {
    fn pick(&self, context: &Context<'_>, scores: &[f64], limit: usize, ranked: &mut Vec<u32>) {
        let mut turns = self.turns.lock();
        let slot = |row: u32| {
            let endpoint = context.endpoint(row as usize);
            endpoint.map_or(0, |endpoint| endpoint.slot as usize)
        };
        // Rows are in the order of names, so equal turns (none at all) go by name.
        let turn = |row: &u32| {
            let last = turns.last.get(slot(*row));
            (last.copied().unwrap_or(0), *row)
        };
        let rows = 0..scores.len() as u32;
        ranked.clear();
        if limit <= 1 {
            ranked.extend(rows.min_by_key(turn));
        } else {
            ranked.extend(rows);
            ranked.sort_unstable_by_key(turn);
            ranked.truncate(limit);
        }
        let Some(first) = ranked.first().map(|row| slot(*row)) else {
            return;
        };
        turns.given += 1;
        if first >= turns.last.len() {
            turns.last.resize(first + 1, 0);
        }
        turns.last[first] = turns.given;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::schedule::testing::Scene;

    /// Endpoint that each of `count` requests goes to, by position; the candidates are those at `positions`.
    fn picks(picker: &dyn Picker, scene: &mut Scene, positions: &[u32], count: usize) -> Vec<u32> {
        scene.candidates.position = positions.to_vec();
        let scores = vec![0.0; positions.len()];
        let mut ranked = Vec::new();
        let pick = |_| {
            picker.pick(&scene.context(), &scores, 1, &mut ranked);
            positions[ranked[0] as usize]
        };
        (0..count).map(pick).collect()
    }

    #[test]
    fn candidates_take_turns_by_name() {
        let picker = RoundRobinPicker::default();
        let mut scene = Scene::new(3);
        assert_eq!(
            picks(&picker, &mut scene, &[0, 1, 2], 7),
            [0, 1, 2, 0, 1, 2, 0]
        );
    }

    #[test]
    fn who_comes_is_next_and_who_leaves_takes_no_turn() {
        let picker = RoundRobinPicker::default();
        let mut scene = Scene::new(4);
        assert_eq!(picks(&picker, &mut scene, &[0, 2], 3), [0, 2, 0]);
        assert_eq!(
            picks(&picker, &mut scene, &[0, 1, 2, 3], 5),
            [1, 3, 2, 0, 1]
        );
        assert_eq!(picks(&picker, &mut scene, &[1, 3], 3), [3, 1, 3]);
    }

    #[test]
    fn requests_for_different_endpoints_do_not_starve_any() {
        let picker = RoundRobinPicker::default();
        let mut scene = Scene::new(4);
        let mut counts = [0_u32; 4];
        // Alternating: a cursor over all would only ever give the first of each pair.
        for _ in 0..10 {
            for positions in [[0, 1], [2, 3]] {
                let position = picks(&picker, &mut scene, &positions, 1)[0];
                counts[position as usize] += 1;
            }
        }
        assert_eq!(counts, [5; 4]);
    }

    #[test]
    fn fallbacks_are_the_next_in_turn_and_only_the_first_choice_uses_its_turn() {
        let picker = RoundRobinPicker::default();
        let scene = Scene::new(3);
        let mut ranked = vec![9];
        for expected in [[0, 1], [1, 2], [2, 0], [0, 1]] {
            picker.pick(&scene.context(), &[0.0, 1.0, 0.0], 2, &mut ranked);
            assert_eq!(ranked, expected);
        }
    }

    #[test]
    fn threads_together_give_each_its_share() {
        let picker = Arc::new(RoundRobinPicker::default());
        let threads = (0..4).map(|_| {
            let picker = Arc::clone(&picker);
            thread::spawn(move || picks(&*picker, &mut Scene::new(3), &[0, 1, 2], 300))
        });
        let threads: Vec<_> = threads.collect();
        let mut counts = [0_u32; 3];
        for thread in threads {
            for picked in thread.join().expect("a thread that picks") {
                counts[picked as usize] += 1;
            }
        }
        assert_eq!(counts, [400; 3]);
    }
}
