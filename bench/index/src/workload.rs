//! Workloads A (shared prefixes) and B (single holders), seeded: the same events for every index.

use std::ops::Range;

use dynamo_kv_router::protocols::{LocalBlockHash, compute_next_seq_hash};
use fastrand::Rng;

const PREFIXES: usize = 2_000;
const HOT: usize = 200;
const HOLDERS: usize = 64;
const PREFIX_BLOCKS: usize = 64;
const SUFFIX_BLOCKS: usize = 16;
const SUFFIXES: usize = 6;
const WORKERS_A: u32 = 256;
const WORKERS_B: u32 = 64;
const SEQUENCES_B: usize = 31_250;
const BLOCKS_B: usize = 128;

/// A block as its engine announces it.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The engine's chained hash.
    pub engine: u64,
    /// Hash of the block's own tokens: random.
    pub content: u64,
}

/// Where events find what they speak of.
#[derive(Debug, Default)]
pub struct Arena {
    /// Blocks of stores.
    pub blocks: Vec<Block>,
    /// Engine hashes of removals.
    pub removals: Vec<u64>,
}

/// What one worker announces.
#[derive(Clone, Debug)]
pub struct Event {
    /// Number of the worker.
    pub worker: u32,
    /// What happened to its cache.
    pub change: Change,
}

/// A change of a worker's cache.
#[derive(Clone, Debug)]
pub enum Change {
    /// Blocks in a row after `parent` (an engine hash; `None`: at the start).
    Store {
        /// Engine hash of the block before.
        parent: Option<u64>,
        /// Place in [`Arena::blocks`].
        blocks: Range<usize>,
    },
    /// Blocks dropped, in this order. A place in [`Arena::removals`].
    Remove(Range<usize>),
    /// Everything dropped.
    Clear,
}

/// What one worker holds of one conversation: places in [`Arena::blocks`].
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its holder.
    pub worker: u32,
    /// What it shares with others; empty in B.
    pub head: Range<usize>,
    /// What churn replaces.
    pub tail: Range<usize>,
}

/// A workload before any churn.
#[derive(Debug)]
pub struct Workload {
    /// Workers, numbered from 0.
    pub workers: u32,
    /// Blocks of the events.
    pub arena: Arena,
    /// Stores that load the index from empty, shuffled; a parent comes before what follows it.
    pub load: Vec<Event>,
    /// Sequences with one holder of their tail.
    pub sequences: Vec<Sequence>,
    /// Of A: prefix and shared suffix of each of the hot prefixes, which `HOLDERS` workers hold.
    pub hot: Vec<(Range<usize>, Range<usize>)>,
    /// Pairs of block and holder after the load.
    pub pairs: usize,
    /// Different blocks after the load.
    pub distinct: usize,
}

impl Arena {
    /// Appends `count` fresh blocks that follow `parent` and returns their place.
    pub fn grow(&mut self, rng: &mut Rng, parent: Option<u64>, count: usize) -> Range<usize> {
        let start = self.blocks.len();
        let mut last = parent;
        for _ in 0..count {
            let content = rng.u64(..);
            let engine = engine_hash(last, content);
            self.blocks.push(Block { engine, content });
            last = Some(engine);
        }
        start..self.blocks.len()
    }

    /// Engine hash of the last block of `range`, if there is one.
    pub fn last(&self, range: &Range<usize>) -> Option<u64> {
        self.blocks[range.clone()].last().map(|block| block.engine)
    }

    /// Content hashes of a sequence.
    pub fn contents<'a>(&'a self, ranges: impl IntoIterator<Item = &'a Range<usize>>) -> Vec<u64> {
        ranges
            .into_iter()
            .flat_map(|range| &self.blocks[range.clone()])
            .map(|block| block.content)
            .collect()
    }
}

/// The engines' chained hash: the one that `PositionalIndexer` computes from a query for itself, so it has to be this.
pub fn engine_hash(parent: Option<u64>, content: u64) -> u64 {
    parent.map_or(content, |parent| {
        compute_next_seq_hash(parent, LocalBlockHash(content))
    })
}

