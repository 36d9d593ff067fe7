//! The approximate indexes of the policy in force: one for each of its producers, following the pool.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Active, Policy};
use crate::pool::SlotChange;
use crate::prefix::ApproximateIndex;

/// An index, and the blocks that it remembers of an endpoint that has just joined.
type Kept = (Arc<ApproximateIndex>, usize);

/// The indexes that learn of the pool's changes.
#[derive(Debug, Default)]
pub(super) struct Indexes(ArcSwap<Vec<Kept>>);

impl Indexes {
    pub(super) fn set(&self, kept: impl Iterator<Item = Kept>) {
        self.0.store(Arc::new(kept.collect()));
    }

    pub(super) fn follow(&self, change: SlotChange) {
        for (index, capacity) in self.0.load().iter() {
            match change {
                SlotChange::Taken(slot) => index.add_endpoint(slot, *capacity),
                SlotChange::Freed(slot) => index.remove_endpoint(slot),
            }
        }
    }
}

/// The indexes for a policy: those of producers that were there before go on, new ones share the budget.
pub(super) fn keep(
    policy: &Policy,
    previous: Option<&Active>,
    bytes: usize,
) -> Vec<Arc<ApproximateIndex>> {
    let approximates = &policy.prefixes.approximates;
    let known = |name: &str| {
        let previous = previous?;
        let names = previous.policy.prefixes.approximates.iter();
        let mut known = names.zip(&previous.indexes);
        known.find_map(|(of, index)| (*of.name == *name).then(|| Arc::clone(index)))
    };
    let share = bytes / approximates.len().max(1);
    approximates
        .iter()
        .map(|of| known(&of.name).unwrap_or_else(|| Arc::new(ApproximateIndex::new(share))))
        .collect()
}
