//! The query: how many leading blocks of a prompt each owner holds.
//!
//! Blocks of a prompt mostly lie in neighbouring slots and share their holder word, so the walk compares two numbers a block, and works on sets only where the word changes.

use std::hint::black_box;
use std::ops::ControlFlow;

use super::cell::{self, BRANCH, EMPTY, LINK, holders};
use super::heads::Shards;
use super::owners::LaneMap;
use super::paths::Head;
use super::sets::{Number, Set, as_single};
use super::slots::{CHUNK, Chunk};
use super::{MAX_TIERS, Root, Secrets};

/// Slots that are loaded ahead when a run begins: their lines come together with that of its first block, later ones the processor foresees.
const AHEAD: usize = 128;

/// Result of a query, and its memory: use it again and again.
///
/// Only owners that hold the first block have one; asking for others is answered with 0.
#[derive(Debug, Default)]
pub struct Matches {
    found: Vec<Found>,
    /// By owner, where in `found` it is if it is there.
    places: Vec<u32>,
    /// By owner.
    runs: Vec<Run>,
    alive: Alive,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    owner: u32,
    blocks: u32,
    weighted: f32,
}

/// What is known of an owner while a query goes on; only if some have several lanes.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Number of the last run of blocks that it holds, counted over all queries.
    number: u32,
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
        self.of(owner).map_or(0, |found| found.blocks)
    }

    /// Sum over those blocks of the weight of the best tier that holds each.
    pub fn weighted(&self, owner: u32) -> f32 {
        self.of(owner).map_or(0.0, |found| found.weighted)
    }

    /// Owner, blocks and weighted blocks of all owners that hold the first block, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, f32)> + '_ {
        let found = self.found.iter();
        found.map(|found| (found.owner, found.blocks, found.weighted))
    }

    /// Forgets the result.
    pub fn clear(&mut self) {
        self.found.clear();
    }

    fn of(&self, owner: u32) -> Option<&Found> {
        let place = *self.places.get(owner as usize)?;
        let found = self.found.get(place as usize);
        found.filter(|found| found.owner == owner)
    }

    fn run(&mut self, owner: u32) -> &mut Run {
        let at = owner as usize;
        if at >= self.runs.len() {
            self.runs.resize(at + 1, Run::default());
        }
        &mut self.runs[at]
    }

    /// Each owner is given once.
    #[inline]
    fn give(&mut self, owner: u32, blocks: u32, weighted: f32) {
        let at = owner as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, 0);
        }
        self.places[at] = self.found.len() as u32;
        self.found.push(Found {
            owner,
            blocks,
            weighted,
        });
    }
}

/// One query on its way.
struct Walk<'a> {
    /// The map that was current when the query began: no lane of it gets another owner before the query ends.
    lanes: &'a LaneMap,
    weights: &'a [f32; MAX_TIERS],
    out: &'a mut Matches,
    tiered: bool,
    depth: u32,
}

/// Who holds a block.
enum Holders<'a> {
    One(u16),
    Several(&'a Set),
}

/// What the query saw has changed meanwhile in a way that leaves it in the dark: it begins anew.
#[derive(Debug)]
pub(super) struct Changed;

/// A run of slots that the query is in.
#[derive(Clone, Copy)]
struct Place<'a> {
    chunk: &'a Chunk,
    slot: u32,
    word: u32,
    entered: u32,
}

impl Place<'_> {
    /// Nothing that was read in this run belonged to other blocks meanwhile.
    #[inline]
    fn leave(&self) -> Result<(), Changed> {
        self.chunk
            .unchanged(self.entered)
            .then_some(())
            .ok_or(Changed)
    }
}

/// Holders of the last block, and how often the number of their set had been filled.
struct Last<'a> {
    holders: u32,
    number: Option<(&'a Number, u32)>,
}

impl Last<'_> {
    /// The number has meant the same set all the time.
    #[inline]
    fn check(&self) -> Result<(), Changed> {
        let same = self
            .number
            .as_ref()
            .is_none_or(|(number, filled)| number.filled() == *filled);
        same.then_some(()).ok_or(Changed)
    }
}

/// The head of a run, if it is there.
#[inline]
fn enter<'r>(
    root: &'r Root,
    table: &Shards,
    head: Head,
    blocks: usize,
) -> Result<Option<Place<'r>>, Changed> {
    let place = table.find(head.hash, head.check, |found| {
        let slot = found.slot();
        let chunk = root.pages.chunk(slot)?;
        let first = slot % CHUNK;
        let entered = chunk.enter();
        black_box(chunk.warm(first..first + blocks.min(AHEAD) as u32));
        if !found.still_there() {
            return Some(Err(Changed));
        }
        let word = chunk.read(first, head.content)?;
        Some(Ok(Place {
            chunk,
            slot,
            word,
            entered,
        }))
    });
    place.transpose()
}

