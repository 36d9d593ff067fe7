//! Every form in which engines write the same facts, and what of them counts.

use warmroute_core::kv_events::{Engine, MOST_TIERS, Received};
use warmroute_core::tokens::{MediaSpan, TokenSequence};

use crate::wire::{
    Picker, Value, batch, cleared, count, hashes, list, map, number, prompt, removed, stored_array,
    stored_map, text, tokens,
};

const STORES: &str = "kv_cache_events_stores_skipped_total";
const REMOVALS: &str = "kv_cache_events_removals_skipped_total";

/// Two blocks of four tokens, in each form; then the second is removed.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of forms")]
fn all_forms_of_a_store_and_its_removal_are_understood() {
    let ids = count(1000, 8);
    let own = [u64::MAX - 5, 1 << 40];
    let as_bytes = |hash: u64| Value::Bytes([&[7; 24][..], &hash.to_be_bytes()].concat());
    let plain = stored_map(&own, None, &ids, 4, vec![]);
    let reordered = map([
        ("surprise", list([map([("deep", Value::Nil)])])),
        ("block_size", number(4)),
        ("token_ids", tokens(&ids)),
        ("block_hashes", hashes(&own)),
        ("type", text("BlockStored")),
    ]);
    let signed = list([number(own[0].cast_signed()), number(own[1])]);
    let vllm = |rest| stored_array(&own, None, &ids, 4, rest);
    let event = |own: Value| {
        list([
            text("BlockStored"),
            own,
            Value::Nil,
            tokens(&ids),
            number(4),
            Value::Nil,
        ])
    };
    let long = vec![
        Value::Nil,
        text("GPU"),
        Value::Nil,
        list([Value::Nil, Value::Nil]),
        number(0),
        text("full_attention"),
        Value::Nil,
        map([("new", number(1))]),
    ];
    let pairs = list(ids.iter().map(|id| list([number(*id), number(*id + 1)])));
    let page = |hash: u64, parent: Value, ids: &[u32]| {
        list([
            text("BlockStored"),
            hashes(&[hash]),
            parent,
            tokens(ids),
            number(4),
            Value::Nil,
            text("GPU"),
        ])
    };
    let forms: Vec<(&str, Engine, Vec<Value>)> = vec![
        ("map", Engine::Vllm, vec![plain]),
        (
            "map in another order, with fields that nobody knows",
            Engine::Vllm,
            vec![reordered],
        ),
        ("array that ends early", Engine::Vllm, vec![vllm(vec![])]),
        (
            "array with every field and one more",
            Engine::Vllm,
            vec![vllm(long)],
        ),
        ("signed hashes", Engine::Vllm, vec![event(signed)]),
        (
            "hashes as 32 bytes",
            Engine::Vllm,
            vec![event(list(own.map(as_bytes)))],
        ),
        (
            "SGLang, a page an event",
            Engine::Sglang,
            vec![
                page(own[0], Value::Nil, &ids[..4]),
                page(own[1], number(own[0]), &ids[4..]),
            ],
        ),
        (
            "SGLang with metadata after the medium, where vLLM has an adapter's name",
            Engine::Sglang,
            vec![stored_array(
                &own,
                None,
                &ids,
                4,
                vec![Value::Nil, text("GPU"), map([("session", text("a"))])],
            )],
        ),
        (
            "SGLang with pairs of tokens",
            Engine::Sglang,
            vec![list([
                text("BlockStored"),
                hashes(&own),
                Value::Nil,
                pairs,
                number(4),
                Value::Nil,
            ])],
        ),
        (
            "no block before the first, written as 0",
            Engine::Vllm,
            vec![stored_map(&own, Some(0), &ids, 4, vec![])],
        ),
        (
            "event of an unknown type beside it",
            Engine::Vllm,
            vec![
                list([text("BlockMoved"), hashes(&own)]),
                vllm(vec![]),
                map([("type", text("Else"))]),
            ],
        ),
    ];
    for (form, engine, events) in forms {
        for removal in [
            removed(&own[1..], vec![]),
            removed(
                &own[1..],
                vec![("medium", text("GPU")), ("later", Value::Nil)],
            ),
            list([text("BlockRemoved"), hashes(&own[1..])]),
            list([
                text("BlockRemoved"),
                list([as_bytes(own[1])]),
                text("GPU"),
                Value::Nil,
            ]),
        ] {
            let picker = Picker::new();
            let mut publisher = picker.open(0, 0, engine);
            assert_eq!(publisher.send(events.clone()), Received::Applied);
            assert_eq!(picker.blocks(0, &ids), 2, "{form}");
            assert_eq!(picker.blocks(0, &ids[..7]), 1, "{form}: only full blocks");
            publisher.send(vec![removal]);
            assert_eq!(picker.blocks(0, &ids), 1, "{form}");
            publisher.send(vec![cleared()]);
            assert_eq!(picker.blocks(0, &ids), 0, "{form}");
            let errors = "kv_events_decode_errors_total";
            let unreadable = [
                picker.counted(errors, &["event"]),
                picker.counted(errors, &["message"]),
            ];
            assert_eq!(unreadable, [0; 2], "{form}");
        }
    }
    // The batch itself may be a map.
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let mut payload = Vec::new();
    let events = list([stored_map(&own, None, &ids, 4, vec![])]);
    map([
        ("ts", Value::Time(0.0)),
        ("events", events),
        ("data_parallel_rank", number(0)),
    ])
    .write(&mut payload);
    publisher.send_bytes(&payload);
    assert_eq!(picker.blocks(0, &ids), 2);
}

