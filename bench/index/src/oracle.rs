//! The answers as they should be: which worker holds which block, and nothing clever.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::workload::{Arena, Change, Event, engine_hash};

/// The engine hashes that each worker holds.
pub struct Oracle {
    held: Vec<HashSet<u64, BuildHasherDefault<FxHasher>>>,
}

impl Oracle {
    /// Nobody holds anything.
    pub fn new(workers: u32) -> Self {
        Self {
            held: vec![HashSet::default(); workers as usize],
        }
    }

    /// Does what the event says.
    pub fn apply(&mut self, arena: &Arena, event: &Event) {
        let held = &mut self.held[event.worker as usize];
        match &event.change {
            Change::Store { blocks, .. } => held.extend(
                arena.blocks[blocks.clone()]
                    .iter()
                    .map(|block| block.engine),
            ),
            Change::Remove(hashes) => {
                for hash in &arena.removals[hashes.clone()] {
                    held.remove(hash);
                }
            }
            Change::Clear => held.clear(),
        }
    }

    /// Leading blocks held, by worker.
    pub fn depths(&self, contents: &[u64]) -> Vec<u32> {
        let mut last = None;
        let hashes: Vec<u64> = contents
            .iter()
            .map(|&content| {
                let hash = engine_hash(last, content);
                last = Some(hash);
                hash
            })
            .collect();
        self.held
            .iter()
            .map(|held| hashes.iter().take_while(|hash| held.contains(hash)).count() as u32)
            .collect()
    }
}
