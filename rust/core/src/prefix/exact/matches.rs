//! The query: how many leading blocks of a prompt each owner holds.
//!
//! Blocks of a prompt mostly lie in neighbouring slots and share their holder word, so the walk compares two numbers a block, and works on sets only where the word changes.

use std::hint::black_box;
use std::ops::ControlFlow;

use super::cell::EMPTY;
use super::owners::LaneMap;
use super::sets::{Number, Set, as_single};
use super::slots::{CHUNK, Chunk};
use super::{MAX_TIERS, Root, Secrets};

/// How often a query looks again at a block whose holders change meanwhile; after that it ends there.
const LOOKS: usize = 8;

/// Blocks side by side after which a run counts as a long one.
const LONG: u32 = 4;
/// Slots of a long run that are loaded ahead at a time.
const AHEAD: u32 = 64;

/// Result of a query, and its memory: use it again and again.
///
/// Only owners that hold the first block have one; asking for others is answered with 0.
#[derive(Debug, Default)]
pub struct Matches {
    found: Vec<Found>,
    owners: Vec<u32>,
    alive: Alive,
}

/// What is known of one owner.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    blocks: u32,
    weighted: f32,
    /// Number of the last run of blocks that it holds, counted over all queries; only for owners with several lanes.
    run: u32,
    /// Weight of its best tier in that run.
    best: f32,
}

/// Who holds all blocks so far.
#[derive(Debug, Default)]
struct Alive {
    /// The only lane, if it is one.
    single: Option<u16>,
    /// The lanes, if they are several.
    lanes: Vec<u64>,
    /// Owners and the sum of their weights up to the run, if owners have several lanes.
    owners: Vec<(u32, f32)>,
    run: u32,
    run_start: u32,
}

impl Matches {
    /// A result without any match.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leading blocks that the owner holds, each in any tier.
    pub fn blocks(&self, owner: u32) -> u32 {
        self.found
            .get(owner as usize)
            .map_or(0, |found| found.blocks)
    }

    /// Sum over those blocks of the weight of the best tier that holds each.
    pub fn weighted(&self, owner: u32) -> f32 {
        self.found
            .get(owner as usize)
            .map_or(0.0, |found| found.weighted)
    }

    /// Owner, blocks and weighted blocks of all owners that hold the first block, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, f32)> + '_ {
        self.owners.iter().map(|owner| {
            let found = &self.found[*owner as usize];
            (*owner, found.blocks, found.weighted)
        })
    }

    /// Forgets the result.
    pub fn clear(&mut self) {
        for owner in self.owners.drain(..) {
            let found = &mut self.found[owner as usize];
            (found.blocks, found.weighted) = (0, 0.0);
        }
    }

    fn found(&mut self, owner: u32) -> &mut Found {
        let at = owner as usize;
        if at >= self.found.len() {
            self.found.resize(at + 1, Found::default());
        }
        &mut self.found[at]
    }

    fn give(&mut self, owner: u32, blocks: u32, weighted: f32) {
        let found = self.found(owner);
        let new = found.blocks == 0;
        if blocks > found.blocks {
            (found.blocks, found.weighted) = (blocks, weighted);
            if new {
                self.owners.push(owner);
            }
        }
    }
}

/// One query on its way.
pub(super) struct Walk<'a> {
    /// The map that was current when the query began: no lane of it gets another owner before the query ends.
    pub(super) lanes: &'a LaneMap,
    pub(super) weights: &'a [f32; MAX_TIERS],
    pub(super) secrets: Secrets,
    pub(super) out: &'a mut Matches,
    tiered: bool,
    depth: u32,
}

/// Who holds a block.
enum Holders<'a> {
    One(u16),
    Several(&'a Set),
}

/// The word that the last block had, and how often its number had been filled.
struct Last<'a> {
    word: u32,
    number: Option<(&'a Number, u32)>,
}