#[test]
fn announcements_of_the_same_block_are_counted() {
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let ids = count(0, 8);
    let store = || stored_map(&[1, 2], None, &ids, 4, vec![]);
    publisher.send(vec![store(), store()]);
    publisher.send(vec![removed(&[1, 2], vec![])]);
    assert_eq!(picker.blocks(0, &ids), 2);
    publisher.send(vec![removed(&[1, 2], vec![])]);
    assert_eq!(picker.blocks(0, &ids), 0);
    let counted = |name| picker.counted(name, &[]);
    assert_eq!(
        counted("kv_cache_events_dedup_removed_hashes_suppressed_total"),
        2
    );
    assert_eq!(
        counted("kv_cache_events_dedup_removed_hashes_forwarded_total"),
        2
    );
}

#[test]
fn extra_keys_of_events_are_the_media_and_the_salt_of_requests() {
    let ids = count(0, 12);
    let media = |start, length, hash: &str| MediaSpan {
        start,
        length,
        hash: hash.into(),
    };
    // One picture over blocks 0 and 1, another within block 2.
    let sequence = TokenSequence {
        tokens: ids.clone(),
        media: vec![media(2, 4, "cat"), media(8, 2, "dog")],
        truncated: false,
    };
    let pair = |hash: &str, offset: i64| list([text(hash), number(offset)]);
    for adapter in [None, Some("a1")] {
        let name = || adapter.map(text).into_iter();
        let of_block = |extras: Vec<Value>| list(name().chain(extras));
        for extras in [
            [
                of_block(vec![pair("cat", 2), text("salt")]),
                of_block(vec![pair("cat", -2)]),
                of_block(vec![pair("dog", 0)]),
            ],
            [
                of_block(vec![text("cat"), text("salt")]),
                of_block(vec![text("cat")]),
                of_block(vec![text("dog")]),
            ],
        ] {
            let picker = Picker::new();
            let mut publisher = picker.open(0, 0, Engine::Vllm);
            let lora = adapter.map_or(Value::Nil, text);
            let extras = ("extra_keys", list(extras));
            publisher.send(vec![stored_map(
                &[1, 2, 3],
                None,
                &ids,
                4,
                vec![extras, ("lora_name", lora)],
            )]);
            let model = adapter.unwrap_or("tiny");
            let held = |salt, sequence: &TokenSequence| picker.held(0, model, salt, sequence).0;
            assert_eq!(held(Some("salt"), &sequence), 3);
            assert_eq!(held(Some("other"), &sequence), 0);
            assert_eq!(held(None, &sequence), 0);
            assert_eq!(held(Some("salt"), &prompt(&ids)), 0);
            let mut other = sequence.clone();
            other.media[1].hash = "cow".into();
            assert_eq!(held(Some("salt"), &other), 2);
            assert_eq!(
                picker.held(0, "other", Some("salt"), &sequence).0,
                if adapter.is_some() { 0 } else { 3 }
            );
        }
    }
    // Hashes of prompt embeddings are bytes: such blocks are nobody's prompt, and no block of tokens either.
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let extras = ("extra_keys", list([list([Value::Bytes(vec![0xab, 0x01])])]));
    publisher.send(vec![stored_map(&[1], None, &ids[..4], 4, vec![extras])]);
    assert_eq!(picker.blocks(0, &ids), 0);
    let embedded = TokenSequence {
        media: vec![media(0, 4, "ab01")],
        ..prompt(&ids)
    };
    assert_eq!(picker.held(0, "tiny", None, &embedded).0, 1);
}

