//! What comes and goes: expectations of what was just sent, endpoints, policies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use warmroute_core::Nanos;
use warmroute_core::kv_events::Engine as Form;
use warmroute_core::plugin::Externals;

use crate::gateway::{Ask, EXACT, Gateway, SIZE, identity, own, policy, stored};
use crate::wire::{count, removed};

fn speculating() -> warmroute_core::engine::PolicySpec {
    policy(
        &json!({"speculativeIndexing": true, "speculativeTTL": "2s"}),
        &[],
    )
}

#[test]
fn what_was_just_sent_counts_as_held_until_the_engine_says_so_or_its_time_is_over() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let clock = || Nanos(NOW.load(Ordering::Relaxed));
    let gateway = Gateway::at(clock, &speculating(), 2, &Externals::new());
    let mut publishers = [1, 2].map(|number| gateway.publisher(number, 0, Form::Vllm));
    let ids = count(0, 6 * SIZE + 1);
    let at = |seconds: f64| {
        NOW.store(
            Duration::from_secs_f64(seconds).as_nanos() as u64,
            Ordering::Relaxed,
        );
        gateway.engine.maintain();
    };
    let ask = |ids: &[u32]| Ask {
        now: clock(),
        ..Ask::of(ids)
    };
    // Their size of blocks has to be known.
    for publisher in &mut publishers {
        publisher.send(vec![stored(&count(9000, SIZE), SIZE, vec![])]);
    }
    let (home, cached) = gateway.ask(&ask(&ids));
    assert_eq!(cached, 0);
    assert_eq!(gateway.ask(&ask(&ids)), (home, 6 * SIZE), "at once");
    at(1.5);
    // The next turn: what it begins with is not to run out under it.
    let longer = [&ids[..6 * SIZE as usize], &count(7000, 3 * SIZE + 1)].concat();
    assert_eq!(gateway.ask(&ask(&longer)), (home, 6 * SIZE));
    at(2.5);
    assert_eq!(
        gateway.cached(home, ask(&longer)),
        9 * SIZE,
        "of the second request"
    );
    at(3.0);
    // Now the engine has said so of the first blocks, and the rest runs out.
    publishers[usize::from(home) - 1].send(vec![stored(
        &longer[..4 * SIZE as usize],
        SIZE,
        vec![],
    )]);
    at(5.5);
    assert_eq!(gateway.cached(home, ask(&longer)), 4 * SIZE);
    at(8.0);
    let index = gateway.engine.kv_events().index();
    assert_eq!(index.usage().pairs, 2 + 4, "what engines told, and no more");
    let gone: Vec<u64> = (1..=4)
        .map(|block| own(&longer[..block * SIZE as usize], SIZE))
        .collect();
    publishers[usize::from(home) - 1].send(vec![removed(&gone, vec![])]);
    assert_eq!(index.usage().pairs, 2);
}

/// The second engine of an endpoint has another number in the index than the endpoint.
#[test]
fn expectations_are_those_of_an_engine_of_the_endpoint() {
    let gateway = Gateway::new(&speculating(), 1);
    let ids = count(0, 4 * SIZE + 1);
    let first = gateway.holds(1, &count(9000, SIZE), SIZE, vec![]);
    let mut second = gateway.publisher(1, 1, Form::Vllm);
    second.send(vec![stored(&ids[..2 * SIZE as usize], SIZE, vec![])]);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (1, 2 * SIZE));
    assert_eq!(gateway.ask(&Ask::of(&ids)), (1, 4 * SIZE));
    gateway.engine.kv_events().close(first.id);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (1, 2 * SIZE));
    assert_eq!(gateway.ask(&Ask::of(&ids)), (1, 4 * SIZE));
}