/// Workload A: few long prefixes, some held by 64 workers, each holder with suffixes of its own.
pub fn shared_prefixes(seed: u64) -> Workload {
    let mut rng = Rng::with_seed(seed);
    let mut arena = Arena::default();
    let weights: Vec<f64> = (1..=HOLDERS).map(|holders| 1.0 / holders as f64).collect();
    let total: f64 = weights.iter().sum();
    let (mut groups, mut sequences, mut hot) = (Vec::new(), Vec::new(), Vec::new());
    let mut workers: Vec<u32> = (0..WORKERS_A).collect();
    for prefix in 0..PREFIXES {
        let head = arena.grow(&mut rng, None, PREFIX_BLOCKS);
        let parent = arena.last(&head);
        let shared = (prefix < HOT).then(|| arena.grow(&mut rng, parent, SUFFIX_BLOCKS));
        let holders = if prefix < HOT {
            HOLDERS
        } else {
            zipf(&mut rng, &weights, total)
        };
        rng.shuffle(&mut workers);
        for &worker in &workers[..holders] {
            let store = |blocks, parent| Event {
                worker,
                change: Change::Store { parent, blocks },
            };
            let mut events = vec![store(head.clone(), None)];
            for _ in 0..SUFFIXES {
                let tail = arena.grow(&mut rng, parent, SUFFIX_BLOCKS);
                events.push(store(tail.clone(), parent));
                sequences.push(Sequence {
                    worker,
                    head: head.clone(),
                    tail,
                });
            }
            events.extend(shared.clone().map(|blocks| store(blocks, parent)));
            groups.push(events);
        }
        hot.extend(shared.map(|suffix| (head, suffix)));
    }
    let load = interleave(&mut rng, groups);
    workload(WORKERS_A, arena, load, sequences, hot)
}

/// Workload B: every sequence on one worker.
pub fn single_holders(seed: u64) -> Workload {
    let mut rng = Rng::with_seed(seed);
    let mut arena = Arena::default();
    let (mut load, mut sequences) = (Vec::new(), Vec::new());
    for _ in 0..SEQUENCES_B {
        let worker = rng.u32(..WORKERS_B);
        let blocks = arena.grow(&mut rng, None, BLOCKS_B);
        load.push(Event {
            worker,
            change: Change::Store {
                parent: None,
                blocks: blocks.clone(),
            },
        });
        sequences.push(Sequence {
            worker,
            head: 0..0,
            tail: blocks,
        });
    }
    workload(WORKERS_B, arena, load, sequences, Vec::new())
}

fn workload(
    workers: u32,
    arena: Arena,
    load: Vec<Event>,
    sequences: Vec<Sequence>,
    hot: Vec<(Range<usize>, Range<usize>)>,
) -> Workload {
    let pairs = load.iter().map(Event::blocks).sum();
    let distinct = arena.blocks.len();
    Workload {
        workers,
        arena,
        load,
        sequences,
        hot,
        pairs,
        distinct,
    }
}

fn zipf(rng: &mut Rng, weights: &[f64], total: f64) -> usize {
    let mut left = rng.f64() * total;
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index + 1;
        }
    }
    weights.len()
}

/// All events in a random order in which the first of each group stays the group's first.
fn interleave(rng: &mut Rng, groups: Vec<Vec<Event>>) -> Vec<Event> {
    let mut turns: Vec<u32> = groups
        .iter()
        .enumerate()
        .flat_map(|(group, events)| std::iter::repeat_n(group as u32, events.len()))
        .collect();
    rng.shuffle(&mut turns);
    let mut queues: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    turns
        .into_iter()
        .filter_map(|group| queues[group as usize].next())
        .collect()
}

impl Event {
    /// Blocks that the event speaks of.
    pub fn blocks(&self) -> usize {
        match &self.change {
            Change::Store { blocks, .. } => blocks.len(),
            Change::Remove(hashes) => hashes.len(),
            Change::Clear => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workloads_have_the_sizes_of_the_reference() {
        let a = shared_prefixes(1);
        // The number of holders of 1,800 prefixes is drawn: the reference had 6,136,160 pairs in 272,297 events.
        assert!((5_900_000..6_400_000).contains(&a.pairs), "{}", a.pairs);
        assert!(
            (262_000..283_000).contains(&a.load.len()),
            "{}",
            a.load.len()
        );
        assert_eq!(
            a.distinct,
            PREFIXES * PREFIX_BLOCKS + HOT * SUFFIX_BLOCKS + a.sequences.len() * SUFFIX_BLOCKS
        );
        let b = single_holders(1);
        assert_eq!(
            (b.pairs, b.distinct, b.load.len()),
            (4_000_000, 4_000_000, SEQUENCES_B)
        );
    }

    #[test]
    fn a_parent_is_stored_before_what_follows_it() {
        let a = shared_prefixes(2);
        let mut known = std::collections::HashSet::new();
        for event in &a.load {
            let Change::Store { parent, blocks } = &event.change else {
                panic!("a load only stores")
            };
            assert!(parent.is_none_or(|parent| known.contains(&(event.worker, parent))));
            known.insert((
                event.worker,
                a.arena.last(blocks).expect("a store has blocks"),
            ));
        }
    }
}