/// `SGLang` names the salt, or an adapter, in one of four ways; none of them may make the blocks plain ones.
#[test]
fn sglang_s_salts_and_adapters_are_told_from_plain_blocks_in_every_version() {
    let salt = || map([("cache_salt", text("tenant"))]);
    let own = [11, 12];
    let ids = count(0, 8);
    let array = |rest| stored_array(&own, None, &ids, 4, rest);
    let nils = |rest: Vec<Value>, until: usize, last| {
        let mut rest = rest;
        rest.resize(until, Value::Nil);
        rest.push(last);
        rest
    };
    let beginning = || vec![Value::Nil, text("GPU")];
    let prefixed = || list([list([text("dynamo-cache-salt:tenant")])]);
    let forms = [
        (
            "right after the medium",
            array(nils(beginning(), 2, salt())),
        ),
        (
            "among the extra keys, once for all blocks, and at the end",
            array(nils(
                [beginning(), vec![Value::Nil, prefixed()]].concat(),
                8,
                salt(),
            )),
        ),
        (
            "among the extra keys alone",
            array([beginning(), vec![Value::Nil, prefixed()]].concat()),
        ),
        (
            "map",
            stored_map(&own, None, &ids, 4, vec![("cache_salt", text("tenant"))]),
        ),
        (
            "map of a map",
            stored_map(&own, None, &ids, 4, vec![("metadata", salt())]),
        ),
    ];
    let prompt = prompt(&ids);
    for (name, form) in forms {
        let picker = Picker::new();
        let mut publisher = picker.open(0, 0, Engine::Sglang);
        assert_eq!(publisher.send(vec![form]), Received::Applied);
        let held = |salt| picker.held(0, "tiny", salt, &prompt).0;
        assert_eq!((held(Some("tenant")), held(None)), (2, 0), "{name}");
    }
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Sglang);
    let adapter = array([beginning(), vec![text("a1"), Value::Nil]].concat());
    publisher.send(vec![adapter]);
    let held = |model| picker.held(0, model, None, &prompt).0;
    assert_eq!((held("a1"), held("tiny")), (2, 0));

    // What is kept for a part of the layers only says nothing about the whole.
    let of = |component| vec![("component_type", text(component))];
    publisher.send(vec![stored_map(&own, None, &ids, 4, of("swa"))]);
    assert_eq!(held("tiny"), 0);
    publisher.send(vec![
        stored_map(&own, None, &ids, 4, of("full")),
        removed(&own, of("swa")),
    ]);
    assert_eq!(held("tiny"), 2);
    publisher.send(vec![removed(&own, of("full"))]);
    assert_eq!(held("tiny"), 0);
}