#[test]
fn an_endpoint_that_is_gone_leaves_nothing_to_who_comes_into_its_slot() {
    let gateway = Gateway::new(&speculating(), 2);
    let ids = count(0, 5 * SIZE + 1);
    gateway.holds(1, &ids, SIZE, vec![]);
    gateway.holds(2, &count(9000, SIZE), SIZE, vec![]);
    gateway.ask(&Ask {
        among: &[2],
        ..Ask::of(&ids)
    });
    let slots = [1, 2].map(|number| gateway.slot(number));
    for number in [1, 2] {
        assert!(
            gateway
                .engine
                .remove_endpoint("default", &format!("endpoint-{number}"))
        );
    }
    let index = gateway.engine.kv_events().index();
    assert_eq!(index.usage().pairs, 0);
    for number in [3, 4] {
        gateway
            .engine
            .upsert_endpoint(identity(number))
            .expect("room");
    }
    assert_eq!([3, 4].map(|number| gateway.slot(number)), slots);
    for number in [3, 4] {
        gateway.holds(number, &count(9000, SIZE), SIZE, vec![]);
        assert_eq!(gateway.cached(number, Ask::of(&ids)), 0);
    }
}

/// Decisions that expect, engines that tell, endpoints that come and go, all at once: afterwards nothing is left of anyone.
#[test]
fn slots_are_used_again_while_decisions_are_made() {
    let gateway = Gateway::new(&speculating(), 4);
    let done = AtomicBool::new(false);
    let prompts: Vec<Vec<u32>> = (0..8)
        .map(|prompt| count(prompt * 1000, 4 * SIZE + 1))
        .collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for ids in &prompts {
                        // Of an endpoint that has just gone the pool may still have been told.
                        let decided = gateway.try_ask(&Ask::of(ids));
                        drop(decided);
                    }
                }
            });
        }
        for round in 0..300_u32 {
            let number = (round % 3 + 2) as u8;
            gateway
                .engine
                .remove_endpoint("default", &format!("endpoint-{number}"));
            gateway
                .engine
                .upsert_endpoint(identity(number))
                .expect("room");
            let ids = &prompts[round as usize % prompts.len()];
            gateway.holds(number, ids, SIZE, vec![]);
            if round % 16 == 0 {
                gateway.engine.maintain();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    for number in 1..=4 {
        gateway
            .engine
            .remove_endpoint("default", &format!("endpoint-{number}"));
    }
    assert_eq!(gateway.engine.kv_events().index().usage().pairs, 0);
    assert!(gateway.engine.kv_events().publishers().is_empty());
}

#[test]
fn a_reload_keeps_what_is_known_and_follows_the_budget() {
    let budget = |size: &str| {
        let index = json!({"costAwareMemoryConfig": {"size": size}});
        policy(
            &json!({"indexerConfig": {"kvBlockIndexConfig": index}}),
            &[],
        )
    };
    let gateway = Gateway::new(&budget("64MiB"), 2);
    let index = gateway.engine.kv_events().index();
    assert_eq!(index.usage().budget_bytes, 64 << 20);
    let ids = count(0, 5 * SIZE + 1);
    gateway.holds(2, &ids, SIZE, vec![]);
    gateway.publisher(1, 0, Form::Vllm).send(vec![]);
    let reload = |policy| {
        gateway
            .engine
            .reload(&policy, &Externals::new())
            .expect("valid");
    };
    reload(budget("16MiB"));
    assert_eq!(index.usage().budget_bytes, 16 << 20);
    assert_eq!(gateway.ask(&Ask::of(&ids)), (2, 5 * SIZE));
    // Other weights for the same index.
    let weights =
        json!({"indexerConfig": {"kvCacheBackendConfigs": [{"name": "gpu", "weight": 0.1}]}});
    reload(policy(&weights, &[]));
    assert_eq!(index.usage().budget_bytes, 2 << 30, "the default");
    assert_eq!(gateway.cached(2, Ask::of(&ids)), 5 * SIZE);
    // More than fits: some goes, and what is left is answered for.
    reload(budget("1MiB"));
    let mut other = gateway.publisher(1, 1, Form::Vllm);
    for chain in 1..40 {
        other.send(vec![stored(&count(chain * 100_000, 4096 * 2), 2, vec![])]);
    }
    let usage = index.usage();
    assert!(
        usage.evicted_pairs > 0 && usage.bytes <= usage.budget_bytes,
        "{usage:?}"
    );
    gateway.engine.maintain();
    let evicted = gateway.metric("kv_cache_index_budget_evictions_total", &[]);
    assert_eq!(evicted, Some(usage.evicted_pairs));
    assert!(gateway.metric("prefix_indexer_size", &[EXACT, EXACT]) == Some(usage.pairs as u64));
}
