//! The index against a naive model, under threads, and against its byte budget.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PLENTY: usize = 1 << 30;

/// Every endpoint's blocks, most recently used first.
#[derive(Default)]
struct Model {
    endpoints: BTreeMap<u32, (usize, Vec<u64>)>,
    evictions: u64,
}

impl Model {
    fn add(&mut self, slot: u32, capacity: usize) {
        let (room, blocks) = self.endpoints.entry(slot).or_default();
        *room = capacity;
        self.evictions += blocks.len().saturating_sub(capacity) as u64;
        blocks.truncate(capacity);
    }

    fn record(&mut self, slot: u32, chain: &[u64]) {
        let Some((capacity, blocks)) = self.endpoints.get_mut(&slot) else {
            return;
        };
        // All of the prompt is in use before anything goes: no block of it makes room for another.
        let chain = &chain[..chain.len().min(*capacity)];
        blocks.retain(|held| !chain.contains(held));
        blocks.splice(0..0, chain.iter().copied());
        self.evictions += blocks.len().saturating_sub(*capacity) as u64;
        blocks.truncate(*capacity);
    }

    fn longest_match(&self, chain: &[u64], slot: u32) -> u32 {
        self.endpoints.get(&slot).map_or(0, |(_, blocks)| {
            chain
                .iter()
                .take_while(|hash| blocks.contains(hash))
                .count() as u32
        })
    }

    fn pairs(&self) -> BTreeSet<(u64, u32)> {
        self.endpoints
            .iter()
            .flat_map(|(&slot, (_, blocks))| blocks.iter().map(move |&hash| (hash, slot)))
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Add(u32, usize),
    Remove(u32),
    Record(u32, Vec<u64>),
    Match(Vec<u64>),
}

/// Few slots over a wide range, so that every form of a set of holders comes up.
fn any_slot() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0u32..8, 2 => 60u32..70, 2 => 0u32..300]
}

