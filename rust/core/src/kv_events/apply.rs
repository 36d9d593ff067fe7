//! From events to the index: what of them counts, under which size of blocks, in which tier.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashSet;
use smallvec::SmallVec;

use super::Engine;
use super::decode;
use super::event::{Event, Extra, Removed, Scratch, Stored};
use super::extras::{has_extras, texts};
use super::keys::Holder;
use super::names::{Kind, NEW_TIERS, Tiers};
use super::prefills::PendingPrompts;
use super::sequence::{Break, Sink};
use super::stats::{Stats, add};
use crate::prefix::exact::{ExactIndex, Lane, MAX_TIERS, Parent, StoredBlock, Tier, content, root};

/// Most tokens of a block.
const MOST_BLOCK_TOKENS: u64 = 1 << 20;
/// Most GPU blocks in one of a slower tier.
const MOST_RATIO: u32 = 64;
/// Groups of layers that a publisher may tell apart.
const MOST_GROUPS: usize = 64;
/// Media that a publisher may name.
const MOST_MEDIA: usize = 32;
/// Adapters that a publisher may name.
const MOST_ADAPTERS: usize = 256;
/// Blocks that are stored in one go; a run of events that continue each other ends here.
const LONGEST_RUN: usize = 4096;

/// What a publisher's messages have taught.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) block_tokens: Option<u32>,
    /// Learnt from a store in GPU memory: the size in which the engine counts a prompt.
    settled: bool,
    groups: Vec<(u64, Kind)>,
    media: Vec<(Box<str>, Option<Tier>)>,
    new_tiers: usize,
    lanes: [Option<Lane>; MAX_TIERS],
    /// GPU blocks in a block of the tier, where a store told.
    ratios: [u32; MAX_TIERS],
    pub(super) adapters: Arc<HashSet<Arc<str>>>,
    run: Run,
    scratch: Scratch,
}

/// Stores that continue each other, until they are given to the index together.
#[derive(Debug, Default)]
struct Run {
    lane: Option<Lane>,
    parent: Option<Parent>,
    kind: Option<Kind>,
    blocks: Vec<StoredBlock>,
    events: u64,
}

/// Applies one publisher's messages.
pub(super) struct Applier<'a> {
    pub(super) index: &'a ExactIndex,
    pub(super) tiers: &'a Tiers,
    pub(super) stats: &'a Stats,
    pub(super) holder: Holder,
    pub(super) engine: Engine,
    pub(super) prompts: Option<&'a PendingPrompts>,
    pub(super) learned: &'a mut Learned,
}

/// Why a store is not in the index: value of the label `reason`.
type Reason = &'static str;

impl Sink for Applier<'_> {
    fn apply(&mut self, payload: &[u8]) {
        let mut scratch = std::mem::take(&mut self.learned.scratch);
        let read = decode::events(
            payload,
            self.engine,
            &mut scratch,
            |event, scratch| match event {
                Ok(Event::Stored(stored)) => self.stored(&stored, scratch),
                Ok(Event::Removed(removed)) => self.removed(&removed, scratch),
                // Copies in slower tiers may be alive: engines say the same for a reset of their GPU's cache and of everything, and what
                // is used from there again is announced again, while what is wrongly taken for held is never taken back.
                Ok(Event::Cleared) => self.drop_entries(),
                Ok(Event::Unknown) => add(&self.stats.unknown_events, 1),
                Err(_) => add(&self.stats.bad_events, 1),
            },
        );
        self.flush();
        if read.is_err() {
            add(&self.stats.bad_messages, 1);
        }
        scratch.shrink();
        self.learned.scratch = scratch;
    }

    fn clear(&mut self, why: Break) {
        self.drop_entries();
        match why {
            Break::Hole => add(&self.stats.holes, 1),
            Break::Restart => {
                add(&self.stats.restarts, 1);
                self.learned.block_tokens = None;
                self.learned.settled = false;
                self.learned.groups.clear();
                self.learned.ratios = [0; MAX_TIERS];
            }
        }
    }

    fn duplicate(&mut self) {
        add(&self.stats.duplicates, 1);
    }

    fn gap(&mut self) {
        add(&self.stats.gaps, 1);
    }

    fn dropped(&mut self, messages: usize) {
        add(&self.stats.dropped, messages as u64);
    }
}

