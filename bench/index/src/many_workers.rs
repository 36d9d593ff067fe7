//! More workers than any pool has today, all holding the same sequence.

use fastrand::Rng;

use crate::subject::Subject;
use crate::workload::{Arena, Change, Event};

/// Workers that an index has to tell apart.
pub const WORKERS: u32 = 4_096;
const BLOCKS: usize = 16;

/// How many of them an answer names; 0 where the index cannot have so many.
pub fn named<S: Subject>(seed: u64) -> usize {
    if S::MOST_WORKERS < WORKERS {
        return 0;
    }
    let mut arena = Arena::default();
    let blocks = arena.grow(&mut Rng::with_seed(seed), None, BLOCKS);
    let (subject, mut writer) = S::create(WORKERS);
    let store = |worker| Event {
        worker,
        change: Change::Store {
            parent: None,
            blocks: blocks.clone(),
        },
    };
    subject.apply(
        &mut writer,
        (0..WORKERS)
            .map(|worker| S::prepare(&arena, &store(worker)))
            .collect(),
    );
    subject
        .depths(&arena.contents([&blocks]))
        .iter()
        .filter(|(_, depth)| *depth as usize == BLOCKS)
        .count()
}
