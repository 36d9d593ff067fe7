//! What the bench asks of an index.

use std::time::Duration;

use crate::workload::{Arena, Event};

/// An index under test. Reads take `&self`, from any thread; the one writer keeps what it needs in `Writer`.
pub trait Subject: Sync + Sized {
    /// Its column on the page.
    const NAME: &'static str;
    /// Workers it can tell apart at once, where it has a limit.
    const MOST_WORKERS: u32 = u32::MAX;
    /// An event in the index's own form; built outside of the clocks.
    type Change: Send;
    /// What the writing side owns.
    type Writer: Send;
    /// A query in the index's own form, with whatever the index lets a caller use again.
    type Asked: Default + Send;

    /// An empty index for workers `0..workers`.
    fn create(workers: u32) -> (Self, Self::Writer);
    /// The index's form of an event.
    fn prepare(arena: &Arena, event: &Event) -> Self::Change;
    /// Applies a batch and returns the CPU time it took, without building or (where the index only borrows it) freeing the batch.
    ///
    /// # Panics
    ///
    /// When the index refuses an event: no workload has one that it may refuse.
    fn apply(&self, writer: &mut Self::Writer, batch: Vec<Self::Change>) -> Duration;
    /// Takes over a query; outside of the clock, and leaves its hashes in the cache, as a caller that has just computed them would.
    fn ask(&self, contents: &[u64], asked: &mut Self::Asked);
    /// Answers what was asked; this is what is timed. Returns the number of holders found.
    fn answer(&self, asked: &mut Self::Asked) -> usize;
    /// The answer itself: each holder with its number of leading blocks, in no order.
    fn depths(&self, contents: &[u64]) -> Vec<(u32, u32)>;
    /// Content hashes of full blocks of `size` tokens as this index's own crate computes them; false when that is not measured for it.
    fn hash_tokens(_tokens: &[u32], _size: usize, _contents: &mut Vec<u64>) -> bool {
        false
    }
    /// Hashes token ids and answers; only where [`Self::hash_tokens`] is there. Returns the number of holders found.
    fn answer_tokens(&self, _tokens: &[u32], _size: usize, _asked: &mut Self::Asked) -> usize {
        0
    }
    /// Upkeep that the index wants to be called now and then, with its CPU time.
    fn upkeep(&self, _: &mut Self::Writer) -> Option<Duration> {
        None
    }
    /// The index's own figure of its bytes.
    fn gauge(&self) -> Option<usize> {
        None
    }
}
