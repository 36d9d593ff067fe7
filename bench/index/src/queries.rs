//! The queries of A and B, by kind.

use fastrand::Rng;

use crate::workload::Workload;

const UNKNOWN: usize = 2;
const SHORT: usize = 78;

/// Queries of one kind.
#[derive(Debug)]
pub struct Kind {
    /// As in the reference: what is held how deep.
    pub name: &'static str,
    /// Content hashes of each query.
    pub queries: Vec<Vec<u64>>,
}

/// Of A: 64 holders at depth 78 and then two unknown blocks; a stored sequence with one holder at 80 and others at 64; 80 unknown blocks.
pub fn of_shared_prefixes(workload: &Workload, rng: &mut Rng, count: usize) -> Vec<Kind> {
    let arena = &workload.arena;
    let hot = (0..count).map(|_| {
        let (head, suffix) = &workload.hot[rng.usize(..workload.hot.len())];
        unknown_after(arena.contents([head, suffix]), rng)
    });
    let hot = Kind {
        name: "hot64@78",
        queries: hot.collect(),
    };
    let unique = (0..count).map(|_| {
        let sequence = &workload.sequences[rng.usize(..workload.sequences.len())];
        arena.contents([&sequence.head, &sequence.tail])
    });
    let unique = Kind {
        name: "uniq80",
        queries: unique.collect(),
    };
    let miss = (0..count).map(|_| (0..SHORT + UNKNOWN).map(|_| rng.u64(..)).collect());
    let miss = Kind {
        name: "miss80",
        queries: miss.collect(),
    };
    vec![hot, unique, miss]
}

/// Of B: a stored sequence of 128 blocks; its first 78 and then two unknown blocks.
pub fn of_single_holders(workload: &Workload, rng: &mut Rng, count: usize) -> Vec<Kind> {
    let some = |rng: &mut Rng| {
        let sequence = &workload.sequences[rng.usize(..workload.sequences.len())];
        workload.arena.contents([&sequence.tail])
    };
    let whole = (0..count).map(|_| some(rng)).collect();
    let part = (0..count).map(|_| unknown_after(some(rng), rng)).collect();
    vec![
        Kind {
            name: "single@128",
            queries: whole,
        },
        Kind {
            name: "single@78",
            queries: part,
        },
    ]
}

fn unknown_after(mut contents: Vec<u64>, rng: &mut Rng) -> Vec<u64> {
    contents.truncate(SHORT);
    contents.extend((0..UNKNOWN).map(|_| rng.u64(..)));
    contents
}