#[test]
fn adapters_have_prefixes_of_their_own_and_no_one_can_make_a_base_model_one() {
    let picker = Picker::new();
    let ids = count(0, 4);
    let mut honest = picker.open(0, 0, Engine::Vllm);
    let mut other = picker.open(1, 0, Engine::Vllm);
    honest.send(vec![stored_map(&[1], None, &ids, 4, vec![])]);
    other.send(vec![stored_map(
        &[1],
        None,
        &ids,
        4,
        vec![("lora_name", text("a1"))],
    )]);
    let held = |slot, model| picker.held(slot, model, None, &prompt(&ids)).0;
    assert_eq!([held(0, "tiny"), held(1, "tiny")], [1, 0]);
    // The first has the base model's blocks only, which are of no use to the adapter.
    assert_eq!([held(0, "a1"), held(1, "a1")], [0, 1]);
    other.send(vec![stored_map(
        &[2],
        None,
        &ids,
        4,
        vec![("lora_name", text("tiny"))],
    )]);
    assert_eq!(held(0, "tiny"), 1);
    // An adapter of which only the number is known is no model that a request could name.
    other.send(vec![stored_array(
        &[3],
        None,
        &count(50, 4),
        4,
        vec![number(7)],
    )]);
    assert_eq!(picker.counted(STORES, &["unknown", "unnamed_adapter"]), 1);
    assert_eq!(picker.blocks(1, &count(50, 4)), 0);
}

#[test]
fn only_groups_whose_blocks_stay_usable_are_indexed() {
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let kinds = [
        "full_attention",
        "mla_attention",
        "sink_full_attention",
        "sliding_window",
        "mamba",
        "brand_new",
    ];
    for (group, kind) in (0_u32..).zip(kinds) {
        let ids = count(100 * group, 4);
        let fields = vec![
            ("group_idx", number(group)),
            ("kv_cache_spec_kind", text(kind)),
        ];
        publisher.send(vec![stored_map(
            &[u64::from(group) + 1],
            None,
            &ids,
            4,
            fields,
        )]);
        assert_eq!(picker.blocks(0, &ids), u32::from(group < 3), "{kind}");
    }
    let skipped = |kind| picker.counted(STORES, &[kind, "unsupported_cache_kind"]);
    assert_eq!(
        [
            skipped("sliding_window"),
            skipped("mamba"),
            skipped("other")
        ],
        [1; 3]
    );
    // A removal says no kind: it is judged by what stores of its group said.
    let remove = |group: u32| removed(&[1], vec![("group_idx", number(group))]);
    publisher.send(vec![remove(3), remove(77)]);
    assert_eq!(picker.blocks(0, &count(0, 4)), 1);
    assert_eq!(
        picker.counted(REMOVALS, &["sliding_window", "unsupported_cache_kind"]),
        1
    );
    assert_eq!(picker.counted(REMOVALS, &["unknown", "unknown_group"]), 1);
    publisher.send(vec![remove(0)]);
    assert_eq!(picker.blocks(0, &count(0, 4)), 0);
    // Without a kind a group counts.
    publisher.send(vec![stored_map(
        &[9],
        None,
        &count(900, 4),
        4,
        vec![("group_idx", number(9))],
    )]);
    assert_eq!(picker.blocks(0, &count(900, 4)), 1);
}

#[test]
fn copies_in_slower_tiers_count_with_their_weight_and_outlive_the_gpu_s() {
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let ids = count(0, 16);
    let cpu = || ("medium", text("CPU"));
    publisher.send(vec![stored_map(
        &[1, 2, 3, 4],
        None,
        &ids,
        4,
        vec![("medium", text("GPU"))],
    )]);
    // An offloading connector tells neither tokens nor parents.
    publisher.send(vec![stored_map(&[1, 2], None, &[], 4, vec![cpu()])]);
    let held = || picker.held(0, "tiny", None, &prompt(&ids));
    assert_eq!(held(), (4, 4.0));
    publisher.send(vec![removed(&[1, 2, 3, 4], vec![])]);
    assert_eq!(held(), (2, 1.0));
    publisher.send(vec![removed(&[2], vec![cpu()])]);
    assert_eq!(held(), (1, 0.5));
    // What it never stored with tokens cannot be held.
    publisher.send(vec![stored_map(&[77], None, &[], 4, vec![cpu()])]);
    assert_eq!(picker.counted(STORES, &["unknown", "unknown_block"]), 1);
    assert_eq!(
        picker
            .events
            .tiers()
            .iter()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["gpu", "cpu"]
    );
}

