//! Dynamo's single-threaded `RadixTree`, behind one mutex where a reader works beside the writer.

use std::sync::Mutex;
use std::time::Duration;

use dynamo_kv_router::RadixTree;
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, RouterEvent,
};

use crate::clock::spent;
use crate::subject::Subject;
use crate::workload::{Arena, Change, Event};

/// The tree. An uncontended mutex costs a query some 10 ns.
pub struct Tree(Mutex<Movable>);

struct Movable(RadixTree);

// SAFETY: the tree's `Rc`s never leave it: its public functions take and return plain data. Whoever has the tree has all of its references, and a mutex
// lets one thread in at a time.
unsafe impl Send for Movable {}

/// The event in Dynamo's types, which take blocks by value.
///
/// # Panics
///
/// Never: positions and numbers of workers fit.
pub fn router_event(arena: &Arena, event: &Event) -> RouterEvent {
    let data = match &event.change {
        Change::Store { parent, blocks } => {
            let block = |block: &crate::workload::Block| KvCacheStoredBlockData {
                block_hash: ExternalSequenceBlockHash(block.engine),
                tokens_hash: LocalBlockHash(block.content),
                mm_extra_info: None,
            };
            KvCacheEventData::Stored(KvCacheStoreData {
                parent_hash: parent.map(ExternalSequenceBlockHash),
                start_position: None,
                blocks: arena.blocks[blocks.clone()].iter().map(block).collect(),
            })
        }
        Change::Remove(hashes) => KvCacheEventData::Removed(KvCacheRemoveData {
            block_hashes: arena.removals[hashes.clone()]
                .iter()
                .copied()
                .map(ExternalSequenceBlockHash)
                .collect(),
        }),
        Change::Clear => KvCacheEventData::Cleared,
    };
    RouterEvent::new(
        u64::from(event.worker),
        KvCacheEvent {
            event_id: 0,
            data,
            dp_rank: 0,
        },
    )
}

impl Subject for Tree {
    const NAME: &'static str = "dynamo-tree";
    type Change = RouterEvent;
    type Writer = ();
    type Asked = Vec<LocalBlockHash>;

    fn create(_: u32) -> (Self, ()) {
        (Self(Mutex::new(Movable(RadixTree::new()))), ())
    }

    fn prepare(arena: &Arena, event: &Event) -> RouterEvent {
        router_event(arena, event)
    }

    fn apply(&self, (): &mut (), batch: Vec<RouterEvent>) -> Duration {
        spent(|| {
            for event in batch {
                // A removal of what an earlier removal truncated is refused; that is how this tree is, and the verification shows it.
                let _ = self
                    .0
                    .lock()
                    .expect("the tree does not panic")
                    .0
                    .apply_event(event);
            }
        })
    }

    fn ask(&self, contents: &[u64], asked: &mut Self::Asked) {
        *asked = contents.iter().copied().map(LocalBlockHash).collect();
    }

    fn answer(&self, asked: &mut Self::Asked) -> usize {
        self.0
            .lock()
            .expect("the tree does not panic")
            .0
            .find_matches(std::mem::take(asked), false)
            .scores
            .len()
    }

    fn depths(&self, contents: &[u64]) -> Vec<(u32, u32)> {
        let contents = contents.iter().copied().map(LocalBlockHash).collect();
        let found = self
            .0
            .lock()
            .expect("the tree does not panic")
            .0
            .find_matches(contents, false);
        found
            .scores
            .into_iter()
            .map(|(worker, depth)| (worker.worker_id as u32, depth))
            .collect()
    }
}
