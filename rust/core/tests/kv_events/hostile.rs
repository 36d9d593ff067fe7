//! Publishers that lie, flood or send garbage: they may cost their own entries, nothing else.

use proptest::prelude::*;
use warmroute_core::kv_events::{Engine, Received};

use crate::wire::{
    Picker, Publisher, Value, batch, cleared, count, list, number, removed, stored_map, text,
};

const IDS: u32 = 32;

/// An honest publisher with eight blocks, on slot 1.
fn honest(picker: &Picker) -> Publisher<'_> {
    let mut honest = picker.open(1, 0, Engine::Vllm);
    let own: Vec<u64> = (1..=8).collect();
    honest.send(vec![stored_map(&own, None, &count(0, IDS), 4, vec![])]);
    honest
}

fn rich_payload() -> Vec<u8> {
    let extras = list([
        list([text("a1"), list([text("cat"), number(2)])]),
        Value::Nil,
    ]);
    let fields = vec![
        ("lora_name", text("a1")),
        ("medium", text("CPU")),
        ("extra_keys", extras),
        ("group_idx", number(0)),
        ("kv_cache_spec_kind", text("full_attention")),
    ];
    batch(vec![
        stored_map(&[1, 2], None, &count(0, 8), 4, vec![]),
        stored_map(&[3, u64::MAX], Some(2), &count(8, 8), 4, fields),
        stored_map(&[1], None, &[], 8, vec![("medium", text("cpu"))]),
        removed(&[1, 3], vec![("medium", text("gpu"))]),
        list([
            text("BlockStored"),
            list([Value::Bytes(vec![9; 32])]),
            Value::Nil,
            list([]),
            number(4),
        ]),
        cleared(),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_messages_cost_no_other_publisher_anything(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
        sglang in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let picker = Picker::new();
        let _honest = honest(&picker);
        let form = if sglang { Engine::Sglang } else { Engine::Vllm };
        let mut hostile = picker.open(0, 0, form);
        let mut payload = rich_payload();
        for (place, byte) in changes {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        if shorten {
            payload.truncate(cut.index(payload.len()));
        }
        hostile.send_bytes(&payload);
        hostile.send_bytes(&noise);
        prop_assert_eq!(picker.blocks(1, &count(0, IDS)), 8);
        // It may still say something sensible.
        hostile.send(vec![cleared(), stored_map(&[70], None, &count(70, 4), 4, vec![])]);
        prop_assert_eq!(picker.blocks(0, &count(70, 4)), 1);
        prop_assert_eq!(picker.blocks(1, &count(0, IDS)), 8);
    }
}

#[test]
fn a_message_that_is_cut_off_is_applied_up_to_there_and_counted() {
    let whole = rich_payload();
    for cut in 0..whole.len() {
        let picker = Picker::new();
        let mut publisher = picker.open(0, 0, Engine::Vllm);
        assert_eq!(publisher.send_bytes(&whole[..cut]), Received::Applied);
        let errors = |what| picker.counted("kv_events_decode_errors_total", &[what]);
        // The rank at the end is of no use: a message that lacks only it is whole.
        assert_eq!(
            errors("message"),
            u64::from(cut + 1 < whole.len()),
            "cut at {cut}"
        );
    }
}

#[test]
fn declared_lengths_beyond_the_message_allocate_nothing() {
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let huge = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let mut stored = vec![0x95, 0xab];
    stored.extend(b"BlockStored");
    let payloads: [Vec<u8>; 6] = [
        huge.to_vec(),
        [&[0x92, 0xc0][..], &huge].concat(),
        [&[0x92, 0xc0, 0x91], &stored[..], &huge].concat(),
        [&[0x92, 0xc0, 0x91], &stored[..], &[0x91, 1, 0xc0], &huge].concat(),
        [&[0x92, 0xc0, 0x91][..], &[0xdf, 0xff, 0xff, 0xff, 0xff]].concat(),
        vec![0x91; 100_000],
    ];
    for payload in &payloads {
        assert_eq!(publisher.send_bytes(payload), Received::Applied);
    }
    assert_eq!(
        picker.counted("kv_events_decode_errors_total", &["message"]),
        6
    );
    // One byte a value, as many as an event may not have.
    let mut flood = vec![0x92, 0xc0, 0x91];
    flood.extend(&stored);
    flood.extend([0xdd, 0, 0x10, 0, 0]);
    flood.extend(vec![1; 1 << 20]);
    flood.extend([0xc0, 0x90, 4]);
    publisher.send_bytes(&flood);
    assert_eq!(
        picker.counted("kv_events_decode_errors_total", &["event"]),
        1
    );
    for sequence in [&[][..], &[0; 7], &[0; 9], &[0xff; 8]] {
        let received = picker
            .events
            .receive(publisher.id, b"", sequence, &rich_payload());
        assert_eq!(received, Received::Ignored);
    }
    assert_eq!(
        picker.counted("kv_events_decode_errors_total", &["sequence"]),
        4
    );
}

#[test]
fn what_waits_for_a_replay_is_bounded() {
    let picker = Picker::new();
    let _honest = honest(&picker);
    let hostile = picker.open(0, 0, Engine::Vllm);
    let payload = batch(vec![stored_map(&[1], None, &count(0, 4), 4, vec![])]);
    assert_eq!(hostile.deliver(0, &payload), Received::Applied);
    // Every other message is missing, and no replay ever ends.
    let mut most = 0;
    for number in 1..25_000 {
        hostile.deliver(2 * number, &payload);
        if number % 1000 == 0 {
            most = most.max(picker.counted("kv_cache_events_pool_queue_depth", &[]));
        }
    }
    assert!((9_000..=10_000).contains(&most), "{most}");
    assert_eq!(
        picker.counted("kv_events_dropped_total", &["message"]),
        20_000
    );
    // Few large ones.
    let large = picker.open(2, 0, Engine::Vllm);
    let payload = vec![0xc0; 20 << 20];
    let received = [2, 4, 6, 8].map(|number| large.deliver(number, &payload));
    assert_eq!(
        received[..3],
        [Received::Replay { from: 0 }, Received::Held, Received::Held]
    );
    assert_eq!(received[3], Received::Applied);
    assert_eq!(picker.blocks(1, &count(0, IDS)), 8);
}

#[test]
fn a_publisher_that_changes_its_block_size_all_the_time_stays_alone_with_it() {
    let picker = Picker::new();
    let _honest = honest(&picker);
    let mut hostile = picker.open(0, 0, Engine::Vllm);
    for size in (1..100).chain([1 << 20]) {
        let ids = count(0, size);
        hostile.send(vec![stored_map(
            &[u64::from(size)],
            None,
            &ids,
            size,
            vec![],
        )]);
        let sizes = picker
            .events
            .keys("tiny", None, &[crate::wire::prompt(&ids)]);
        assert!(sizes.len() <= 2);
        assert_eq!(picker.blocks(1, &count(0, IDS)), 8);
    }
    assert_eq!(
        picker.counted("kv_events_dropped_total", &["block_size"]),
        99
    );
}
