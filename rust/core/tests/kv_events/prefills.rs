//! An engine's announcement of a prompt's last block, as the sign that its prefill is done.

use serde_json::json;
use warmroute_core::Nanos;
use warmroute_core::engine::Decision;
use warmroute_core::kv_events::Engine as Form;
use warmroute_core::learn::Signal;
use warmroute_core::plugin::Externals;

use crate::gateway::{Ask, Gateway, SIZE, own, policy, stored};
use crate::wire::{count, prompt, stored_array, stored_map};

const NOW: Nanos = Nanos(5_000_000_000);

/// A gateway of one endpoint, and its clock at five seconds.
fn gateway() -> Gateway {
    Gateway::at(|| NOW, &policy(&json!({}), &[]), 1, &Externals::new())
}

fn ask(gateway: &Gateway, ids: &[u32]) -> Decision {
    gateway.try_ask(&Ask::of(ids)).expect("an endpoint")
}

/// Prompts whose prefill is pending, and what the endpoint runs on.
fn pending(gateway: &Gateway) -> (usize, Signal) {
    let snapshot = gateway.engine.pool().snapshot();
    let endpoint = &snapshot.endpoints[0];
    (endpoint.pending_prefills(), endpoint.signal(NOW))
}

#[test]
fn the_last_full_block_ends_the_prefill_and_none_before_it() {
    let gateway = gateway();
    let mut publisher = gateway.holds(1, &count(9000, SIZE), SIZE, vec![]);
    let ids = count(0, 5 * SIZE + 3);
    let before = gateway.engine.pool().rates().curve();
    let decision = ask(&gateway, &ids);
    assert_eq!(pending(&gateway), (1, Signal::None));
    publisher.send(vec![stored(&ids[..4 * SIZE as usize], SIZE, vec![])]);
    assert_eq!(pending(&gateway), (1, Signal::None));
    let (fourth, fifth) = ids.split_at(4 * SIZE as usize);
    let last = stored_map(
        &[own(&ids[..5 * SIZE as usize], SIZE)],
        Some(own(fourth, SIZE)),
        &fifth[..SIZE as usize],
        SIZE,
        vec![],
    );
    publisher.send(vec![last]);
    assert_eq!(pending(&gateway), (0, Signal::KvEvents));
    assert_ne!(
        gateway.engine.pool().rates().curve(),
        before,
        "five seconds"
    );
    assert_eq!(decision.reservation.endpoint().inflight_requests(), 1);
    drop(decision);
    assert_eq!(
        gateway.engine.pool().snapshot().endpoints[0].inflight_requests(),
        0
    );
}

#[test]
fn the_same_tokens_behind_others_end_nothing() {
    let gateway = gateway();
    let mut publisher = gateway.holds(1, &count(9000, SIZE), SIZE, vec![]);
    let ids = count(0, 2 * SIZE);
    let behind = |from| {
        let mut other = count(from, SIZE);
        other.extend(&ids[SIZE as usize..]);
        other
    };
    let _decisions = [ask(&gateway, &ids), ask(&gateway, &behind(500))];
    publisher.send(vec![stored(&behind(700), SIZE, vec![])]);
    assert_eq!(pending(&gateway), (2, Signal::None));
    publisher.send(vec![stored(&behind(500), SIZE, vec![])]);
    assert_eq!(pending(&gateway), (1, Signal::KvEvents));
    publisher.send(vec![stored(&ids, SIZE, vec![])]);
    assert_eq!(pending(&gateway), (0, Signal::KvEvents));
}

#[test]
fn one_announcement_ends_one_prefill_and_what_ended_before_is_left_alone() {
    let gateway = gateway();
    let mut publisher = gateway.holds(1, &count(9000, SIZE), SIZE, vec![]);
    let ids = count(0, 3 * SIZE);
    let asked = [ask(&gateway, &ids), ask(&gateway, &count(700, 3 * SIZE))];
    assert_eq!(pending(&gateway).0, 2);
    for _ in 0..2 {
        publisher.send(vec![stored(&ids, SIZE, vec![])]);
        assert_eq!(pending(&gateway).0, 1);
    }
    drop(asked);
    publisher.send(vec![stored(&count(700, 3 * SIZE), SIZE, vec![])]);
    let endpoint = &gateway.engine.pool().snapshot().endpoints[0];
    assert_eq!(
        (endpoint.pending_prefills(), endpoint.prefill_tokens()),
        (0, 0)
    );
}

#[test]
fn what_is_no_sign_of_the_time_is_not_used() {
    let ids = count(0, 3 * SIZE);
    let whole = 3 * SIZE as usize;
    // SGLang tells later than it stores.
    let sglang = gateway();
    let mut publisher = sglang.publisher(1, 0, Form::Sglang);
    let array = |ids: &[u32]| {
        let ends =
            (1..=ids.len() / SIZE as usize).map(|block| own(&ids[..block * SIZE as usize], SIZE));
        stored_array(&ends.collect::<Vec<_>>(), None, ids, SIZE, vec![])
    };
    publisher.send(vec![array(&count(9000, SIZE))]);
    let _one = ask(&sglang, &ids);
    publisher.send(vec![array(&ids[..whole])]);
    assert_eq!(pending(&sglang), (1, Signal::None));
    // Each prompt of a request has a prefill of its own.
    let several = gateway();
    let mut publisher = several.holds(1, &count(9000, SIZE), SIZE, vec![]);
    let ask_both = Ask {
        tokens: Some(Ok(vec![prompt(&count(800, SIZE)), prompt(&ids[..whole])])),
        ..Ask::of(&[])
    };
    let _two = several.try_ask(&ask_both).expect("an endpoint");
    publisher.send(vec![stored(&ids, SIZE, vec![])]);
    assert_eq!(pending(&several), (1, Signal::None));
}
