//! A plain map from hash to holders behind a lock: what the Go reference keeps, in Rust.

use std::sync::RwLock;
use std::time::Duration;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::clock::spent;
use crate::subject::Subject;
use crate::workload::{Arena, Change, Event, engine_hash};

/// Up to this many holders need no allocation of their own.
type Holders = SmallVec<[u32; 2]>;

/// The map. Its keys are the engines' hashes: it needs no second map, and a query chains as the engine does.
pub struct Naive(RwLock<HashMap<u64, Holders, FxBuildHasher>>);

/// An event with the engine hashes it speaks of.
pub struct Named {
    worker: u32,
    change: NamedChange,
}

enum NamedChange {
    Store(Vec<u64>),
    Remove(Vec<u64>),
    Clear,
}

impl Naive {
    fn write(&self, event: &Named) {
        let mut map = self.0.write().expect("no writer panics");
        match &event.change {
            NamedChange::Store(hashes) => {
                for &hash in hashes {
                    let holders = map.entry(hash).or_default();
                    if !holders.contains(&event.worker) {
                        holders.push(event.worker);
                    }
                }
            }
            NamedChange::Remove(hashes) => {
                for hash in hashes {
                    let Some(holders) = map.get_mut(hash) else {
                        continue;
                    };
                    if let Some(place) = holders.iter().position(|&holder| holder == event.worker) {
                        holders.swap_remove(place);
                        if holders.is_empty() {
                            map.remove(hash);
                        }
                    }
                }
            }
            NamedChange::Clear => map.retain(|_, holders| {
                holders.retain(|holder| *holder != event.worker);
                !holders.is_empty()
            }),
        }
    }

    fn matches(&self, contents: &[u64], found: &mut Vec<(u32, u32)>) {
        found.clear();
        let map = self.0.read().expect("no writer panics");
        let mut alive = Holders::new();
        let mut last = None;
        let mut depth = 0;
        for &content in contents {
            let hash = engine_hash(last, content);
            last = Some(hash);
            let Some(holders) = map.get(&hash) else { break };
            if depth == 0 {
                alive.clone_from(holders);
            } else {
                alive.retain(|worker| {
                    let stays = holders.contains(worker);
                    if !stays {
                        found.push((*worker, depth));
                    }
                    stays
                });
                if alive.is_empty() {
                    break;
                }
            }
            depth += 1;
        }
        found.extend(alive.into_iter().map(|worker| (worker, depth)));
    }
}

impl Subject for Naive {
    const NAME: &'static str = "naive";
    type Change = Named;
    type Writer = ();
    type Asked = (Vec<u64>, Vec<(u32, u32)>);

    fn create(_: u32) -> (Self, ()) {
        (Self(RwLock::default()), ())
    }

    fn prepare(arena: &Arena, event: &Event) -> Named {
        let change = match &event.change {
            Change::Store { blocks, .. } => NamedChange::Store(
                arena.blocks[blocks.clone()]
                    .iter()
                    .map(|block| block.engine)
                    .collect(),
            ),
            Change::Remove(hashes) => NamedChange::Remove(arena.removals[hashes.clone()].to_vec()),
            Change::Clear => NamedChange::Clear,
        };
        Named {
            worker: event.worker,
            change,
        }
    }

    fn apply(&self, (): &mut (), batch: Vec<Named>) -> Duration {
        spent(|| batch.iter().for_each(|event| self.write(event)))
    }

    fn ask(&self, contents: &[u64], (asked, _): &mut Self::Asked) {
        asked.clear();
        asked.extend_from_slice(contents);
    }

    fn answer(&self, (asked, found): &mut Self::Asked) -> usize {
        self.matches(asked, found);
        found.len()
    }

    fn depths(&self, contents: &[u64]) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        self.matches(contents, &mut found);
        found
    }
}
