//! The exact prefix index as a decision uses it: what the engines say that they hold, and what was just sent to them.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::speculation::{self, Sent, Speculation};
use crate::Nanos;
use crate::kv_events::{KnownEndpoints, KvEvents, PendingPrompts, PromptKeys};
use crate::plugin::ExactSettings;
use crate::pool::PrefillHandle;
use crate::prefix::exact::{ExactIndex, MAX_TIERS, Matches, Tier};
use crate::schedule::PrefixColumn;
use crate::stats::{ExactStats, FamilySource};
use crate::tokens::{TokenSequence, TokenizeError};

/// Budget of the index until a configuration gives one: nothing is stored before.
const IDLE_BYTES: usize = 1 << 20;

/// The index, what fills it, and what is counted of it.
pub(super) struct Exact {
    index: Arc<ExactIndex>,
    events: Arc<KvEvents>,
    speculation: Speculation,
    prompts: Arc<PendingPrompts>,
    stats: Arc<ExactStats>,
}

impl fmt::Debug for Exact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Exact")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Why a prompt is not matched against what engines say that they hold, but against what was sent to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// No endpoint tells what it holds: none is subscribed to, or none has been heard of.
    NoEvents,
    /// The configuration has no tokenizer, or the request carries no prompt that one could read.
    NoTokens,
    /// The tokenizer failed; its own word for why.
    Tokenizer(&'static str),
}

impl Fallback {
    /// As a label of metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NoEvents => "no_events",
            Self::NoTokens => "no_tokens",
            Self::Tokenizer(reason) => reason,
        }
    }
}

/// A prompt as the exact index knows it.
#[derive(Debug)]
pub(super) struct ExactPrompt {
    keys: Vec<PromptKeys>,
    /// The endpoints that are answered for.
    known: KnownEndpoints,
    /// Tokens in the blocks that most engines use: all are counted in these.
    unit: u32,
    total_blocks: u32,
}

thread_local! {
    /// Result of a query, kept for its memory.
    static MATCHES: RefCell<Matches> = RefCell::default();
}

impl Exact {
    pub(super) fn new(clock: fn() -> Nanos) -> Self {
        let index = Arc::new(ExactIndex::new(IDLE_BYTES));
        let prompts = Arc::new(PendingPrompts::new(clock));
        let events = KvEvents::telling(Arc::clone(&index), Arc::clone(&prompts));
        Self {
            events: Arc::new(events),
            index,
            prompts,
            speculation: Speculation::default(),
            stats: Arc::default(),
        }
    }

    /// What the host gives the engines' events to.
    pub(super) fn events(&self) -> &Arc<KvEvents> {
        &self.events
    }

    /// What is told of it on the metrics page.
    pub(super) fn families(&self) -> [Arc<dyn FamilySource>; 2] {
        [Arc::clone(&self.stats) as _, Arc::clone(&self.events) as _]
    }

    pub(super) fn index(&self) -> &Arc<ExactIndex> {
        &self.index
    }

    /// Follows the policy in force.
    pub(super) fn configure(&self, settings: Option<&ExactSettings>) {
        let bytes = settings.map_or(IDLE_BYTES, |settings| settings.byte_budget);
        if self.index.usage().budget_bytes != bytes {
            self.index.set_budget(bytes);
        }
    }

    /// The prompt's blocks by the size that engines use.
    pub(super) fn prompt(
        &self,
        model: &str,
        cache_salt: Option<&str>,
        tokens: Option<&Result<Vec<TokenSequence>, TokenizeError>>,
    ) -> Result<ExactPrompt, Fallback> {
        let known = self.events.known();
        if known.is_empty() {
            return Err(Fallback::NoEvents);
        }
        let sequences = match tokens {
            None => return Err(Fallback::NoTokens),
            Some(Err(error)) => return Err(Fallback::Tokenizer(error.reason())),
            Some(Ok(sequences)) if sequences.iter().all(|one| one.tokens.is_empty()) => {
                return Err(Fallback::NoTokens);
            }
            Some(Ok(sequences)) => sequences,
        };
        let keys = self.events.keys(model, cache_salt, sequences);
        let unit = common_size(&keys);
        let blocks = sequences.iter().map(|one| one.tokens.len() as u32 / unit);
        Ok(ExactPrompt {
            unit,
            total_blocks: blocks.sum(),
            keys,
            known,
        })
    }

