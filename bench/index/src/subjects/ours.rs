//! warmroute's own index.

use std::time::Duration;

use warmroute_core::prefix::exact::{
    ExactIndex, Lane, MAX_TIERS, Matches, Parent, StoredBlock, Tier, content, root,
};

use crate::clock::spent;
use crate::subject::Subject;
use crate::workload::{Arena, Block, Change, Event};

/// No workload comes near it: eviction is not what is measured here.
const BUDGET: usize = 64 << 30;
const BLOCK_TOKENS: u32 = 16;
/// Tiers that count alike, as there is only one.
const WEIGHTS: [f32; MAX_TIERS] = [1.0; MAX_TIERS];

/// The index, with the root of all its chains.
pub struct Ours {
    index: ExactIndex,
    root: u64,
}

/// An event in the index's types.
pub struct Named {
    worker: u32,
    change: NamedChange,
}

enum NamedChange {
    Store(Option<u64>, Vec<StoredBlock>),
    Remove(Vec<u64>),
    Clear,
}

/// Reads all of the result, as whoever asks does. Returns the number of holders.
fn read(matches: &Matches) -> usize {
    let (mut holders, mut blocks) = (0, 0);
    for (_, depth, _) in matches.iter() {
        holders += 1;
        blocks += depth;
    }
    std::hint::black_box(blocks);
    holders
}

impl Subject for Ours {
    const NAME: &'static str = "ours";
    type Change = Named;
    type Writer = Vec<Lane>;
    type Asked = (Vec<u64>, Matches);

    fn create(workers: u32) -> (Self, Vec<Lane>) {
        let index = ExactIndex::new(BUDGET);
        let open = |worker| {
            index
                .open(worker, Tier::GPU)
                .expect("no workload has that many workers")
        };
        let lanes = (0..workers).map(open).collect();
        let root = root(BLOCK_TOKENS, None);
        (Self { index, root }, lanes)
    }

    fn prepare(arena: &Arena, event: &Event) -> Named {
        let change = match &event.change {
            Change::Store { parent, blocks } => {
                let block = |block: &Block| StoredBlock {
                    engine: block.engine,
                    content: block.content,
                };
                let blocks = arena.blocks[blocks.clone()].iter().map(block);
                NamedChange::Store(*parent, blocks.collect())
            }
            Change::Remove(hashes) => NamedChange::Remove(arena.removals[hashes.clone()].to_vec()),
            Change::Clear => NamedChange::Clear,
        };
        Named {
            worker: event.worker,
            change,
        }
    }

    fn apply(&self, lanes: &mut Vec<Lane>, batch: Vec<Named>) -> Duration {
        spent(|| {
            for event in &batch {
                let lane = lanes[event.worker as usize];
                match &event.change {
                    NamedChange::Store(parent, blocks) => {
                        let parent = parent.map_or(Parent::Root(self.root), Parent::Block);
                        let stored = self.index.store(lane, parent, blocks);
                        let stored = stored.expect("parents are stored first");
                        assert_eq!(stored.cut, 0, "the budget is far away");
                    }
                    NamedChange::Remove(hashes) => {
                        self.index.remove(lane, hashes);
                    }
                    NamedChange::Clear => self.index.clear(lane),
                }
            }
        })
    }

    fn ask(&self, contents: &[u64], (asked, _): &mut Self::Asked) {
        asked.clear();
        asked.extend_from_slice(contents);
    }

    fn answer(&self, (asked, matches): &mut Self::Asked) -> usize {
        self.index.matches(self.root, asked, &WEIGHTS, matches);
        read(matches)
    }

    fn hash_tokens(tokens: &[u32], size: usize, contents: &mut Vec<u64>) -> bool {
        contents.clear();
        contents.extend(tokens.chunks_exact(size).map(|block| content(block, &[])));
        true
    }

    fn answer_tokens(
        &self,
        tokens: &[u32],
        size: usize,
        (asked, matches): &mut Self::Asked,
    ) -> usize {
        Self::hash_tokens(tokens, size, asked);
        self.index.matches(self.root, asked, &WEIGHTS, matches);
        read(matches)
    }

    fn depths(&self, contents: &[u64]) -> Vec<(u32, u32)> {
        let mut matches = Matches::new();
        self.index
            .matches(self.root, contents, &WEIGHTS, &mut matches);
        matches
            .iter()
            .map(|(worker, depth, _)| (worker, depth))
            .collect()
    }

    fn gauge(&self) -> Option<usize> {
        Some(self.index.usage().bytes)
    }
}
