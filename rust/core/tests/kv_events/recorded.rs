//! What a real vLLM 0.32 published.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use warmroute_core::kv_events::{Engine, Received};

use crate::wire::{Picker, prompt};

const MESSAGES: &str = include_str!("../data/vllm-0.32-kv-events.jsonl");
const COMPLETION_3: &str = include_str!("../data/completion-3.json");

pub(crate) fn messages() -> Vec<[Vec<u8>; 3]> {
    let frames = |line| {
        let frames: [String; 3] = serde_json::from_str(line).expect("three frames a line");
        frames.map(|frame| BASE64_STANDARD.decode(frame).expect("base64"))
    };
    MESSAGES.lines().map(frames).collect()
}

/// Token ids of a recorded message's event, read by looking for the list of them: 96 or 32 small numbers.
pub(crate) fn tokens(payload: &[u8]) -> Vec<u32> {
    let name = b"\xa9token_ids";
    let at = payload
        .windows(name.len())
        .position(|window| window == name);
    let mut rest = &payload[at.expect("token ids") + name.len()..];
    let [0xdc, high, low, ids @ ..] = rest else {
        panic!("a list of 16-bit length")
    };
    rest = ids;
    let mut tokens = Vec::new();
    for _ in 0..u16::from_be_bytes([*high, *low]) {
        let (token, length) = match rest {
            [0xcd, high, low, ..] => (u16::from_be_bytes([*high, *low]), 3),
            [0xcc, token, ..] => (u16::from(*token), 2),
            [token, ..] => (u16::from(*token), 1),
            [] => panic!("a token"),
        };
        tokens.push(u32::from(token));
        rest = &rest[length..];
    }
    tokens
}

#[test]
fn recorded_prompts_match_as_far_as_the_engine_said() {
    let picker = Picker::new();
    let publisher = picker.events.open(3, "127.0.0.1:8200", 0, Engine::Vllm);
    assert!(!picker.events.knows(3));
    let messages = messages();
    for [topic, sequence, payload] in &messages {
        assert_eq!(
            picker.events.receive(publisher, topic, sequence, payload),
            Received::Applied
        );
    }
    assert!(picker.events.knows(3));

    // The third request: the first three blocks of the first, and then 20 tokens of its own.
    let first = tokens(&messages[0][2]);
    let third = [&first[..], &tokens(&messages[3][2])[..20]].concat();
    let answer: serde_json::Value = serde_json::from_str(COMPLETION_3).expect("an answer");
    let usage = &answer["usage"];
    assert_eq!(usage["prompt_tokens"], third.len());
    assert_eq!(
        usage["prompt_tokens_details"]["cached_tokens"],
        32 * picker.blocks(3, &third)
    );

    // With what it answered: a block more, and each of the three has another.
    for message in &messages[1..4] {
        let whole = [&first[..], &tokens(&message[2])[..]].concat();
        assert_eq!(picker.blocks(3, &whole), 4);
    }
    // The adapter's blocks count for the adapter alone.
    let adapted = [tokens(&messages[4][2]), tokens(&messages[5][2])].concat();
    let held = |model, ids: &[u32]| picker.held(3, model, None, &prompt(ids)).0;
    assert_eq!(
        [
            held("a1", &adapted),
            held("tiny", &adapted),
            held("a1", &third)
        ],
        [4, 0, 0]
    );
    // A chain of ten.
    let long: Vec<u32> = messages[4..11]
        .iter()
        .flat_map(|message| tokens(&message[2]))
        .collect();
    assert_eq!(held("a1", &long), 9);
    assert_eq!(
        picker.counted(
            "kv_cache_events_messages_received_total",
            &["127.0.0.1:8200"]
        ),
        12
    );
    let [state] = &picker.events.publishers()[..] else {
        panic!("one publisher")
    };
    assert_eq!(
        (
            state.block_tokens,
            state.connected,
            state.delivered,
            state.messages
        ),
        (Some(32), true, true, 12)
    );

    picker.events.close(publisher);
    assert_eq!(picker.events.keys("tiny", None, &[prompt(&third)]), []);
    assert!(!picker.events.knows(3) && !picker.events.has_publishers());
}
