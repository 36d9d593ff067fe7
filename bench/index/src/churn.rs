//! Churn: the tail of a sequence goes, last block first, and a fresh one comes.

use std::ops::Range;

use fastrand::Rng;

use crate::workload::{Arena, Change, Event, Workload};

/// Replaces the tails of sequences `which`, after their order was shuffled: two events each. The sequences then have the new tails.
pub fn replace_tails(workload: &mut Workload, rng: &mut Rng, which: Range<usize>) -> Vec<Event> {
    let mut events = Vec::with_capacity(2 * which.len());
    for sequence in &mut workload.sequences[which] {
        let arena = &mut workload.arena;
        let removed = remove(arena, sequence.tail.clone().rev());
        let parent = arena.last(&sequence.head);
        let blocks = arena.grow(rng, parent, sequence.tail.len());
        sequence.tail = blocks.clone();
        let worker = sequence.worker;
        events.push(Event {
            worker,
            change: removed,
        });
        events.push(Event {
            worker,
            change: Change::Store { parent, blocks },
        });
    }
    events
}

/// The removal of these blocks, in this order.
pub fn remove(arena: &mut Arena, blocks: impl Iterator<Item = usize>) -> Change {
    let start = arena.removals.len();
    let Arena {
        blocks: all,
        removals,
    } = arena;
    removals.extend(blocks.map(|index| all[index].engine));
    Change::Remove(start..removals.len())
}
