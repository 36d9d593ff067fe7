//! Any bytes, as messages of a publisher: in order, out of order, twice, and as a replay; a second publisher's answers stay as they are.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use warmroute_core::kv_events::{Engine, KvEvents, Received};
use warmroute_core::prefix::exact::{ExactIndex, Matches};
use warmroute_core::tokens::TokenSequence;

/// `[0, [["BlockStored", [1, 2], nil, [5, 6, 7, 8], 2]]]`.
static HONEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut payload = vec![0x92, 0, 0x91, 0x95, 0xab];
    payload.extend(b"BlockStored");
    payload.extend([0x92, 1, 2, 0xc0, 0x94, 5, 6, 7, 8, 2]);
    payload
});

fuzz_target!(|bytes: &[u8]| {
    let Some((control, payload)) = bytes.split_first() else {
        return;
    };
    let events = KvEvents::new(Arc::new(ExactIndex::new(1 << 20)));
    let form = if control & 1 == 0 {
        Engine::Vllm
    } else {
        Engine::Sglang
    };
    let honest = events.open(1, "honest", 0, Engine::Vllm);
    let hostile = events.open(0, "hostile", 0, form);
    let zero = [0; 8];
    let received = events.receive(honest, b"kv@honest@tiny", &zero, &HONEST);
    assert_eq!(received, Received::Applied);

    let number = u64::from(control >> 1 & 3);
    events.receive(hostile, payload, &number.to_be_bytes(), payload);
    let (first, second) = payload.split_at(payload.len() / 2);
    events.replayed(hostile, &zero, first);
    events.receive(hostile, b"kv@pod@model", &5_u64.to_be_bytes(), second);
    events.receive(hostile, b"", first, second);
    if control & 8 != 0 {
        events.connected(hostile, false);
        events.connected(hostile, true);
    }
    events.replay_ended(hostile, control & 16 != 0);
    events.receive(hostile, b"", &6_u64.to_be_bytes(), payload);
    events.replay_ended(hostile, false);

    let prompt = TokenSequence {
        tokens: vec![5, 6, 7, 8],
        ..TokenSequence::default()
    };
    let keys = events.keys("tiny", None, &[prompt]);
    let keys = keys
        .iter()
        .find(|keys| keys.owners.iter().any(|holder| holder.slot == 1))
        .expect("the honest one told its block size");
    let mut matches = Matches::default();
    let weights = events.weights(|_| 1.0);
    events
        .index()
        .matches(keys.root, &keys.sequences[0], &weights, &mut matches);
    assert_eq!(matches.blocks(1), 2);
    events.close(hostile);
    assert_eq!(events.publishers().len(), 1);
});