    /// What each slot holds of a prompt. Of endpoints that tell nothing, `sent` is what they are expected to hold.
    pub(super) fn column(
        &self,
        prompt: &ExactPrompt,
        settings: &ExactSettings,
        producer: &Arc<str>,
        sent: &PrefixColumn,
        clock: fn() -> Nanos,
    ) -> PrefixColumn {
        let begun = clock();
        let mut column = PrefixColumn {
            producer: Arc::clone(producer),
            total_blocks: prompt.total_blocks,
            block_tokens: prompt.unit,
            blocks: Vec::new(),
            held: Vec::new(),
        };
        let share = f64::from(prompt.total_blocks) / f64::from(sent.total_blocks.max(1));
        for (slot, blocks) in sent.blocks.iter().enumerate() {
            let blocks = if prompt.known.contains(slot as u32) {
                0.0
            } else {
                f64::from(*blocks) * share
            };
            column.blocks.push(blocks as u32);
        }
        column.held.clone_from(&column.blocks);
        let weights = self.events.weights(|medium| settings.weight(medium));
        // Of what was found in the index: expectations are no hits.
        let most = MATCHES.with_borrow_mut(|matches| {
            let mut most = 0;
            for keys in &prompt.keys {
                most = most.max(self.add(keys, prompt, &weights, matches, &mut column));
            }
            most
        });
        self.stats.looked_up(clock() - begun, most);
        column
    }

    /// Adds what engines of one block size hold; returns the most that one of them does.
    fn add(
        &self,
        keys: &PromptKeys,
        prompt: &ExactPrompt,
        weights: &[f32; MAX_TIERS],
        matches: &mut Matches,
        column: &mut PrefixColumn,
    ) -> u32 {
        let mut most_held = 0;
        // (weighted, in any tier) tokens of each engine, over all sequences.
        let mut sums = vec![(0.0_f32, 0_u32); keys.owners.len()];
        for sequence in &keys.sequences {
            matches.clear();
            self.index.matches(keys.root, sequence, weights, matches);
            for (sum, holder) in sums.iter_mut().zip(&keys.owners) {
                let blocks = matches.blocks(holder.owner);
                if blocks > 0 {
                    sum.0 += matches.weighted(holder.owner);
                    sum.1 += blocks;
                }
            }
        }
        matches.clear();
        for ((weighted, blocks), holder) in sums.into_iter().zip(&keys.owners) {
            let slot = holder.slot as usize;
            if blocks == 0 || !prompt.known.contains(holder.slot) {
                continue;
            }
            // Blocks of another size are as many of the unit's as fit into them; an endpoint with several engines counts with the best of them.
            let scale = f64::from(keys.block_tokens) / f64::from(prompt.unit);
            let (weighted, blocks) = (
                // Sums of tenths may end just below a whole number.
                (f64::from(weighted) * scale + 1e-3) as u32,
                (f64::from(blocks) * scale) as u32,
            );
            let most = prompt.total_blocks;
            let (weighted, blocks) = (weighted.min(most), blocks.min(most));
            if slot >= column.blocks.len() {
                column.blocks.resize(slot + 1, 0);
                column.held.resize(slot + 1, 0);
            }
            column.blocks[slot] = column.blocks[slot].max(weighted);
            column.held[slot] = column.held[slot].max(blocks);
            most_held = most_held.max(blocks);
        }
        most_held
    }

    /// Counts a prompt that had to be matched against what was sent.
    pub(super) fn fell_back(&self, fallback: Fallback) {
        self.stats.fell_back(fallback.reason());
    }