impl Last<'_> {
    /// Whether `word` means what the last block's word meant.
    #[inline]
    fn is(&self, word: u32) -> bool {
        self.word == word
            && self
                .number
                .as_ref()
                .is_none_or(|(number, filled)| number.filled() == *filled)
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        lanes: &'a LaneMap,
        weights: &'a [f32; MAX_TIERS],
        secrets: Secrets,
        out: &'a mut Matches,
    ) -> Self {
        out.clear();
        out.alive.single = None;
        out.alive.lanes.clear();
        out.alive.owners.clear();
        out.alive.run_start = 0;
        Self {
            lanes,
            weights,
            secrets,
            out,
            tiered: lanes.tiered(),
            depth: 0,
        }
    }

    /// Goes on from where the walk is, `first` before `keys`. A key in return: its block's set is not in this root's directory; go on from it with a newer root.
    pub(super) fn go(
        &mut self,
        root: &Root,
        first: u64,
        keys: &mut impl Iterator<Item = u64>,
    ) -> Option<u64> {
        let mut last = Last {
            word: EMPTY,
            number: None,
        };
        let mut chunk: Option<&Chunk> = None;
        let mut next = 0;
        // Place in the chunk at which more is to be loaded ahead.
        let mut warm_at = 0;
        let mut key = first;
        loop {
            let mut word = match chunk {
                Some(chunk) if next % CHUNK != 0 => chunk.read(next % CHUNK, key),
                _ => EMPTY,
            };
            if word == EMPTY {
                let found = root.shards.find(self.secrets.key(key), |slot| {
                    chunk = root.pages.chunk(slot);
                    word = chunk.map_or(EMPTY, |chunk| chunk.read(slot % CHUNK, key));
                    word != EMPTY
                });
                let Some(slot) = found else { break };
                next = slot;
                warm_at = slot % CHUNK + LONG;
                if let Some(chunk) = chunk {
                    chunk.touch();
                }
            }
            if !last.is(word) {
                let slot = chunk.map(|chunk| (chunk, next % CHUNK));
                match self.change(root, slot, key, word, &mut last) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return None,
                    Err(OldRoot) => return Some(key),
                }
            }
            self.depth += 1;
            next += 1;
            if next % CHUNK == warm_at
                && let Some(chunk) = chunk
            {
                black_box(chunk.warm(warm_at..warm_at + AHEAD + AHEAD / 4));
                warm_at += AHEAD;
            }
            match keys.next() {
                Some(following) => key = following,
                None => break,
            }
        }
        self.end();
        None
    }

    /// The block's holders are others than the last block's.
    fn change<'r>(
        &mut self,
        root: &'r Root,
        slot: Option<(&Chunk, u32)>,
        key: u64,
        word: u32,
        last: &mut Last<'r>,
    ) -> Result<ControlFlow<()>, OldRoot> {
        let mut word = word;
        for _ in 0..LOOKS {
            if word == EMPTY {
                break;
            }
            if let Some(lane) = as_single(word) {
                *last = Last { word, number: None };
                return Ok(self.narrow(&Holders::One(lane)));
            }
            let number = root.numbers.get(word).ok_or(OldRoot)?;
            let filled = number.filled();
            let set = number.load();
            // The set is the one that the word meant only if the slot still has the number and the number was not filled anew.
            let (chunk, place) = slot.ok_or(OldRoot)?;
            let again = chunk.read(place, key);
            if again == word && number.filled() == filled {
                let set = set.as_ref().ok_or(OldRoot)?;
                *last = Last {
                    word,
                    number: Some((number, filled)),
                };
                return Ok(self.narrow(&Holders::Several(set)));
            }
            word = again;
        }
        self.end();
        Ok(ControlFlow::Break(()))
    }

    /// Keeps those alive that are among the holders of the next block; the others end here.
    fn narrow(&mut self, holders: &Holders) -> ControlFlow<()> {
        if self.tiered {
            return self.narrow_owners(holders);
        }
        if self.depth == 0 {
            match holders {
                Holders::One(lane) => self.out.alive.single = Some(*lane),
                Holders::Several(Set::Bits(bits)) => self.out.alive.lanes.extend_from_slice(bits),
                Holders::Several(Set::List(list)) => {
                    let words = list.last().map_or(0, |lane| usize::from(*lane) / 64 + 1);
                    self.out.alive.lanes.resize(words, 0);
                    for lane in list {
                        self.out.alive.lanes[usize::from(*lane) / 64] |= 1 << (lane % 64);
                    }
                }
            }
            return ControlFlow::Continue(());
        }
        if let Some(lane) = self.out.alive.single {
            let holds = match holders {
                Holders::One(other) => *other == lane,
                Holders::Several(set) => set.contains(lane),
            };
            if !holds {
                self.end();
                return ControlFlow::Break(());
            }
            return ControlFlow::Continue(());
        }
        let mut lanes = std::mem::take(&mut self.out.alive.lanes);
        let mut list: &[u16] = match holders {
            Holders::One(lane) => std::slice::from_ref(lane),
            Holders::Several(Set::List(list)) => list,
            Holders::Several(Set::Bits(_)) => &[],
        };
        let mut any = false;
        for (at, alive) in lanes.iter_mut().enumerate() {
            let held = if let Holders::Several(Set::Bits(bits)) = holders {
                bits.get(at).copied().unwrap_or(0)
            } else {
                let mut held = 0;
                while let [lane, rest @ ..] = list
                    && usize::from(*lane) / 64 == at
                {
                    held |= 1 << (lane % 64);
                    list = rest;
                }
                held
            };
            self.end_lanes(at, *alive & !held);
            *alive &= held;
            any |= *alive != 0;
        }
        self.out.alive.lanes = lanes;
        if any {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// As [`narrow`](Self::narrow), where an owner may hold blocks in several lanes.
    fn narrow_owners(&mut self, holders: &Holders) -> ControlFlow<()> {
        self.sum_run();
        let mut alive = std::mem::take(&mut self.out.alive);
        alive.run = alive.run.wrapping_add(1);
        let (lanes, weights, depth) = (self.lanes, self.weights, self.depth);
        let mut hold = |lane| {
            let Some((owner, tier)) = lanes.get(lane) else {
                return;
            };
            let found = self.out.found(owner);
            if found.run != alive.run {
                (found.run, found.best) = (alive.run, weights[tier]);
                if depth == 0 {
                    alive.owners.push((owner, 0.0));
                }
            } else if weights[tier] > found.best {
                found.best = weights[tier];
            }
        };
        match holders {
            Holders::One(lane) => hold(*lane),
            Holders::Several(set) => set.for_each(hold),
        }
        let mut owners = std::mem::take(&mut alive.owners);
        owners.retain(|(owner, weighted)| {
            let holds = self.out.found(*owner).run == alive.run;
            if !holds {
                self.out.give(*owner, depth, *weighted);
            }
            holds
        });
        let any = !owners.is_empty();
        self.out.alive = Alive { owners, ..alive };
        if any {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Adds the weights of the run that ends before the next block.
    fn sum_run(&mut self) {
        let blocks = (self.depth - self.out.alive.run_start.min(self.depth)) as f32;
        let found = &self.out.found;
        for (owner, weighted) in &mut self.out.alive.owners {
            *weighted += blocks * found[*owner as usize].best;
        }
        self.out.alive.run_start = self.depth;
    }

    /// The lanes of a word of bits hold no more than the blocks so far.
    #[inline]
    fn end_lanes(&mut self, at: usize, lanes: u64) {
        let mut lanes = lanes;
        while lanes != 0 {
            self.end_lane((at * 64) as u16 + lanes.trailing_zeros() as u16);
            lanes &= lanes - 1;
        }
    }

    #[inline]
    fn end_lane(&mut self, lane: u16) {
        if let Some((owner, tier)) = self.lanes.get(lane) {
            let weighted = self.depth as f32 * self.weights[tier];
            let out = &mut *self.out;
            // Mostly an owner has one lane, and is met once.
            match out.found.get_mut(owner as usize) {
                Some(found) if found.blocks == 0 => {
                    (found.blocks, found.weighted) = (self.depth, weighted);
                    out.owners.push(owner);
                }
                _ => out.give(owner, self.depth, weighted),
            }
        }
    }

    /// Ends the walk where it is.
    pub(super) fn give_up(&mut self) {
        self.end();
    }

    /// The blocks so far are all there are for those still alive.
    fn end(&mut self) {
        if self.depth == 0 {
            return;
        }
        if self.tiered {
            self.sum_run();
            let owners = std::mem::take(&mut self.out.alive.owners);
            for (owner, weighted) in &owners {
                self.out.give(*owner, self.depth, *weighted);
            }
            self.out.alive.owners = owners;
        } else if let Some(lane) = self.out.alive.single {
            self.end_lane(lane);
        } else {
            for at in 0..self.out.alive.lanes.len() {
                self.end_lanes(at, self.out.alive.lanes[at]);
            }
        }
    }
}

/// The root was taken before a directory grew.
struct OldRoot;
