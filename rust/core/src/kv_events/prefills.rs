//! Prompts that were sent and are not yet announced as stored: an engine that announces a prompt's last full block has done its prefill.
//!
//! vLLM (from 0.14 on) publishes what a step has stored when that step is over, which is when the first token leaves too; before, it published as the
//! step began, so that the last step of a prefill is missing from what is measured. `SGLang` publishes with its next line of the log, which may be
//! seconds later: its events are no such sign.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Holder;
use crate::Nanos;
use crate::pool::PrefillHandle;
use crate::prefix::exact::{ExactIndex, MAX_TIERS, Matches, StoredBlock, Tier};

/// Prompts that are waited for: beyond, the oldest are not.
const MOST: usize = 16_384;

/// Their blocks, of 8 bytes each.
const MOST_BLOCKS: usize = 2 << 20;

/// Prompts that one announcement may end, at most: each is looked up in the index.
const MOST_CANDIDATES: usize = 16;

/// How long one is: an engine whose queue is longer than that has other signals.
const LONGEST: Duration = Duration::from_secs(120);

/// The prompts that are waited for. Shared by decisions, which add, and by the threads of the events.
pub(crate) struct PendingPrompts {
    clock: fn() -> Nanos,
    /// How many there are, so that events cost nothing where nobody waits.
    count: AtomicUsize,
    prompts: Mutex<Prompts>,
}

/// Slot of the endpoint, and content of the prompt's last full block.
type Block = (u32, u64);

#[derive(Debug, Default)]
struct Prompts {
    /// By their last block; the first that came stands first.
    by_block: HashMap<Block, SmallVec<[Prompt; 1]>>,
    /// All of them, and those that were announced, until their time is over; the oldest first.
    order: VecDeque<(Block, u64, Nanos)>,
    blocks: usize,
    next: u64,
}

#[derive(Clone, Debug)]
struct Prompt {
    number: u64,
    /// What stands before the first block, and all blocks: the same last one may follow others too.
    root: u64,
    contents: Arc<[u64]>,
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
        let Some(last) = contents.last() else {
            return;
        };
        let (block, contents) = ((slot, *last), Arc::from(contents));
        self.change(|prompts| {
            prompts.expire(now);
            prompts.push(block, root, contents, prefill, now + LONGEST);
        });
    }

    /// An engine of `holder` has announced these blocks, and the index knows them.
    pub(super) fn stored(&self, holder: Holder, blocks: &[StoredBlock], index: &ExactIndex) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        // Whether an engine holds all of a prompt takes a while for a long one: decisions do not wait for that.
        let mut candidates = self.prompts.lock().ending_with(holder.slot, blocks);
        if candidates.is_empty() {
            return;
        }
        let mut matches = Matches::new();
        candidates.retain(|prompt| holds(index, holder.owner, prompt, &mut matches));
        self.change(|prompts| {
            candidates.retain(|prompt| prompts.remove(holder.slot, prompt));
        });
        let now = (self.clock)();
        for prompt in candidates {
            prompt.prefill.done(now);
        }
    }

    /// Forgets those whose time is over.
    pub(crate) fn expire(&self, now: Nanos) {
        self.change(|prompts| prompts.expire(now));
    }

    fn change(&self, change: impl FnOnce(&mut Prompts)) {
        let mut prompts = self.prompts.lock();
        change(&mut prompts);
        self.count.store(prompts.by_block.len(), Relaxed);
    }
}

impl Prompts {
    fn push(
        &mut self,
        block: Block,
        root: u64,
        contents: Arc<[u64]>,
        prefill: PrefillHandle,
        until: Nanos,
    ) {
        let number = self.next;
        self.next += 1;
        self.blocks += contents.len();
        self.order.push_back((block, number, until));
        self.by_block.entry(block).or_default().push(Prompt {
            number,
            root,
            contents,
            prefill,
        });
        while self.order.len() > MOST || self.blocks > MOST_BLOCKS {
            self.drop_oldest();
        }
    }

