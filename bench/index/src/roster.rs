//! All indexes under test, for what goes through all of them.

use dynamo_kv_router::{ConcurrentRadixTreeCompressed, PositionalIndexer};

use crate::subject::Subject;
use crate::subjects::dynamo::Tree;
use crate::subjects::dynamo_threaded::Threaded;
use crate::subjects::naive::Naive;
use crate::subjects::ours::Ours;
use crate::subjects::smg::Smg;

/// What is done to an index of any type.
pub trait Visit {
    /// Called once for each index.
    fn visit<S: Subject>(&mut self);
}

/// Shows every index to the visitor, in the order of the page's columns.
pub fn visit_all(visitor: &mut impl Visit) {
    visitor.visit::<Ours>();
    visitor.visit::<Naive>();
    visitor.visit::<Smg<false>>();
    visitor.visit::<Smg<true>>();
    visitor.visit::<Tree>();
    visitor.visit::<Threaded<PositionalIndexer>>();
    visitor.visit::<Threaded<ConcurrentRadixTreeCompressed>>();
}