#[test]
fn larger_blocks_of_a_slower_tier_count_in_blocks_of_the_gpu() {
    for with_tokens in [true, false] {
        let picker = Picker::new();
        let mut publisher = picker.open(0, 0, Engine::Vllm);
        let ids = count(0, 32);
        let cpu = || ("medium", text("cpu"));
        let gpu: Vec<u64> = (1..=8).collect();
        publisher.send(vec![stored_map(&gpu, None, &ids, 4, vec![])]);
        // Two of four times the size, named by the last block in each.
        let told = if with_tokens { &ids[..] } else { &[] };
        publisher.send(vec![stored_map(&[4, 8], None, told, 16, vec![cpu()])]);
        publisher.send(vec![removed(&gpu, vec![])]);
        let held = || picker.held(0, "tiny", None, &prompt(&ids));
        assert_eq!(held(), (8, 4.0), "with tokens: {with_tokens}");
        publisher.send(vec![removed(&[8], vec![cpu()])]);
        assert_eq!(held(), (4, 2.0), "with tokens: {with_tokens}");
        publisher.send(vec![removed(&[4], vec![cpu()])]);
        assert_eq!(held(), (0, 0.0), "with tokens: {with_tokens}");
        publisher.send(vec![stored_map(&[9], None, &count(0, 6), 6, vec![cpu()])]);
        assert_eq!(
            picker.counted(STORES, &["unknown", "block_size_mismatch"]),
            1
        );
    }
}

#[test]
fn names_of_media_are_bounded_in_all_and_for_each_publisher() {
    let picker = Picker::new();
    let ids = count(0, 4);
    for slot in 0..6 {
        let mut publisher = picker.open(slot, 0, Engine::Vllm);
        for medium in 0..8 {
            let medium = text(&format!("Tier-{slot}-{medium}"));
            publisher.send(vec![stored_map(
                &[1],
                None,
                &ids,
                4,
                vec![("medium", medium)],
            )]);
        }
        // Those that all have stay for all.
        publisher.send(vec![stored_map(
            &[2],
            None,
            &count(50, 4),
            4,
            vec![("medium", text("CPU"))],
        )]);
        assert_eq!(
            picker.held(slot, "tiny", None, &prompt(&count(50, 4))),
            (1, 0.5)
        );
    }
    let names = picker.events.tiers();
    assert_eq!((names.len(), &*names[2]), (MOST_TIERS, "tier-0-0"));
    assert_eq!(
        picker.counted(STORES, &["unknown", "too_many_tiers"]),
        48 - 13
    );
}

#[test]
fn a_changed_block_size_costs_the_publisher_what_it_said_and_sglang_s_last_page_does_not() {
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let mut other = picker.open(1, 0, Engine::Vllm);
    let ids = count(0, 24);
    for publisher in [&mut publisher, &mut other] {
        publisher.send(vec![stored_map(&[1, 2, 3], None, &ids, 8, vec![])]);
    }
    publisher.send(vec![stored_map(&[9, 10], None, &ids[..8], 4, vec![])]);
    assert_eq!([picker.blocks(0, &ids), picker.blocks(1, &ids)], [2, 3]);
    let sizes = picker.events.keys("tiny", None, &[prompt(&ids)]);
    let sizes = sizes
        .iter()
        .map(|keys| (keys.block_tokens, keys.owners[0].slot));
    assert_eq!(sizes.collect::<Vec<_>>(), [(4, 0), (8, 1)]);
    assert_eq!(
        picker.counted("kv_events_dropped_total", &["block_size"]),
        1
    );
    for (size, reason) in [
        (0_u64, "invalid_block_size"),
        ((1 << 20) + 1, "invalid_block_size"),
        (5, "non_dense_block_span"),
    ] {
        let event = map([
            ("type", text("BlockStored")),
            ("block_hashes", hashes(&[1])),
            ("token_ids", tokens(&ids[..4])),
            ("block_size", number(size)),
        ]);
        let before = picker.counted(STORES, &["unknown", reason]);
        publisher.send(vec![event]);
        assert_eq!(
            picker.counted(STORES, &["unknown", reason]),
            before + 1,
            "{size}"
        );
        assert_eq!(picker.blocks(0, &ids), 2);
    }
    let mut pages = picker.open(2, 0, Engine::Sglang);
    pages.send(vec![stored_array(
        &[1],
        None,
        &ids[..8],
        8,
        vec![Value::Nil],
    )]);
    pages.send(vec![stored_array(
        &[2],
        Some(1),
        &ids[8..11],
        3,
        vec![Value::Nil],
    )]);
    assert_eq!(picker.blocks(2, &ids), 1);
    assert_eq!(picker.counted(STORES, &["unknown", "partial_block"]), 1);
}

