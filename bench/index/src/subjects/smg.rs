//! `kv-index` (SMG): its `ChainIndex`, read into its map of results or through its callback.

use std::time::Duration;

use kv_index::{
    ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock,
    compute_request_content_hashes,
};

use crate::clock::spent;
use crate::subject::Subject;
use crate::workload::{Arena, Change, Event};

/// The index; `CALLBACK`: queries go through `score_into`.
pub struct Smg<const CALLBACK: bool>(ChainIndex);

/// Ids that the index gave the workers, and the map it wants each writer to keep.
pub struct Lanes(Vec<(u32, ChainBlockMap)>);

/// An event in the index's types.
pub struct Named {
    worker: u32,
    change: NamedChange,
}

enum NamedChange {
    Store(Option<SequenceHash>, Vec<StoredBlock>),
    Remove(Vec<SequenceHash>),
    Clear,
}

impl<const CALLBACK: bool> Subject for Smg<CALLBACK> {
    const NAME: &'static str = if CALLBACK { "smg-callback" } else { "smg" };
    const MOST_WORKERS: u32 = 1_024;
    type Change = Named;
    type Writer = Lanes;
    type Asked = Vec<ContentHash>;

    fn create(workers: u32) -> (Self, Lanes) {
        let index = ChainIndex::with_max_workers(workers as usize);
        let lanes = (0..workers).map(|worker| {
            let id = index
                .intern_worker(&worker.to_string())
                .expect("the index was made for so many workers");
            // Results name the index's ids: the same numbers, so that answers can be compared.
            assert_eq!(id, worker, "ids are given densely");
            (id, ChainBlockMap::new())
        });
        let lanes = Lanes(lanes.collect());
        (Self(index), lanes)
    }

    fn prepare(arena: &Arena, event: &Event) -> Named {
        let change = match &event.change {
            Change::Store { parent, blocks } => {
                let block = |block: &crate::workload::Block| StoredBlock {
                    seq_hash: SequenceHash(block.engine),
                    content_hash: ContentHash(block.content),
                };
                NamedChange::Store(
                    parent.map(SequenceHash),
                    arena.blocks[blocks.clone()].iter().map(block).collect(),
                )
            }
            Change::Remove(hashes) => NamedChange::Remove(
                arena.removals[hashes.clone()]
                    .iter()
                    .copied()
                    .map(SequenceHash)
                    .collect(),
            ),
            Change::Clear => NamedChange::Clear,
        };
        Named {
            worker: event.worker,
            change,
        }
    }

    fn apply(&self, lanes: &mut Lanes, batch: Vec<Named>) -> Duration {
        spent(|| {
            for event in &batch {
                let (id, map) = &mut lanes.0[event.worker as usize];
                match &event.change {
                    NamedChange::Store(parent, blocks) => self
                        .0
                        .apply_stored(*id, blocks, *parent, map)
                        .expect("parents are stored first"),
                    NamedChange::Remove(hashes) => self.0.apply_removed(*id, hashes, map),
                    NamedChange::Clear => self.0.apply_cleared(*id, map),
                }
            }
        })
    }

    fn ask(&self, contents: &[u64], asked: &mut Self::Asked) {
        asked.clear();
        asked.extend(contents.iter().copied().map(ContentHash));
    }

    fn answer(&self, asked: &mut Self::Asked) -> usize {
        if !CALLBACK {
            return self.0.find_matches(asked, false).scores.len();
        }
        let (mut holders, mut blocks) = (0, 0);
        self.0.score_into(
            asked,
            |content| content.0,
            false,
            |_, depth| {
                holders += 1;
                blocks += depth;
            },
        );
        std::hint::black_box(blocks);
        holders
    }

    fn hash_tokens(tokens: &[u32], size: usize, contents: &mut Vec<u64>) -> bool {
        contents.clear();
        contents.extend(
            compute_request_content_hashes(tokens, size)
                .iter()
                .map(|content| content.0),
        );
        true
    }

    fn answer_tokens(&self, tokens: &[u32], size: usize, asked: &mut Self::Asked) -> usize {
        *asked = compute_request_content_hashes(tokens, size);
        self.answer(asked)
    }

    fn depths(&self, contents: &[u64]) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        self.0.score_into(
            contents,
            |content| *content,
            false,
            |worker, depth| found.push((worker, depth)),
        );
        found
    }
}
