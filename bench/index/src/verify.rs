//! Answers beside the oracle's.

use std::collections::{BTreeMap, HashSet};

use fastrand::Rng;
use serde::Serialize;

use crate::churn;
use crate::measure::{CLEARED, SEED, apply};
use crate::oracle::Oracle;
use crate::queries::Kind;
use crate::subject::Subject;
use crate::workload::{Arena, Change, Event, Workload};

const CHECKED: usize = 500;

/// Wrong answers to a number of queries; one that is too deep for a worker and too short for another counts as too deep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Queries asked.
    pub of: usize,
    /// Some worker is said to hold more than it does.
    pub too_deep: usize,
    /// Some worker is said to hold less than it does.
    pub too_short: usize,
}

/// Asks each query and compares every worker's depth.
pub fn compare<'a, S: Subject>(
    subject: &S,
    oracle: &Oracle,
    queries: impl IntoIterator<Item = &'a Vec<u64>>,
) -> Wrong {
    let mut wrong = Wrong::default();
    for query in queries {
        let right = oracle.depths(query);
        let mut given = vec![0; right.len()];
        for (worker, depth) in subject.depths(query) {
            given[worker as usize] = depth;
        }
        wrong.of += 1;
        if given.iter().zip(&right).any(|(given, right)| given > right) {
            wrong.too_deep += 1;
        } else if given != right {
            wrong.too_short += 1;
        }
    }
    wrong
}

/// Answers beside the oracle's; nothing where they were not asked for.
pub struct Checks {
    oracle: Option<Oracle>,
    /// By state of the index.
    pub wrong: BTreeMap<&'static str, Wrong>,
}

impl Checks {
    /// A record of what the workload loads, when `verify`.
    pub fn new(verify: bool, workload: &Workload) -> Self {
        let oracle = verify.then(|| Oracle::new(workload.workers));
        let mut checks = Self {
            oracle,
            wrong: BTreeMap::new(),
        };
        checks.apply(&workload.arena, &workload.load);
        checks
    }

    /// Keeps the oracle up to date.
    pub fn apply(&mut self, arena: &Arena, events: &[Event]) {
        if let Some(oracle) = &mut self.oracle {
            for event in events {
                oracle.apply(arena, event);
            }
        }
    }

    /// The loaded state's queries (of which churn makes some stale) and those of today's sequences.
    pub fn check<S: Subject>(
        &mut self,
        when: &'static str,
        subject: &S,
        workload: &Workload,
        kinds: &[Kind],
    ) {
        let Some(oracle) = &self.oracle else { return };
        let today = workload
            .sequences
            .iter()
            .take(CHECKED)
            .map(|sequence| workload.arena.contents([&sequence.head, &sequence.tail]));
        let today: Vec<Vec<u64>> = today.collect();
        let queries = kinds
            .iter()
            .flat_map(|kind| kind.queries.iter().take(CHECKED))
            .chain(&today);
        self.wrong.insert(when, compare(subject, oracle, queries));
    }

    /// Takes a block out of the middle of sequences of different prefixes, asks; stores those blocks again, alone, and asks again.
    pub fn holes<S: Subject>(
        &mut self,
        subject: &S,
        writer: &mut S::Writer,
        workload: &mut Workload,
    ) {
        if self.oracle.is_none() {
            return;
        }
        let mut seen = HashSet::new();
        let chosen = workload
            .sequences
            .iter()
            .filter(|sequence| sequence.worker >= CLEARED && seen.insert(sequence.head.start));
        let chosen: Vec<_> = chosen.take(CHECKED).cloned().collect();
        let queries: Vec<Vec<u64>> = chosen
            .iter()
            .map(|sequence| workload.arena.contents([&sequence.head, &sequence.tail]))
            .collect();
        let mut rng = Rng::with_seed(SEED);
        let (mut removals, mut stores) = (Vec::new(), Vec::new());
        for sequence in &chosen {
            let blocks: Vec<usize> = sequence.head.clone().chain(sequence.tail.clone()).collect();
            // Neither the first nor the last: a hole has something before it and after it.
            let place = rng.usize(1..blocks.len() - 1);
            let (parent, hole) = (
                workload.arena.blocks[blocks[place - 1]].engine,
                blocks[place],
            );
            let worker = sequence.worker;
            let removed = churn::remove(&mut workload.arena, std::iter::once(hole));
            removals.push(Event {
                worker,
                change: removed,
            });
            stores.push(Event {
                worker,
                change: Change::Store {
                    parent: Some(parent),
                    blocks: hole..hole + 1,
                },
            });
        }
        for (when, events) in [("hole", removals), ("healed", stores)] {
            apply(subject, writer, &workload.arena, &events);
            self.apply(&workload.arena, &events);
            if let Some(oracle) = &self.oracle {
                self.wrong.insert(when, compare(subject, oracle, &queries));
            }
        }
    }
}