#[test]
fn events_that_continue_what_is_unknown_are_skipped_and_a_bad_one_costs_itself() {
    let picker = Picker::new();
    let mut publisher = picker.open(0, 0, Engine::Vllm);
    let ids = count(0, 12);
    publisher.send(vec![
        stored_map(&[5], Some(4), &ids[..4], 4, vec![]),
        stored_map(&[6], Some(5), &ids[..4], 4, vec![]),
        map([
            ("type", text("BlockStored")),
            ("block_hashes", text("none")),
        ]),
        number(3),
        list([]),
        stored_map(&[1], None, &ids[..4], 4, vec![("medium", number(1))]),
        stored_map(
            &[1, 2],
            None,
            &ids[..8],
            4,
            vec![("extra_keys", list([Value::Nil]))],
        ),
        stored_map(&[1], None, &ids[..4], 4, vec![]),
        list([
            text("BlockStored"),
            hashes(&[2]),
            number(1),
            tokens(&ids[4..8]),
        ]),
        stored_map(&[2], Some(1), &ids[4..8], 4, vec![]),
    ]);
    assert_eq!(picker.blocks(0, &ids), 2);
    assert_eq!(picker.counted(STORES, &["unknown", "unknown_parent"]), 2);
    assert_eq!(
        picker.counted(STORES, &["unknown", "extra_keys_mismatch"]),
        1
    );
    assert_eq!(
        picker.counted("kv_events_decode_errors_total", &["event"]),
        5
    );
}

#[test]
fn engines_of_one_endpoint_are_apart_and_the_best_counts() {
    let picker = Picker::new();
    let ids = count(0, 16);
    let store = |own: &[u64], from: usize, parent| {
        stored_map(own, parent, &ids[from..from + 4 * own.len()], 4, vec![])
    };
    let mut first = picker.open(0, 0, Engine::Vllm);
    let mut second = picker.open(0, 1, Engine::Vllm);
    first.send(vec![store(&[1, 2, 3], 0, None)]);
    second.send(vec![store(&[1], 0, None)]);
    assert_eq!(picker.blocks(0, &ids), 3);
    // What one engine begins and the other goes on with is no prefix of either.
    second.send(vec![store(&[4], 12, Some(3))]);
    assert_eq!(picker.blocks(0, &ids), 3);
    first.send(vec![cleared()]);
    assert_eq!(picker.blocks(0, &ids), 1);
    picker.events.close(first.id);
    assert_eq!(picker.blocks(0, &ids), 1);
    assert_eq!(
        first.deliver(2, &batch(vec![store(&[1, 2, 3], 0, None)])),
        Received::Ignored
    );
    picker.events.close(second.id);
    // The slot's next endpoint begins with nothing.
    let mut next = picker.open(0, 0, Engine::Vllm);
    next.send(vec![store(&[9], 0, None)]);
    assert_eq!(picker.blocks(0, &ids), 1);
    next.send(vec![removed(&[9], vec![])]);
    assert_eq!(picker.blocks(0, &ids), 0);
}