    /// What is sent to `slot` now counts as held for a while, where its engine tells what it holds.
    pub(super) fn speculate(
        &self,
        slot: u32,
        prompt: &ExactPrompt,
        settings: &ExactSettings,
        now: Nanos,
    ) {
        let Some(ttl) = settings.speculative_ttl else {
            return;
        };
        if !prompt.known.contains(slot) {
            return;
        }
        for keys in &prompt.keys {
            // Which of several engines will serve the prompt is not known; the endpoint counts with any of them.
            let holder = keys.owners.iter().find(|holder| holder.slot == slot);
            let Some(owner) = holder.map(|holder| holder.owner) else {
                continue;
            };
            for sequence in &keys.sequences {
                let sent = Sent {
                    slot,
                    owner,
                    root: keys.root,
                    contents: sequence[..].into(),
                    known: self.announced(owner, keys.root, sequence),
                    expires: now + ttl,
                };
                let is_known = || self.events.knows(slot);
                self.speculation.add(&self.index, sent, is_known);
            }
        }
    }

    /// Its engine will say when the prompt that is sent to `slot` now is stored: its prefill is done then. Not of a request with several prompts, each
    /// of which has a prefill of its own.
    pub(super) fn await_prefill(
        &self,
        slot: u32,
        prompt: &ExactPrompt,
        (prefill, uncached_tokens): (PrefillHandle, u32),
        now: Nanos,
    ) {
        if !prompt.known.contains(slot) {
            return;
        }
        let mut keys = prompt.keys.iter();
        let of_slot = keys.find(|keys| keys.owners.iter().any(|holder| holder.slot == slot));
        if let Some(keys) = of_slot
            && let [sequence] = &keys.sequences[..]
            // A prompt whose blocks are all there is not announced again.
            && uncached_tokens >= keys.block_tokens
        {
            self.prompts.add(slot, keys.root, sequence, prefill, now);
        }
    }

    /// Leading blocks of a prompt that an engine itself says that it holds: those need not be expected. 0 where some of those that count as
    /// held are only expected: that of an earlier request may run out before this one's is stored.
    fn announced(&self, owner: u32, root: u64, sequence: &[u64]) -> usize {
        let mut weights = [1.0; MAX_TIERS];
        weights[usize::from(SPECULATIVE.0)] = 0.0;
        MATCHES.with_borrow_mut(|matches| {
            self.index.matches(root, sequence, &weights, matches);
            let blocks = matches.blocks(owner);
            let announced = matches.weighted(owner);
            matches.clear();
            if f64::from(announced) + 0.5 < f64::from(blocks) {
                0
            } else {
                (blocks as usize).min(sequence.len())
            }
        })
    }

    /// Takes back what was speculated and did not come true in time. To be called about once a second.
    pub(super) fn expire(&self, now: Nanos) {
        self.speculation.expire(&self.index, now);
        self.prompts.expire(now);
        let usage = self.index.usage();
        self.stats.set_usage(usage);
    }

    /// The slot's endpoint is gone.
    pub(super) fn forget(&self, slot: u32) {
        // From here on it is not known, so nothing is added that is not taken back here.
        self.events.close_slot(slot);
        for sent in self.speculation.forget(slot) {
            if !self.events.close_unused(sent.owner) {
                speculation::remove(&self.index, &sent);
            }
        }
    }
}

impl ExactSettings {
    /// What a block in a medium counts; kinds of the CPU's memory that are not listed (`cpu_pinned` of `SGLang`) what `cpu` counts.
    fn weight(&self, medium: &str) -> f32 {
        let listed = |wanted: &str| {
            let found = self.weights.iter().find(|(name, _)| **name == *wanted);
            found.map(|(_, weight)| *weight)
        };
        let kind = || medium.starts_with("cpu").then(|| listed("cpu"))?;
        listed(medium).or_else(kind).unwrap_or(1.0)
    }
}

/// The size of blocks that most engines use, the smaller one of two: a publisher that makes up a size changes what is counted only where it is
/// alone. Before any has told one, 16 tokens count as well as any other.
fn common_size(keys: &[PromptKeys]) -> u32 {
    let engines = |size: u32| {
        let same = keys.iter().filter(|keys| keys.block_tokens == size);
        same.map(|keys| keys.owners.len()).sum::<usize>()
    };
    let sizes = keys.iter().map(|keys| keys.block_tokens);
    let common = sizes.max_by_key(|size| (engines(*size), std::cmp::Reverse(*size)));
    common.unwrap_or(16).max(1)
}

/// The lane of speculative entries.
pub(super) const SPECULATIVE: Tier = Tier::SPECULATIVE;
