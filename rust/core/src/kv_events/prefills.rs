//! Prompts that were sent and are not yet announced as stored: an engine that announces a prompt's last full block has done its prefill.
//!
//! vLLM (from 0.14 on) publishes what a step has stored when that step is over, which is when the first token leaves too; before, it published as the
//! step began, so that the last step of a prefill is missing from what is measured. `SGLang` publishes with its next line of the log, which may be
//! seconds later: its events are no such sign.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Holder;
use crate::Nanos;
use crate::pool::PrefillHandle;
use crate::prefix::exact::{ExactIndex, MAX_TIERS, Matches, StoredBlock, Tier, chain};

/// Prompts that are waited for: beyond, the oldest are not.
const MOST: usize = 16_384;

/// How long one is: an engine whose queue is longer than that has other signals.
const LONGEST: Duration = Duration::from_secs(120);

/// The prompts that are waited for, by the content of their last full block. Shared by decisions, which add, and by the threads of the events.
pub(crate) struct PendingPrompts {
    clock: fn() -> Nanos,
    /// How many there are, so that events cost nothing where nobody waits.
    count: AtomicUsize,
    prompts: Mutex<Prompts>,
}

#[derive(Debug, Default)]
struct Prompts {
    /// By the slot of the endpoint and the content of the block; the first that came stands first.
    by_block: HashMap<(u32, u64), SmallVec<[Prompt; 1]>>,
    /// Where each stands, and until when; the oldest first. Those that were announced stay here until their time is over.
    order: VecDeque<((u32, u64), u64, Nanos)>,
    next: u64,
}

#[derive(Debug)]
struct Prompt {
    number: u64,
    /// Key of the block before the last one: the same content may follow others too.
    before: u64,
    prefill: PrefillHandle,
}

impl fmt::Debug for PendingPrompts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PendingPrompts")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl PendingPrompts {
    /// `clock`: that of the decisions.
    pub(crate) fn new(clock: fn() -> Nanos) -> Self {
        Self {
            clock,
            count: AtomicUsize::new(0),
            prompts: Mutex::default(),
        }
    }

    /// A prompt of these blocks (content hashes from a root on) was sent to `slot` now.
    pub(crate) fn add(
        &self,
        slot: u32,
        root: u64,
        contents: &[u64],
        prefill: PrefillHandle,
        now: Nanos,
    ) {
        let Some((last, before)) = contents.split_last() else {
            return;
        };
        let before = before.iter().copied().fold(root, chain);
        let mut prompts = self.prompts.lock();
        prompts.expire(now);
        if prompts.order.len() >= MOST {
            prompts.drop_oldest();
        }
        let number = prompts.next;
        prompts.next += 1;
        let block = (slot, *last);
        prompts.order.push_back((block, number, now + LONGEST));
        prompts.by_block.entry(block).or_default().push(Prompt {
            number,
            before,
            prefill,
        });
        self.count.store(prompts.by_block.len(), Relaxed);
    }

    /// An engine of `holder` has announced these blocks, and the index knows them.
    pub(super) fn stored(&self, holder: Holder, blocks: &[StoredBlock], index: &ExactIndex) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut done: SmallVec<[PrefillHandle; 4]> = SmallVec::new();
        {
            let mut prompts = self.prompts.lock();
            for block in blocks {
                done.extend(prompts.take(holder, block.content, index));
            }
            self.count.store(prompts.by_block.len(), Relaxed);
        }
        let now = (self.clock)();
        for prefill in done {
            prefill.done(now);
        }
    }

    /// Forgets those whose time is over.
    pub(crate) fn expire(&self, now: Nanos) {
        let mut prompts = self.prompts.lock();
        prompts.expire(now);
        self.count.store(prompts.by_block.len(), Relaxed);
    }
}

impl Prompts {
    /// The oldest prompt that ends with this block, if the engine holds the block behind those before it. Another with the same blocks finds them
    /// in the cache: its own prefill is what follows them, and is not done with them.
    fn take(&mut self, holder: Holder, content: u64, index: &ExactIndex) -> Option<PrefillHandle> {
        let block = (holder.slot, content);
        let waiting = self.by_block.get_mut(&block)?;
        let place = waiting
            .iter()
            .position(|prompt| holds(index, holder.owner, prompt.before, content))?;
        let prompt = waiting.remove(place);
        if waiting.is_empty() {
            self.by_block.remove(&block);
        }
        Some(prompt.prefill)
    }

    fn expire(&mut self, now: Nanos) {
        while self
            .order
            .front()
            .is_some_and(|(_, _, until)| *until <= now)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((block, number, _)) = self.order.pop_front() else {
            return;
        };
        if let Some(waiting) = self.by_block.get_mut(&block) {
            waiting.retain(|prompt| prompt.number != number);
            if waiting.is_empty() {
                self.by_block.remove(&block);
            }
        }
    }
}

/// Whether an engine says that it holds the block of this content behind the one of that key.
fn holds(index: &ExactIndex, owner: u32, before: u64, content: u64) -> bool {
    // What is only expected does not count.
    let mut weights = [1.0; MAX_TIERS];
    weights[usize::from(Tier::SPECULATIVE.0)] = 0.0;
    let mut matches = Matches::new();
    index.matches(before, &[content], &weights, &mut matches);
    matches.weighted(owner) > 0.5
}
