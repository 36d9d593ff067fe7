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

fn keys_of(number: u8, blocks: usize) -> Vec<u64> {
    let mut key = root(16, None);
    (0..blocks)
        .map(|at| {
            key = chain(key, content_of(number, at));
            key
        })
        .collect()
}

#[derive(Default)]
struct Model {
    /// By owner and tier: engine hash to key and announcements.
    lanes: BTreeMap<(u32, u8), BTreeMap<u64, (u64, u32)>>,
}

impl Model {
    fn knows(&self, owner: u32, engine: u64) -> Option<u64> {
        let lanes = self.lanes.iter().filter(|(lane, _)| lane.0 == owner);
        lanes
            .filter_map(|(_, entries)| entries.get(&engine))
            .map(|entry| entry.0)
            .next()
    }

    fn add(&mut self, owner: u32, tier: u8, engine: u64, key: u64) {
        let entry = self
            .lanes
            .entry((owner, tier))
            .or_default()
            .entry(engine)
            .or_insert((key, 0));
        *entry = if entry.0 == key {
            (key, entry.1 + 1)
        } else {
            (key, 1)
        };
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
            .flat_map(|(lane, entries)| entries.values().map(|entry| (*lane, entry.0)))
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
                let known = before.is_none_or(|engine| self.model.knows(owner, engine).is_some());
                let answer = self.index.store(self.lane(owner, tier), parent, &run);
                assert_eq!(answer.is_ok(), known);
                // A renamed parent leads elsewhere.
                let mut key = before.map_or(Some(root(16, None)), |engine| {
                    self.model.knows(owner, engine)
                });
                for block in &run {
                    key = key.map(|key| super::chain(key, block.content));
                    if let Some(key) = key {
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
                run.iter()
                    .for_each(|engine| self.model.remove(owner, tier, *engine));
                let removed = self.index.remove(self.lane(owner, tier), &run);
                assert_eq!(removed, before - self.model.pairs().len());
            }
            Step::Predict {
                owner,
                chain,
                blocks,
            } => {
                let keys = keys_of(chain, blocks);
                self.index.store_keys(self.lane(owner, 15), &keys);
                keys.iter()
                    .for_each(|key| self.model.add(owner, 15, *key, *key));
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
                self.index
                    .matches(keys.iter().copied(), &weights, &mut self.out);
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
        assert_eq!(both.index.usage().sets, 0);
    }
}