/// A path in a tree of prompts: equal beginnings share blocks, over several groups of blocks.
fn any_chain() -> impl Strategy<Value = Vec<u64>> {
    (0u64..4, 0usize..40).prop_map(|(family, length)| {
        (0..length)
            .map(|depth| {
                if depth < 4 {
                    depth as u64
                } else {
                    family * 100 + depth as u64
                }
            })
            .collect()
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => (any_slot(), 0usize..60).prop_map(|(slot, capacity)| Operation::Add(slot, capacity)),
        1 => any_slot().prop_map(Operation::Remove),
        8 => (any_slot(), any_chain()).prop_map(|(slot, chain)| Operation::Record(slot, chain)),
        3 => any_chain().prop_map(Operation::Match),
    ]
}

/// The pairs of the map; fails unless the lists, the map and the counters agree.
fn consistent_pairs(index: &ApproximateIndex) -> BTreeSet<(u64, u32)> {
    let mut listed = BTreeSet::new();
    let mut bytes = SHARDS * size_of::<RwLock<Shard>>();
    for (slot, endpoint) in index.endpoints.load().iter().enumerate() {
        bytes += size_of::<EndpointBlocks>() + 3 * size_of::<usize>();
        if let Some(lru) = endpoint.lru.lock().as_ref() {
            assert_eq!(lru.len(), endpoint.count.load(Relaxed));
            assert!(lru.len() <= lru.capacity());
            listed.extend(lru.iter().map(|held| (held.hash, slot as u32)));
            bytes += lru.allocated();
        }
    }
    let mut mapped = BTreeSet::new();
    let mut blocks = 0;
    for shard in &index.shards {
        let shard = shard.read();
        shard.for_each(|hash, slot| assert!(mapped.insert((hash, slot))));
        blocks += shard.len();
        bytes += shard.allocated();
    }
    assert_eq!(listed, mapped);
    let usage = index.usage();
    assert_eq!(
        (usage.blocks, usage.pairs, usage.bytes),
        (blocks, mapped.len(), bytes)
    );
    assert_eq!(
        blocks,
        mapped
            .iter()
            .map(|(hash, _)| hash)
            .collect::<BTreeSet<_>>()
            .len()
    );
    mapped
}

proptest! {
    #[test]
    fn answers_like_a_naive_model(initial in proptest::collection::vec((any_slot(), 0usize..60), 0..12), operations in proptest::collection::vec(any_operation(), 0..200)) {
        let index = ApproximateIndex::new(PLENTY);
        let mut model = Model::default();
        let mut rows = 0;
        let added = initial.into_iter().map(|(slot, capacity)| Operation::Add(slot, capacity));
        for operation in added.chain(operations) {
            match operation {
                Operation::Add(slot, capacity) => {
                    index.add_endpoint(slot, capacity);
                    model.add(slot, capacity);
                    rows = rows.max(slot + 1);
                }
                Operation::Remove(slot) => {
                    index.remove_endpoint(slot);
                    model.endpoints.remove(&slot);
                }
                Operation::Record(slot, chain) => {
                    index.record(slot, &chain);
                    model.record(slot, &chain);
                }
                Operation::Match(chain) => {
                    let mut matched = vec![99; 3];
                    index.longest_match(&chain, &mut matched);
                    let expected: Vec<u32> = (0..rows).map(|slot| model.longest_match(&chain, slot)).collect();
                    prop_assert_eq!(matched, expected);
                }
            }
        }
        prop_assert_eq!(consistent_pairs(&index), model.pairs());
        prop_assert_eq!(index.usage().evictions, model.evictions);
        for (&slot, (_, blocks)) in &model.endpoints {
            prop_assert_eq!(index.blocks_of(slot), blocks.len());
        }
    }
}

#[test]
fn the_first_block_that_is_not_held_ends_the_match() {
    let index = ApproximateIndex::new(PLENTY);
    index.add_endpoint(0, 100);
    index.add_endpoint(3, 100);
    index.record(0, &[1, 2, 40]);
    index.record(3, &[1, 2, 3, 4]);
    let mut matched = Vec::new();
    index.longest_match(&[1, 2, 3, 4], &mut matched);
    assert_eq!(matched, [2, 0, 0, 4]);
    index.longest_match(&[], &mut matched);
    assert_eq!(matched, [0; 4]);
    index.longest_match(&[9, 1], &mut matched);
    assert_eq!(matched, [0; 4]);
}

#[test]
fn a_prefix_outlives_its_tail() {
    let index = ApproximateIndex::new(PLENTY);
    index.add_endpoint(0, 4);
    index.record(0, &[1, 2, 3]);
    index.record(0, &[7, 8]);
    let mut matched = Vec::new();
    index.longest_match(&[1, 2, 3], &mut matched);
    assert_eq!(matched, [2]);
}

#[test]
fn a_prompt_longer_than_the_room_keeps_its_beginning() {
    let index = ApproximateIndex::new(PLENTY);
    index.add_endpoint(0, 3);
    index.record(0, &[1, 2, 3, 4, 5]);
    let mut matched = Vec::new();
    index.longest_match(&[1, 2, 3, 4, 5], &mut matched);
    assert_eq!((matched, index.usage().evictions), (vec![3], 0));
}

#[test]
fn unknown_slots_are_ignored() {
    let index = ApproximateIndex::new(PLENTY);
    index.record(7, &[1]);
    index.remove_endpoint(7);
    index.add_endpoint(1, 0);
    index.record(1, &[1]);
    index.record(0, &[1]);
    assert_eq!((index.usage().pairs, index.blocks_of(9)), (0, 0));
    let mut matched = vec![5];
    ApproximateIndex::new(PLENTY).longest_match(&[1], &mut matched);
    assert!(matched.is_empty());
}

#[test]
fn a_reused_slot_starts_empty() {
    let index = ApproximateIndex::new(PLENTY);
    index.add_endpoint(0, 10);
    index.record(0, &[1, 2]);
    index.remove_endpoint(0);
    index.add_endpoint(0, 10);
    let mut matched = Vec::new();
    index.longest_match(&[1, 2], &mut matched);
    assert_eq!(matched, [0]);
    assert_eq!(index.usage().pairs, 0);
}

#[test]
fn four_thousand_endpoints_hold_one_block() {
    let index = ApproximateIndex::new(PLENTY);
    for slot in 0..5000 {
        index.add_endpoint(slot, 8);
        index.record(slot, if slot % 2 == 0 { &[1, 2] } else { &[1] });
    }
    let mut matched = Vec::new();
    index.longest_match(&[1, 2, 3], &mut matched);
    assert!(
        matched
            .iter()
            .enumerate()
            .all(|(slot, &depth)| depth == if slot % 2 == 0 { 2 } else { 1 })
    );
    assert_eq!(matched.len(), 5000);
    consistent_pairs(&index);
}

#[test]
fn the_byte_budget_holds_and_takes_from_the_largest() {
    let budget = 400_000;
    let index = ApproximateIndex::new(budget);
    for slot in 0..4 {
        index.add_endpoint(slot, usize::MAX);
    }
    index.record(3, &[1_000_001, 1_000_002, 1_000_003]);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..3000_u64 {
        let chain: Vec<u64> = (0..32).map(|_| random.u64(..)).collect();
        index.record((round % 3) as u32, &chain);
        assert!(index.usage().bytes <= budget, "{:?}", index.usage());
    }
    let usage = index.usage();
    assert!(usage.evictions > 80_000, "{usage:?}");
    assert!(
        usage.bytes * 10 > budget * 6,
        "most of the budget is used: {usage:?}"
    );
    assert_eq!(index.blocks_of(3), 3, "a small endpoint keeps what it has");
    let counts: Vec<usize> = (0..3).map(|slot| index.blocks_of(slot)).collect();
    assert!(
        counts.iter().all(|&count| count * 4 > usage.pairs),
        "{counts:?}"
    );
    consistent_pairs(&index);
}

#[test]
fn a_single_holder_pair_costs_at_most_sixty_bytes() {
    let index = ApproximateIndex::new(PLENTY);
    for slot in 0..64 {
        index.add_endpoint(slot, usize::MAX);
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut worst = 0.0_f64;
    for round in 0..6000_u32 {
        let chain: Vec<u64> = (0..128).map(|_| random.u64(..)).collect();
        index.record(round % 64, &chain);
        let usage = index.usage();
        if usage.pairs > 100_000 {
            worst = worst.max(usage.bytes as f64 / usage.pairs as f64);
        }
    }
    assert!(worst <= 60.0, "{worst} bytes");
}

#[test]
fn memory_comes_back_after_churn() {
    let index = ApproximateIndex::new(PLENTY);
    index.add_endpoint(0, 20_000);
    index.add_endpoint(1, 20_000);
    let empty = index.usage().bytes;
    let mut random = fastrand::Rng::with_seed(7);
    let mut fill = |index: &ApproximateIndex| {
        for _ in 0..1000 {
            let chain: Vec<u64> = (0..64).map(|_| random.u64(..)).collect();
            index.record(0, &chain);
            index.record(1, &chain);
        }
    };
    fill(&index);
    let first = index.usage().bytes;
    for _ in 0..5 {
        fill(&index);
    }
    assert!(
        index.usage().bytes * 20 < first * 21,
        "churn at capacity does not grow the index"
    );
    index.add_endpoint(0, 1000);
    index.add_endpoint(1, 1000);
    assert!(index.usage().bytes * 5 < first);
    index.remove_endpoint(0);
    index.remove_endpoint(1);
    let usage = index.usage();
    assert_eq!((usage.blocks, usage.pairs), (0, 0));
    assert!(
        usage.bytes < empty + 64 * 1024,
        "{} bytes left of {first}",
        usage.bytes
    );
}

#[test]
fn threads_leave_lists_and_map_in_agreement() {
    let index = ApproximateIndex::new(600_000);
    for slot in 0..8 {
        index.add_endpoint(slot, 2000);
    }
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let index = &index;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                let mut matched = Vec::new();
                for _ in 0..4000 {
                    let family = random.u64(0..50) * 1000;
                    let length = random.u64(1..64);
                    let chain: Vec<u64> = (0..length)
                        .map(|depth| if depth < 8 { depth } else { family + depth })
                        .collect();
                    let slot = random.u32(0..8);
                    match random.u32(0..100) {
                        0 => index.remove_endpoint(slot),
                        1..=2 => index.add_endpoint(slot, random.usize(0..3000)),
                        3..=5 => index.add_endpoint(random.u32(8..200), 100),
                        6..=50 => index.record(slot, &chain),
                        _ => {
                            index.longest_match(&chain, &mut matched);
                            assert!(matched.iter().all(|&depth| u64::from(depth) <= length));
                        }
                    }
                }
            });
        }
    });
    consistent_pairs(&index);
    for slot in 0..200 {
        index.remove_endpoint(slot);
    }
    assert!(consistent_pairs(&index).is_empty());
}