/// Asks who holds how many of the leading blocks.
pub(super) fn walk(
    root: &Root,
    lanes: &LaneMap,
    start: u64,
    contents: &[u64],
    weights: &[f32; MAX_TIERS],
    secrets: Secrets,
    out: &mut Matches,
) -> Result<(), Changed> {
    out.clear();
    let Some(first) = contents.first() else {
        return Ok(());
    };
    let head = secrets.first(start, *first);
    let Some(place) = enter(root, &root.firsts, head, contents.len())? else {
        return Ok(());
    };
    place.chunk.touch();
    out.alive.single = None;
    out.alive.lanes.clear();
    out.alive.owners.clear();
    out.alive.run_start = 0;
    let walk = Walk {
        lanes,
        weights,
        out,
        tiered: lanes.tiered(),
        depth: 0,
    };
    walk.go(root, place, &contents[1..], secrets)
}

impl Walk<'_> {
    /// From the first block on, `contents` being the others.
    fn go(
        mut self,
        root: &Root,
        first: Place,
        contents: &[u64],
        secrets: Secrets,
    ) -> Result<(), Changed> {
        let mut last = Last {
            holders: EMPTY,
            number: None,
        };
        let mut place = first;
        let mut done = 0;
        let mut entered = true;
        loop {
            if entered || holders(place.word) != last.holders {
                if self.change(root, &mut place, &mut last)?.is_break() {
                    return self.leave(&place);
                }
                entered = false;
            }
            self.depth += 1;
            // Neighbours that the same lanes hold need no more than this.
            let slots = place.chunk.from(place.slot % CHUNK + 1);
            let mut same = 0;
            let mut other = None;
            for (wanted, (content, word)) in contents[done..].iter().zip(slots) {
                let Some(word) = cell::read(content, word, *wanted) else {
                    break;
                };
                if holders(word) != last.holders || word & LINK == 0 {
                    other = Some(word).filter(|word| word & LINK != 0);
                    break;
                }
                place.word = word;
                same += 1;
            }
            done += same;
            self.depth += same as u32;
            place.slot += same as u32;
            if let Some(word) = other {
                (place.word, place.slot) = (word, place.slot + 1);
                done += 1;
                continue;
            }
            let Some(wanted) = contents.get(done) else {
                break;
            };
            if place.word & BRANCH == 0 {
                break;
            }
            let head = secrets.branch(place.slot, *wanted);
            let next = enter(root, &root.branches, head, contents.len() - done)?;
            place.leave()?;
            let Some(next) = next else {
                break;
            };
            next.chunk.touch();
            place = next;
            done += 1;
        }
        last.check()?;
        self.end();
        self.leave(&place)
    }

    /// Ends the walk: nothing that it went by was something else.
    fn leave(&self, place: &Place) -> Result<(), Changed> {
        if self.lanes.tiered() != self.tiered {
            // An owner got its second lane, and may have been met twice.
            return Err(Changed);
        }
        place.leave()
    }

    /// The block's holders are others than the last block's.
    fn change<'r>(
        &mut self,
        root: &'r Root,
        place: &mut Place,
        last: &mut Last<'r>,
    ) -> Result<ControlFlow<()>, Changed> {
        /// How often a query looks again at a block whose holders change meanwhile.
        const LOOKS: usize = 8;
        last.check()?;
        for _ in 0..LOOKS {
            let word = holders(place.word);
            if word == EMPTY {
                self.end();
                return Ok(ControlFlow::Break(()));
            }
            if let Some(lane) = as_single(word) {
                *last = Last {
                    holders: word,
                    number: None,
                };
                return Ok(self.narrow(&Holders::One(lane)));
            }
            let number = root.numbers.get(word).ok_or(Changed)?;
            let filled = number.filled();
            let set = number.load();
            // The set is the one that the word meant only if the slot still has the number and the number was not filled anew.
            let again = place.chunk.word(place.slot % CHUNK);
            if holders(again) == word && number.filled() == filled {
                let set = set.as_ref().ok_or(Changed)?;
                *last = Last {
                    holders: word,
                    number: Some((number, filled)),
                };
                return Ok(self.narrow(&Holders::Several(set)));
            }
            place.word = again;
        }
        Err(Changed)
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
            let run = self.out.run(owner);
            if run.number != alive.run {
                (run.number, run.best) = (alive.run, weights[tier]);
                if depth == 0 {
                    alive.owners.push((owner, 0.0));
                }
            } else if weights[tier] > run.best {
                run.best = weights[tier];
            }
        };
        match holders {
            Holders::One(lane) => hold(*lane),
            Holders::Several(set) => set.for_each(hold),
        }
        let mut owners = std::mem::take(&mut alive.owners);
        owners.retain(|(owner, weighted)| {
            let holds = self.out.run(*owner).number == alive.run;
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
        let runs = &self.out.runs;
        for (owner, weighted) in &mut self.out.alive.owners {
            *weighted += blocks * runs[*owner as usize].best;
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
            self.out.give(owner, self.depth, weighted);
        }
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
