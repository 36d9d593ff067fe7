//! Workload C: a recorded conversation trace over 32 workers that each keep 2,000 blocks of 512 tokens.
//!
//! Each request goes to the worker with the longest match, ties at random; a match of one block or less counts as none, since every request shares block 0.
//! Which worker that is, is decided here once, so that every index sees the same queries and events.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use fastrand::Rng;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::workload::{Arena, Block, Change, Event, engine_hash};

/// Workers of the workload.
pub const WORKERS: u32 = 32;
const CAPACITY: usize = 2_000;
const WORTHLESS: usize = 1;

/// One request: what is asked, then what its worker announces.
#[derive(Debug)]
pub struct Step {
    /// Content hashes of the request.
    pub query: Vec<u64>,
    /// Removals and a store, in order.
    pub events: Vec<Event>,
}

/// The trace as queries and events.
#[derive(Debug)]
pub struct Trace {
    /// What the events speak of.
    pub arena: Arena,
    /// In the order of the trace.
    pub steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Request {
    hash_ids: Vec<u64>,
}

/// A worker's cache, least recently used first; of one request the first block is the most recent, so that eviction never leaves a hole.
#[derive(Default)]
struct Cache {
    stamps: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    clock: u64,
}

impl Cache {
    fn touch(&mut self, hash: u64) {
        self.clock += 1;
        if let Some(old) = self.stamps.insert(hash, self.clock) {
            self.order.remove(&old);
        }
        self.order.insert(self.clock, hash);
    }

    fn evict(&mut self) -> Vec<u64> {
        let mut evicted = Vec::new();
        while self.stamps.len() > CAPACITY {
            let Some((_, hash)) = self.order.pop_first() else {
                break;
            };
            self.stamps.remove(&hash);
            evicted.push(hash);
        }
        evicted
    }
}

/// Reads the trace and decides where its requests go.
///
/// # Errors
///
/// When the file cannot be read or a line is not a request.
pub fn read(path: &Path, seed: u64) -> io::Result<Trace> {
    let mut rng = Rng::with_seed(seed);
    let mut arena = Arena::default();
    let mut caches: Vec<Cache> = (0..WORKERS).map(|_| Cache::default()).collect();
    let mut steps = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let mut last = None;
        let blocks: Vec<Block> = request
            .hash_ids
            .iter()
            .map(|id| {
                let content = xxh3_64(&id.to_le_bytes());
                let engine = engine_hash(last, content);
                last = Some(engine);
                Block { engine, content }
            })
            .collect();
        let worker = route(&caches, &blocks, &mut rng);
        let events = serve(&mut caches[worker], worker as u32, &blocks, &mut arena);
        steps.push(Step {
            query: blocks.iter().map(|block| block.content).collect(),
            events,
        });
    }
    Ok(Trace { arena, steps })
}

fn held(cache: &Cache, blocks: &[Block]) -> usize {
    blocks
        .iter()
        .take_while(|block| cache.stamps.contains_key(&block.engine))
        .count()
}

fn route(caches: &[Cache], blocks: &[Block], rng: &mut Rng) -> usize {
    let depths: Vec<usize> = caches
        .iter()
        .map(|cache| held(cache, blocks))
        .map(|depth| if depth <= WORTHLESS { 0 } else { depth })
        .collect();
    let best = depths.iter().copied().max().unwrap_or_default();
    let ties: Vec<usize> = (0..depths.len())
        .filter(|&worker| depths[worker] == best)
        .collect();
    ties[rng.usize(..ties.len())]
}

fn serve(cache: &mut Cache, worker: u32, blocks: &[Block], arena: &mut Arena) -> Vec<Event> {
    let depth = held(cache, blocks);
    blocks
        .iter()
        .rev()
        .for_each(|block| cache.touch(block.engine));
    let mut events = Vec::new();
    let evicted = cache.evict();
    if !evicted.is_empty() {
        let start = arena.removals.len();
        arena.removals.extend(evicted);
        events.push(Event {
            worker,
            change: Change::Remove(start..arena.removals.len()),
        });
    }
    if depth < blocks.len() {
        let start = arena.blocks.len();
        arena.blocks.extend_from_slice(&blocks[depth..]);
        let parent = depth.checked_sub(1).map(|before| blocks[before].engine);
        events.push(Event {
            worker,
            change: Change::Store {
                parent,
                blocks: start..arena.blocks.len(),
            },
        });
    }
    events
}
