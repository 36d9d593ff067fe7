//! The index against a model that is too simple to be wrong: per lane, which engine hash names which key, and how often it was announced.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const AMPLE: usize = 64 << 20;

/// Weights of tiers: halves, so that sums are exact.
fn weights() -> [f32; MAX_TIERS] {
    std::array::from_fn(|tier| if tier == 0 { 1.0 } else { 0.5 / tier as f32 })
}

#[derive(Clone, Debug)]
enum Step {
    /// A run of blocks of a chain, from a block on; `other`: hashed otherwise by this engine.
    Store {
        owner: u32,
        tier: u8,
        chain: u8,
        from: usize,
        blocks: usize,
        other: bool,
    },
    /// Blocks of a chain, in order or backwards.
    Remove {
        owner: u32,
        tier: u8,
        chain: u8,
        from: usize,
        blocks: usize,
        backwards: bool,
    },
    Predict {
        owner: u32,
        chain: u8,
        blocks: usize,
    },
    /// Says what an engine hash of one chain names a block of another.
    Rename {
        owner: u32,
        chain: u8,
        at: usize,
        engine: u64,
    },
    /// A copy in another tier of a block of a chain, and blocks before it.
    Hold {
        owner: u32,
        tier: u8,
        chain: u8,
        at: usize,
        blocks: usize,
    },
    Clear {
        owner: u32,
        tier: u8,
    },
    Close {
        owner: u32,
    },
}