impl Applier<'_> {
    /// Empties the publisher's lanes.
    pub(super) fn drop_entries(&mut self) {
        self.learned.run = Run::default();
        for lane in self.learned.lanes.iter().flatten() {
            self.index.clear(*lane);
        }
    }

    fn stored(&mut self, stored: &Stored<'_>, scratch: &Scratch) {
        let kind = self.kind(stored);
        let taken = match kind {
            Ok(kind) if kind.is_indexed() => self.take(kind, stored, scratch),
            Ok(_) => Err("unsupported_cache_kind"),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = taken {
            self.stats
                .store_skipped(kind.unwrap_or(Kind::UNKNOWN), reason, 1);
        }
    }

    /// Kind of the event's group: as it says, or as an earlier event of the group said.
    fn kind(&mut self, stored: &Stored<'_>) -> Result<Kind, Reason> {
        let told = stored.kind.map(Kind::of);
        let Some(group) = stored.group else {
            return Ok(told.unwrap_or(Kind::UNKNOWN));
        };
        let groups = &mut self.learned.groups;
        if let Some((_, known)) = groups.iter_mut().find(|(known, _)| *known == group) {
            *known = told.unwrap_or(*known);
            return Ok(*known);
        }
        if groups.len() >= MOST_GROUPS {
            return Err("too_many_groups");
        }
        let kind = told.unwrap_or(Kind::UNKNOWN);
        groups.push((group, kind));
        Ok(kind)
    }

    fn take(&mut self, kind: Kind, stored: &Stored<'_>, scratch: &Scratch) -> Result<(), Reason> {
        if stored.block_size > MOST_BLOCK_TOKENS {
            return Err("invalid_block_size");
        }
        if scratch.hashes.is_empty() {
            return Ok(());
        }
        let tier = self.tier(stored.medium, true).ok_or("too_many_tiers")?;
        if scratch.tokens.is_empty() {
            return self.hold(tier, stored.block_size as u32, &scratch.hashes);
        }
        if stored.block_size == 0 {
            return Err("invalid_block_size");
        }
        let size = stored.block_size as u32;
        if scratch.tokens.len() as u64 != scratch.hashes.len() as u64 * u64::from(size) {
            return Err("non_dense_block_span");
        }
        let adapter = stored.adapter.filter(|name| !name.is_empty());
        if adapter.is_none() && stored.adapter_number.is_some_and(|number| number != 0) {
            return Err("unnamed_adapter");
        }
        if stored
            .extra_blocks
            .is_some_and(|blocks| blocks != 0 && blocks != scratch.hashes.len())
        {
            return Err("extra_keys_mismatch");
        }
        let ratio = self.ratio(tier, size)?;
        if ratio > 1 && !stored.extras.is_empty() && has_extras(stored, adapter) {
            return Err("extra_keys_of_larger_block");
        }
        let lane = self.lane(tier)?;
        if let Some(name) = adapter {
            self.learn_adapter(name)?;
        }
        if ratio > 1 {
            let known = &mut self.learned.ratios[usize::from(tier.0)];
            *known = ratio.max(*known);
        }
        // Engines write 0 for a block that has none before it.
        let parent = match stored.parent.filter(|parent| *parent != 0) {
            Some(parent) => Parent::Block(parent),
            None => Parent::Root(root(size / ratio, adapter)),
        };
        self.extend_run(kind, lane, parent, stored, scratch, (size, ratio), adapter);
        Ok(())
    }

    /// A copy in another tier, told without tokens.
    fn hold(&mut self, tier: Tier, size: u32, hashes: &[u64]) -> Result<(), Reason> {
        self.flush();
        let unit = self.learned.block_tokens.ok_or("unknown_block")?;
        let ratio = match size {
            0 => 1,
            size if size.is_multiple_of(unit) && size / unit <= MOST_RATIO => size / unit,
            _ => return Err("block_size_mismatch"),
        };
        let lane = self.lane(tier)?;
        let mut held = 0;
        for hash in hashes {
            held += self.index.hold(lane, *hash, ratio);
        }
        if held == 0 {
            return Err("unknown_block");
        }
        Ok(())
    }

    /// Blocks of the size in which the index counts, in one of the event's; learns or changes that size.
    fn ratio(&mut self, tier: Tier, size: u32) -> Result<u32, Reason> {
        let on_gpu = tier == Tier::GPU;
        let Some(known) = self.learned.block_tokens else {
            self.learned.block_tokens = Some(size);
            self.learned.settled = on_gpu;
            return Ok(1);
        };
        if known == size {
            self.learned.settled |= on_gpu;
            return Ok(1);
        }
        if on_gpu {
            // SGLang tells the last page of a prompt although it is not full.
            if self.engine == Engine::Sglang && self.learned.settled && size < known {
                return Err("partial_block");
            }
            self.flush();
            self.drop_entries();
            add(&self.stats.resized, 1);
            self.learned.block_tokens = Some(size);
            self.learned.settled = true;
            self.learned.ratios = [0; MAX_TIERS];
            return Ok(1);
        }
        if size.is_multiple_of(known) && size / known <= MOST_RATIO {
            return Ok(size / known);
        }
        Err("block_size_mismatch")
    }

    #[expect(clippy::too_many_arguments, reason = "each is a fact of the one event")]
    fn extend_run(
        &mut self,
        kind: Kind,
        lane: Lane,
        parent: Parent,
        stored: &Stored<'_>,
        scratch: &Scratch,
        (size, ratio): (u32, u32),
        adapter: Option<&str>,
    ) {
        let run = &self.learned.run;
        let continues = run.lane == Some(lane)
            && run.blocks.len() < LONGEST_RUN
            && matches!((parent, run.blocks.last()), (Parent::Block(parent), Some(last)) if last.engine == parent);
        if !continues {
            self.flush();
            self.learned.run.lane = Some(lane);
            self.learned.run.parent = Some(parent);
            self.learned.run.kind = Some(kind);
        }
        let run = &mut self.learned.run;
        run.events += 1;
        let unit = (size / ratio) as usize;
        let mut extras = stored.extras.iter().peekable();
        for (number, (hash, tokens)) in (0..).zip(
            scratch
                .hashes
                .iter()
                .zip(scratch.tokens.chunks_exact(size as usize)),
        ) {
            let salt = stored
                .salt
                .filter(|_| number == 0 && matches!(parent, Parent::Root(_)));
            let content_of = |tokens: &[u32], texts: &[Cow<'_, str>]| {
                let texts: SmallVec<[&str; 4]> = texts.iter().map(|text| &**text).collect();
                content(tokens, &texts)
            };
            if ratio == 1
                && salt.is_none()
                && extras.peek().is_none_or(|(block, _)| *block != number)
            {
                run.blocks.push(StoredBlock {
                    engine: *hash,
                    content: content(tokens, &[]),
                });
                continue;
            }
            let mut own: SmallVec<[Extra<'_>; 4]> = SmallVec::new();
            while let Some((_, extra)) = extras.next_if(|(block, _)| *block == number) {
                own.push(*extra);
            }
            let mut texts: SmallVec<[Cow<'_, str>; 4]> =
                texts(&own, adapter, stored.adapter_number).collect();
            texts.extend(salt.filter(|salt| !salt.is_empty()).map(Cow::Borrowed));
            for (place, tokens) in (1..).zip(tokens.chunks_exact(unit)) {
                // A larger block has no extra keys beside the salt, which belongs to the first block of the prompt.
                let texts = if place == 1 { &texts[..] } else { &[] };
                run.blocks.push(StoredBlock {
                    engine: part(*hash, ratio - place),
                    content: content_of(tokens, texts),
                });
            }
        }
    }

    /// Gives the index what has come together.
    fn flush(&mut self) {
        let run = &mut self.learned.run;
        if let (Some(lane), Some(parent)) = (run.lane.take(), run.parent.take()) {
            if self.index.store(lane, parent, &run.blocks).is_err() {
                let kind = run.kind.unwrap_or(Kind::UNKNOWN);
                self.stats.store_skipped(kind, "unknown_parent", run.events);
            } else if self.engine == Engine::Vllm
                && let Some(prompts) = self.prompts
            {
                prompts.stored(self.holder, &run.blocks, self.index);
            }
        }
        run.blocks.clear();
        run.blocks.shrink_to(2 * LONGEST_RUN);
        run.events = 0;
    }

    fn removed(&mut self, removed: &Removed<'_>, scratch: &Scratch) {
        self.flush();
        if let Some(kind) = removed.kind.map(Kind::of).filter(|kind| !kind.is_indexed()) {
            return self.stats.removal_skipped(kind, "unsupported_cache_kind");
        }
        if let Some(group) = removed.group {
            let groups = self.learned.groups.iter();
            let kind = groups
                .into_iter()
                .find_map(|(known, kind)| (*known == group).then_some(*kind));
            match kind {
                None => return self.stats.removal_skipped(Kind::UNKNOWN, "unknown_group"),
                Some(kind) if !kind.is_indexed() => {
                    return self.stats.removal_skipped(kind, "unsupported_cache_kind");
                }
                Some(_) => {}
            }
        }
        let lane = self
            .tier(removed.medium, false)
            .and_then(|tier| Some((tier, self.learned.lanes[usize::from(tier.0)]?)));
        let mut gone = 0;
        if let Some((tier, lane)) = lane {
            gone = self.index.remove(lane, &scratch.hashes);
            let ratio = self.learned.ratios[usize::from(tier.0)];
            if ratio > 1 {
                let mut parts = Vec::with_capacity(ratio as usize);
                for hash in &scratch.hashes {
                    parts.clear();
                    parts.extend((1..ratio).map(|before| part(*hash, before)));
                    self.index.remove(lane, &parts);
                }
            }
        }
        let suppressed = scratch.hashes.len().saturating_sub(gone);
        add(&self.stats.removals_forwarded, gone as u64);
        add(&self.stats.removals_suppressed, suppressed as u64);
    }

    fn tier(&mut self, medium: Option<&str>, may_add: bool) -> Option<Tier> {
        let medium = medium.filter(|medium| !medium.is_empty()).unwrap_or("gpu");
        let media = &mut self.learned.media;
        if let Some((_, tier)) = media.iter().find(|(known, _)| **known == *medium) {
            return *tier;
        }
        let may_add = may_add && self.learned.new_tiers < NEW_TIERS;
        let resolved = self.tiers.resolve(&medium.to_lowercase(), may_add);
        if let Some((_, true)) = resolved {
            self.learned.new_tiers += 1;
        }
        let tier = resolved.map(|(tier, _)| tier);
        // What is not known now may be when it is stored for the first time, by anyone.
        if tier.is_some() && media.len() < MOST_MEDIA {
            media.push((medium.into(), tier));
        }
        tier
    }

    fn lane(&mut self, tier: Tier) -> Result<Lane, Reason> {
        let lane = &mut self.learned.lanes[usize::from(tier.0)];
        if let Some(lane) = lane {
            return Ok(*lane);
        }
        let opened = self
            .index
            .open(self.holder.owner, tier)
            .map_err(|_| "lanes_exhausted")?;
        *lane = Some(opened);
        Ok(opened)
    }

    fn learn_adapter(&mut self, name: &str) -> Result<(), Reason> {
        if self.learned.adapters.contains(name) {
            return Ok(());
        }
        if self.learned.adapters.len() >= MOST_ADAPTERS {
            return Err("too_many_adapters");
        }
        Arc::make_mut(&mut self.learned.adapters).insert(name.into());
        Ok(())
    }
}

/// Name of a part of a larger block, so many parts before its last; the last has the block's own.
fn part(hash: u64, before_last: u32) -> u64 {
    match before_last {
        0 => hash,
        _ => content(&[hash as u32, (hash >> 32) as u32, before_last], &[]),
    }
}