    /// The oldest of the prompts that end with one of these blocks. Of several that are the same only the oldest: another finds its blocks in the
    /// cache, so its own prefill is what follows them, and is not done with them.
    fn ending_with(&self, slot: u32, blocks: &[StoredBlock]) -> SmallVec<[Prompt; 4]> {
        let mut found: SmallVec<[Prompt; 4]> = SmallVec::new();
        for block in blocks {
            let waiting = self.by_block.get(&(slot, block.content));
            for prompt in waiting.into_iter().flatten().take(MOST_CANDIDATES) {
                // That also leaves out a prompt that repeats its last block many times.
                let is_same =
                    |known: &Prompt| known.root == prompt.root && known.contents == prompt.contents;
                if found.len() < MOST_CANDIDATES && !found.iter().any(is_same) {
                    found.push(prompt.clone());
                }
            }
        }
        found
    }

    /// False: it is not waited for any more.
    fn remove(&mut self, slot: u32, prompt: &Prompt) -> bool {
        prompt
            .contents
            .last()
            .is_some_and(|last| self.take((slot, *last), prompt.number))
    }

    fn take(&mut self, block: Block, number: u64) -> bool {
        let Some(waiting) = self.by_block.get_mut(&block) else {
            return false;
        };
        let place = waiting.iter().position(|prompt| prompt.number == number);
        let Some(place) = place else {
            return false;
        };
        self.blocks -= waiting.remove(place).contents.len();
        if waiting.is_empty() {
            self.by_block.remove(&block);
        }
        true
    }

    fn expire(&mut self, now: Nanos) {
        while let Some((.., until)) = self.order.front()
            && *until <= now
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((block, number, _)) = self.order.pop_front() {
            self.take(block, number);
        }
    }
}

/// Whether an engine says that it holds all blocks of a prompt.
fn holds(index: &ExactIndex, owner: u32, prompt: &Prompt, matches: &mut Matches) -> bool {
    // What is only expected does not count.
    let mut weights = [1.0; MAX_TIERS];
    weights[usize::from(Tier::SPECULATIVE.0)] = 0.0;
    index.matches(prompt.root, &prompt.contents, &weights, matches);
    matches.weighted(owner) + 0.5 > prompt.contents.len() as f32
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::pool::{EndpointIdentity, Pool, Reservation};

    #[test]
    fn there_are_never_more_than_a_number_and_none_after_its_time() {
        let endpoint = Pool::new().upsert(EndpointIdentity {
            namespace: "default".into(),
            name: "a".into(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 8000,
            metrics_host: None,
            labels: std::collections::BTreeMap::new(),
        });
        let mut reservation = Reservation::reserve(&endpoint, 9, 0, Nanos(0));
        let mut handle = || reservation.prefill_handle().expect("it is pending");
        let pending = PendingPrompts::new(|| Nanos(0));
        let most = MOST as u64;
        for number in 0..most + 100 {
            // Every second one has the content of the one before.
            pending.add(3, 1, &[7, number / 2], handle(), Nanos(number));
        }
        let blocks = || pending.prompts.lock().blocks;
        let size = || {
            let prompts = pending.prompts.lock();
            let waiting = prompts.by_block.values().map(SmallVec::len);
            (
                prompts.order.len(),
                waiting.sum::<usize>(),
                prompts.by_block.len(),
            )
        };
        assert_eq!(size(), (MOST, MOST, MOST / 2));
        assert_eq!(
            (pending.count.load(Relaxed), blocks()),
            (MOST / 2, 2 * MOST)
        );
        pending.expire(Nanos(most) + LONGEST);
        assert_eq!(size(), (99, 99, 50));
        pending.expire(Nanos(most + 100) + LONGEST);
        assert_eq!((size(), pending.count.load(Relaxed)), ((0, 0, 0), 0));
        pending.add(3, 1, &[], handle(), Nanos(0));
        assert_eq!((size(), blocks()), ((0, 0, 0), 0));
        let long = vec![7; MOST_BLOCKS / 4];
        for number in 0..9 {
            pending.add(number, 1, &long, handle(), Nanos(0));
        }
        assert_eq!((size(), blocks()), ((4, 4, 4), MOST_BLOCKS));
    }
}