fn steps(owners: u32, blocks: usize) -> impl Strategy<Value = Vec<Step>> {
    let place = (0..owners, 0_u8..3, 0_u8..4, 0..blocks, 1..blocks);
    let step = prop_oneof![
        8 => (place.clone(), any::<bool>()).prop_map(|((owner, tier, chain, from, blocks), other)| Step::Store { owner, tier, chain, from, blocks, other }),
        4 => (place.clone(), any::<bool>()).prop_map(|((owner, tier, chain, from, blocks), backwards)| Step::Remove { owner, tier, chain, from, blocks, backwards }),
        1 => place.clone().prop_map(|(owner, _, chain, _, blocks)| Step::Predict { owner, chain, blocks }),
        2 => place.clone().prop_map(|(owner, tier, chain, at, blocks)| Step::Hold { owner, tier, chain, at, blocks }),
        1 => (place, 0_u64..40).prop_map(|((owner, _, chain, at, _), engine)| Step::Rename { owner, chain, at, engine }),
        1 => (0..owners, 0_u8..3).prop_map(|(owner, tier)| Step::Clear { owner, tier }),
        1 => (0..owners).prop_map(|owner| Step::Close { owner }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Chains 2 and 3 part from chain 1 after 20 blocks.
fn content_of(chain: u8, at: usize) -> u64 {
    let chain = if chain > 1 && at < 20 { 1 } else { chain };
    content(&[u32::from(chain), at as u32], &[])
}

fn contents_of(number: u8, blocks: usize) -> Vec<u64> {
    (0..blocks).map(|at| content_of(number, at)).collect()
}

fn keys_of(number: u8, blocks: usize) -> Vec<u64> {
    let mut key = root(16, None);
    (0..blocks)
        .map(|at| {
            key = chain(key, content_of(number, at));
            key
        })
        .collect()
}

/// By engine hash.
type Announced = BTreeMap<u64, (Vec<u64>, u32)>;

#[derive(Default)]
struct Model {
    /// By owner and tier: engine hash to keys, its own first, and announcements.
    lanes: BTreeMap<(u32, u8), Announced>,
    parents: BTreeMap<u64, u64>,
}

impl Model {
    /// The lane itself is asked first, then the owner's others by their tier.
    fn knows(&self, owner: u32, tier: u8, engine: u64) -> Option<u64> {
        let others = (0..MAX_TIERS as u8).map(|tier| (owner, tier));
        std::iter::once((owner, tier))
            .chain(others)
            .find_map(|lane| Some(self.lanes.get(&lane)?.get(&engine)?.0[0]))
    }

    fn add(&mut self, owner: u32, tier: u8, engine: u64, key: u64) {
        let entry = self
            .lanes
            .entry((owner, tier))
            .or_default()
            .entry(engine)
            .or_default();
        *entry = if entry.0.first() == Some(&key) {
            (entry.0.clone(), entry.1 + 1)
        } else {
            (vec![key], 1)
        };
    }

    fn hold(&mut self, owner: u32, tier: u8, engine: u64, blocks: usize) -> usize {
        let Some(key) = self.knows(owner, tier, engine) else {
            return 0;
        };
        let held: BTreeSet<u64> = self.pairs().into_iter().map(|pair| pair.1).collect();
        let entry = self
            .lanes
            .entry((owner, tier))
            .or_default()
            .entry(engine)
            .or_default();
        if entry.1 == 0 {
            let parent = |key: &u64| {
                self.parents
                    .get(key)
                    .copied()
                    .filter(|key| held.contains(key))
            };
            entry.0 = std::iter::successors(Some(key), parent)
                .take(blocks)
                .collect();
        }
        entry.1 += 1;
        entry.0.len()
    }

    fn remove(&mut self, owner: u32, tier: u8, engine: u64) {
        if let Some(entries) = self.lanes.get_mut(&(owner, tier))
            && let Some(entry) = entries.get_mut(&engine)
        {
            entry.1 -= 1;
            if entry.1 == 0 {
                entries.remove(&engine);
            }
        }
    }

    fn pairs(&self) -> BTreeSet<((u32, u8), u64)> {
        let lanes = self.lanes.iter();
        lanes
            .flat_map(|(lane, entries)| {
                entries
                    .values()
                    .flat_map(|entry| entry.0.iter().map(|key| (*lane, *key)))
            })
            .collect()
    }

    fn matches(&self, keys: &[u64], weights: &[f32; MAX_TIERS]) -> BTreeMap<u32, (u32, f32)> {
        let pairs = self.pairs();
        let mut found = BTreeMap::new();
        for owner in self
            .lanes
            .keys()
            .map(|lane| lane.0)
            .collect::<BTreeSet<_>>()
        {
            let (mut blocks, mut weighted) = (0, 0.0);
            for key in keys {
                let tiers =
                    (0..MAX_TIERS as u8).filter(|tier| pairs.contains(&((owner, *tier), *key)));
                let Some(best) = tiers
                    .map(|tier| weights[usize::from(tier)])
                    .reduce(f32::max)
                else {
                    break;
                };
                blocks += 1;
                weighted += best;
            }
            if blocks > 0 {
                found.insert(owner, (blocks, weighted));
            }
        }
        found
    }
}

/// The index and its model, told the same.
struct Both {
    index: ExactIndex,
    model: Model,
    out: Matches,
}

impl Both {
    fn new() -> Self {
        Self {
            index: ExactIndex::new(AMPLE),
            model: Model::default(),
            out: Matches::new(),
        }
    }

    fn lane(&self, owner: u32, tier: u8) -> Lane {
        self.index
            .open(owner, Tier(tier))
            .expect("lanes are far from used up")
    }

    #[expect(clippy::too_many_lines, reason = "one arm a step")]
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Store {
                owner,
                tier,
                chain,
                from,
                blocks,
                other,
            } => {
                let keys = keys_of(chain, from + blocks);
                let engine = |at: usize| if other { !keys[at] } else { keys[at] };
                let before = from.checked_sub(1).map(engine);
                let parent = before.map_or(Parent::Root(root(16, None)), Parent::Block);
                let run: Vec<StoredBlock> = (from..from + blocks)
                    .map(|at| StoredBlock {
                        engine: engine(at),
                        content: content_of(chain, at),
                    })
                    .collect();
                let known =
                    before.is_none_or(|engine| self.model.knows(owner, tier, engine).is_some());
                let answer = self.index.store(self.lane(owner, tier), parent, &run);
                assert_eq!(answer.is_ok(), known);
                // A renamed parent leads elsewhere.
                let mut key = before.map_or(Some(root(16, None)), |engine| {
                    self.model.knows(owner, tier, engine)
                });
                for block in &run {
                    let before = key;
                    key = key.map(|key| super::chain(key, block.content));
                    if let Some(key) = key {
                        self.model.parents.extend(
                            before
                                .filter(|before| *before != root(16, None))
                                .map(|before| (key, before)),
                        );
                        self.model.add(owner, tier, block.engine, key);
                    }
                }
            }
            Step::Remove {
                owner,
                tier,
                chain,
                from,
                blocks,
                backwards,
            } => {
                let mut run = keys_of(chain, from + blocks)[from..].to_vec();
                if backwards {
                    run.reverse();
                }
                let before = self.model.pairs().len();
                for engine in &run {
                    self.model.remove(owner, tier, *engine);
                }
                let removed = self.index.remove(self.lane(owner, tier), &run);
                assert_eq!(removed, before - self.model.pairs().len());
            }
            Step::Predict {
                owner,
                chain,
                blocks,
            } => {
                let keys = keys_of(chain, blocks);
                let contents = contents_of(chain, blocks);
                let lane = self.lane(owner, 15);
                self.index.store_path(lane, root(16, None), &contents, 0);
                for key in &keys {
                    self.model.add(owner, 15, *key, *key);
                }
                let parents = keys.windows(2).map(|pair| (pair[1], pair[0]));
                self.model.parents.extend(parents);
            }
            Step::Rename {
                owner,
                chain,
                at,
                engine,
            } => {
                let keys = keys_of(chain, 40);
                let run = [StoredBlock {
                    engine: keys[engine as usize],
                    content: content_of(chain, at),
                }];
                let answer = self.index.store(self.lane(owner, 0), Parent::Root(7), &run);
                assert!(answer.is_ok());
                self.model
                    .add(owner, 0, run[0].engine, super::chain(7, run[0].content));
            }
            Step::Hold {
                owner,
                tier,
                chain,
                at,
                blocks,
            } => {
                let engine = keys_of(chain, at + 1)[at];
                let expected = self.model.hold(owner, tier, engine, blocks);
                assert_eq!(
                    self.index
                        .hold(self.lane(owner, tier), engine, blocks as u32),
                    expected
                );
            }
            Step::Clear { owner, tier } => {
                self.index.clear(self.lane(owner, tier));
                self.model.lanes.remove(&(owner, tier));
            }
            Step::Close { owner } => {
                self.index.close(owner);
                self.model.lanes.retain(|lane, _| lane.0 != owner);
            }
        }
    }

    fn check(&mut self) {
        let weights = weights();
        for chain in 0..4 {
            for blocks in [1, 21, 200] {
                let keys = keys_of(chain, blocks);
                let contents = contents_of(chain, blocks);
                self.index
                    .matches(root(16, None), &contents, &weights, &mut self.out);
                let found: BTreeMap<u32, (u32, f32)> = self
                    .out
                    .iter()
                    .map(|(owner, blocks, weighted)| (owner, (blocks, weighted)))
                    .collect();
                let expected = self.model.matches(&keys, &weights);
                assert_eq!(
                    found.keys().collect::<Vec<_>>(),
                    expected.keys().collect::<Vec<_>>()
                );
                for (owner, (blocks, weighted)) in expected {
                    assert_eq!(self.out.blocks(owner), blocks);
                    assert!(
                        (self.out.weighted(owner) - weighted).abs() < 1e-3,
                        "{} {weighted}",
                        self.out.weighted(owner)
                    );
                }
            }
        }
        let pairs = self.model.pairs();
        let usage = self.index.usage();
        assert_eq!(usage.pairs, pairs.len());
        assert_eq!(
            usage.blocks,
            pairs
                .iter()
                .map(|pair| pair.1)
                .collect::<BTreeSet<_>>()
                .len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn answers_like_the_model_whatever_engines_say(steps in prop_oneof![steps(3, 40), steps(40, 100)]) {
        let mut both = Both::new();
        for (at, step) in steps.iter().enumerate() {
            both.apply(step);
            if at % 4 == 0 {
                both.check();
            }
        }
        both.check();
        for owner in 0..40 {
            both.apply(&Step::Close { owner });
        }
        both.check();
        let usage = both.index.usage();
        assert_eq!((usage.sets, usage.blocks), (0, 0));
        assert_eq!(both.index.writer.lock().paths.slots.len(), 0);
    }
}

/// A chain over several chunks, with a second one that parts from it at block 50.
#[test]
fn a_block_without_holders_stays_for_what_follows_it_and_goes_with_the_last_of_that() {
    let index = ExactIndex::new(AMPLE);
    let lane = index.open(1, Tier::GPU).expect("none is open");
    let run = |contents: std::ops::Range<u64>| -> Vec<StoredBlock> {
        contents
            .map(|content| StoredBlock {
                engine: content,
                content,
            })
            .collect()
    };
    let engines = |contents: std::ops::Range<u64>| -> Vec<u64> { contents.collect() };
    let used = || index.writer.lock().paths.slots.len();
    let found = |contents: &[u64]| {
        let mut out = Matches::new();
        index.matches(3, contents, &[1.0; MAX_TIERS], &mut out);
        out.blocks(1)
    };
    let chain: Vec<u64> = (0..200).collect();
    let store = |parent, blocks: &[StoredBlock]| {
        let stored = index.store(lane, parent, blocks);
        stored.expect("the parent is known").new
    };
    assert_eq!(store(Parent::Root(3), &run(0..200)), 200);
    assert_eq!(store(Parent::Block(49), &run(1_000..1_100)), 100);
    assert_eq!(index.remove(lane, &engines(0..199)), 199);
    assert_eq!((found(&chain), index.usage().blocks, used()), (0, 101, 300));
    // Stored again it is what it was.
    assert_eq!(store(Parent::Root(3), &run(0..120)), 120);
    assert_eq!(
        (found(&chain), index.usage().blocks, used()),
        (120, 221, 300)
    );
    assert_eq!(store(Parent::Block(119), &run(120..199)), 79);
    assert_eq!((found(&chain), used()), (200, 300));
    assert_eq!(index.remove(lane, &engines(0..199)), 199);
    assert_eq!(index.remove(lane, &[199]), 1);
    assert_eq!((index.usage().blocks, used()), (100, 150));
    assert_eq!(index.remove(lane, &engines(1_000..1_100)), 100);
    assert_eq!((index.usage().pairs, used()), (0, 0));
    // The way is free for another path in the same slots.
    assert_eq!(store(Parent::Root(4), &run(0..200)), 200);
    assert_eq!(found(&chain), 0);
}

/// Blocks of `kind` are only ever held by owners whose number leaves that remainder, whatever lane they get: nobody else may ever be reported for them.
#[test]
fn a_reader_beside_a_writer_sees_no_holder_that_never_was_and_misses_none_that_stays() {
    const KINDS: u32 = 3;
    const STAYS: u32 = 60_000;
    let index = ExactIndex::new(AMPLE);
    let run = |kind: u32, number: u32, blocks: u32| -> Vec<StoredBlock> {
        (0..blocks)
            .map(|at| {
                let content = content(&[kind, number, at], &[]);
                StoredBlock {
                    engine: content,
                    content,
                }
            })
            .collect()
    };
    let contents =
        |run: &[StoredBlock]| -> Vec<u64> { run.iter().map(|block| block.content).collect() };
    let runs: Vec<(u32, Vec<StoredBlock>)> = (0..KINDS)
        .flat_map(|kind| (0..4).map(move |number| (kind, number)))
        .map(|(kind, number)| (kind, run(kind, number, 40)))
        .collect();
    let all: Vec<(u32, Vec<u64>)> = runs
        .iter()
        .map(|(kind, run)| (*kind, contents(run)))
        .collect();
    for (kind, run) in &runs {
        let lane = index.open(STAYS + kind, Tier::GPU).expect("few are open");
        index
            .store(lane, Parent::Root(1), &run[..30])
            .expect("a root is always known");
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut out = Matches::new();
                    let mut seen = 0_u64;
                    while !done.load(Ordering::Acquire) {
                        for (kind, contents) in &all {
                            index.matches(1, contents, &[1.0; MAX_TIERS], &mut out);
                            assert!(
                                out.blocks(STAYS + kind) >= 30,
                                "{}",
                                out.blocks(STAYS + kind)
                            );
                            for (owner, blocks, _) in out.iter() {
                                assert_eq!(owner % KINDS, *kind, "{blocks} blocks");
                                seen += u64::from(owner < STAYS);
                            }
                        }
                    }
                    seen
                })
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(5);
        // Owners come and go, so lanes change hands; fillers take the slots that others leave.
        for round in 0..6_000_u32 {
            let owner = random.u32(0..60);
            let lane = index.open(owner, Tier::GPU).expect("few are open");
            let (_, run) = &runs[(owner % KINDS) as usize * 4 + random.usize(0..4)];
            index
                .store(lane, Parent::Root(1), run)
                .expect("a root is always known");
            let filler = run_of_filler(owner, round);
            index.store_path(lane, 2, &filler, 0);
            match random.u32(0..4) {
                0 => index.close(random.u32(0..60)),
                1 => index.clear(lane),
                _ => {
                    let engines: Vec<u64> = run.iter().map(|block| block.engine).collect();
                    index.remove(lane, &engines);
                    index.remove(lane, &keys_from(2, &filler));
                }
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            let seen = reader.join().expect("no assertion of a reader failed");
            assert!(seen > 0, "the readers met nobody who came and went");
        }
    });
}

fn keys_from(root: u64, contents: &[u64]) -> Vec<u64> {
    let mut key = root;
    let link = |content: &u64| {
        key = chain(key, *content);
        key
    };
    contents.iter().map(link).collect()
}

fn run_of_filler(owner: u32, round: u32) -> Vec<u64> {
    (0..20)
        .map(|at| content(&[owner, round, at, 9], &[]))
        .collect()
}

/// Chains of which the model knows what the index was told, and the index may have evicted some.
#[test]
fn what_remains_after_eviction_is_exact_and_the_budget_holds() {
    let index = ExactIndex::new(AMPLE);
    let empty = index.usage().bytes;
    let budget = empty + 200_000;
    index.set_budget(budget);
    let lanes: Vec<Lane> = (0..8)
        .map(|owner| index.open(owner, Tier::GPU).expect("few are open"))
        .collect();
    let mut out = Matches::new();
    let weights = [1.0; MAX_TIERS];
    let chains: Vec<Vec<u64>> = (0..400_u32)
        .map(|number| (0..50).map(|at| content(&[number, at], &[])).collect())
        .collect();
    for (number, contents) in chains.iter().enumerate() {
        for lane in [number % 8, (number + 1) % 8] {
            let stored = index.store_path(lanes[lane], 1, contents, 0);
            assert_eq!((stored.new, stored.cut), (50, 0));
            assert!(index.usage().bytes <= budget, "{:?}", index.usage());
        }
        // The first chain is asked for again and again, so it stays.
        index.matches(1, &chains[0], &weights, &mut out);
        assert_eq!(
            out.blocks(0),
            50,
            "evicted after {number} chains: {:?}",
            index.usage()
        );
    }
    assert!(index.usage().evicted_pairs > 20_000, "{:?}", index.usage());
    let mut pairs = 0;
    for (number, contents) in chains.iter().enumerate() {
        index.matches(1, contents, &weights, &mut out);
        for (owner, blocks, _) in out.iter() {
            assert!([number % 8, (number + 1) % 8].contains(&(owner as usize)));
            pairs += blocks as usize;
        }
    }
    // What lies behind an evicted block is held without being found.
    assert!(
        (1_000..=index.usage().pairs).contains(&pairs),
        "{pairs} found of {}",
        index.usage().pairs
    );
    // What was evicted is forgotten by the lanes as well: stored again it is new, and all goes without a trace.
    let again = index.store_path(lanes[1], 1, &chains[1], 0);
    assert_eq!(again.new + again.repeated, 50);
    (0..8).for_each(|owner| index.close(owner));
    let usage = index.usage();
    assert_eq!((usage.pairs, usage.blocks, usage.sets), (0, 0, 0));
    assert!(
        usage.bytes < empty + 20_000,
        "{} bytes, {empty} when empty",
        usage.bytes
    );
}

#[test]
fn a_call_that_does_not_fit_is_cut_short_and_counted() {
    let index = ExactIndex::new(AMPLE);
    index.set_budget(index.usage().bytes + 1_000);
    let lane = index.open(1, Tier::GPU).expect("none is open");
    let keys: Vec<u64> = (0..100).collect();
    let stored = index.store_path(lane, 1, &keys, 0);
    assert_eq!(stored.new + stored.cut, 100);
    assert!(stored.cut > 0);
    assert_eq!(index.usage().cut_blocks, stored.cut as u64);
}

#[test]
fn thousands_of_endpoints_have_lanes_and_their_numbers_are_used_again() {
    let index = ExactIndex::new(AMPLE);
    let mut out = Matches::new();
    for owner in 0..5_000 {
        let lane = index
            .open(owner, Tier::GPU)
            .expect("there are numbers for 65,535");
        assert_eq!(index.open(owner, Tier::GPU), Ok(lane));
        index.store_path(lane, 1, &[7, 8][..=(owner as usize % 2)], 0);
    }
    index.matches(1, &[7, 8], &[1.0; MAX_TIERS], &mut out);
    assert_eq!(
        (out.iter().count(), out.blocks(10), out.blocks(4_999)),
        (5_000, 1, 2)
    );
    for round in 0..20 {
        for owner in 0..5_000 {
            if owner % 1_000 == round {
                index.close(owner);
                index
                    .open(owner + 10_000 + round, Tier(1))
                    .expect("closed numbers come back");
            }
        }
    }
    index.matches(1, &[7], &[1.0; MAX_TIERS], &mut out);
    assert_eq!(out.iter().count(), 4_900);
}

#[test]
fn an_unknown_parent_is_an_error_that_names_it() {
    let index = ExactIndex::new(AMPLE);
    let lane = index.open(1, Tier::GPU).expect("none is open");
    let error = index
        .store(lane, Parent::Block(0xabc), &[])
        .expect_err("nothing is stored");
    assert!(error.to_string().contains("0x0000000000000abc"), "{error}");
}
