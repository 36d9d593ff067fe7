//! Messages that are missing, come twice, or come from another process than before.

use warmroute_core::kv_events::{Engine, KvEvents, PublisherId, Received};

use crate::wire::{Picker, Publisher, batch, count, stored_map};

/// The payload that stores block `number` after the one before it.
fn payload(number: u32) -> Vec<u8> {
    let parent = (number > 0).then_some(u64::from(number));
    batch(vec![stored_map(
        &[u64::from(number) + 1],
        parent,
        &count(4 * number, 4),
        4,
        vec![],
    )])
}

fn replay(events: &KvEvents, publisher: PublisherId, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        events.replayed(
            publisher,
            &u64::from(number).to_be_bytes(),
            &payload(number),
        );
    }
}

fn deliver(publisher: &Publisher<'_>, numbers: impl IntoIterator<Item = u32>) -> Vec<Received> {
    let one = |number| publisher.deliver(u64::from(number), &payload(number));
    numbers.into_iter().map(one).collect()
}

use Received::{Applied, Held, Ignored, Replay};

#[test]
fn a_late_joiner_asks_for_what_was_said_before() {
    let picker = Picker::new();
    let publisher = picker.open(0, 0, Engine::Vllm);
    let held = || picker.blocks(0, &count(0, 400));
    assert_eq!(deliver(&publisher, [5, 6]), [Replay { from: 0 }, Held]);
    assert_eq!(
        (
            held(),
            picker.counted("kv_cache_events_pool_queue_depth", &[])
        ),
        (0, 2)
    );
    replay(&picker.events, publisher.id, 0..8);
    assert_eq!(held(), 8);
    // What the replay brought comes again as it was published.
    assert_eq!(deliver(&publisher, [7, 8]), [Ignored, Applied]);
    assert_eq!(picker.events.replay_ended(publisher.id, true), Applied);
    assert_eq!((held(), deliver(&publisher, [9])), (9, vec![Applied]));
    assert_eq!(held(), 10);
    assert_eq!(picker.counted("kv_events_gaps_total", &[]), 0);
    assert_eq!(picker.counted("kv_events_replays_total", &["complete"]), 1);

    // One that cannot replay: there is nothing to drop, and what came stays.
    let other = picker.open(1, 0, Engine::Vllm);
    assert_eq!(
        deliver(&other, [0, 5, 6]),
        [Applied, Replay { from: 0 }, Held]
    );
    assert_eq!(picker.events.replay_ended(other.id, false), Applied);
    let third = picker.open(2, 0, Engine::Vllm);
    assert_eq!(third.deliver(3, &payload(0)), Replay { from: 0 });
    assert_eq!(picker.events.replay_ended(third.id, false), Applied);
    assert_eq!(third.deliver(4, &payload(1)), Applied);
    assert_eq!(picker.blocks(2, &count(0, 400)), 2);
    assert_eq!(picker.counted("kv_events_dropped_total", &["hole"]), 1);
}

#[test]
fn an_idle_engine_is_known_from_its_replay() {
    let picker = Picker::new();
    let publisher = picker.open(0, 0, Engine::Vllm);
    assert_eq!(picker.events.join(publisher.id), Replay { from: 0 });
    assert_eq!(picker.events.join(publisher.id), Held);
    replay(&picker.events, publisher.id, 0..3);
    assert_eq!(picker.events.replay_ended(publisher.id, true), Applied);
    assert!(picker.events.knows(0));
    assert_eq!(picker.blocks(0, &count(0, 400)), 3);
    picker.events.connected(publisher.id, false);
    assert!(!picker.events.knows(0));
    picker.events.connected(publisher.id, true);
    assert!(picker.events.knows(0));
    // Nothing has been said at all: known to be empty.
    let silent = picker.open(1, 0, Engine::Vllm);
    picker.events.join(silent.id);
    picker.events.replay_ended(silent.id, false);
    assert!(!picker.events.knows(1));
    picker.events.join(silent.id);
    picker.events.replay_ended(silent.id, true);
    assert!(picker.events.knows(1));
}

#[test]
fn gaps_are_healed_by_a_replay_or_by_late_messages_and_else_cost_the_entries() {
    let picker = Picker::new();
    let publisher = picker.open(0, 0, Engine::Vllm);
    let held = || picker.blocks(0, &count(0, 400));
    deliver(&publisher, 0..3);
    // From one earlier: it tells whether the process is the same.
    assert_eq!(deliver(&publisher, [5, 7]), [Replay { from: 2 }, Held]);
    replay(&picker.events, publisher.id, 2..5);
    assert_eq!((held(), deliver(&publisher, [6])), (6, vec![Applied]));
    assert_eq!(
        (held(), picker.events.replay_ended(publisher.id, true)),
        (8, Applied)
    );

    // The publisher has kept too little: block 11 is there, and what it continues is not.
    assert_eq!(deliver(&publisher, [12]), [Replay { from: 7 }]);
    replay(&picker.events, publisher.id, [11]);
    picker.events.replay_ended(publisher.id, true);
    assert_eq!(held(), 0);
    assert_eq!(
        picker.counted(
            "kv_cache_events_stores_skipped_total",
            &["unknown", "unknown_parent"]
        ),
        2
    );
    // From there on it counts anew.
    assert_eq!(publisher.deliver(13, &payload(0)), Applied);
    assert_eq!(held(), 1);

    // No replay: the newest unbroken run is what remains.
    for (number, store) in [(15, 7), (20, 0), (21, 1)] {
        publisher.deliver(number, &payload(store));
    }
    picker.events.replay_ended(publisher.id, false);
    assert_eq!((held(), publisher.deliver(22, &payload(2))), (2, Applied));
    assert_eq!(held(), 3);
    assert_eq!(picker.counted("kv_events_gaps_total", &[]), 3);
    assert_eq!(picker.counted("kv_events_dropped_total", &["hole"]), 2);
    assert_eq!(picker.counted("kv_events_dropped_total", &["message"]), 1);
}

#[test]
fn a_repeated_message_changes_nothing_and_a_restart_everything() {
    let picker = Picker::new();
    let publisher = picker.open(0, 0, Engine::Vllm);
    let held = || picker.blocks(0, &count(0, 400));
    deliver(&publisher, 0..6);
    assert_eq!(deliver(&publisher, [5, 0, 3]), [Ignored; 3]);
    assert_eq!(held(), 6);
    // Another process: other contents under a number that was there.
    let anew = batch(vec![stored_map(&[100], None, &count(0, 8), 8, vec![])]);
    assert_eq!(publisher.deliver(0, &anew), Applied);
    assert_eq!(held(), 1);
    // One of which the beginning was missed.
    let later = batch(vec![stored_map(&[200], None, &count(0, 4), 4, vec![])]);
    for number in 1..20 {
        publisher.deliver(number, &batch(vec![]));
    }
    assert_eq!(publisher.deliver(4, &later), Replay { from: 0 });
    assert_eq!(held(), 0);
    replay(&picker.events, publisher.id, 0..4);
    assert_eq!(
        (held(), picker.events.replay_ended(publisher.id, true)),
        (4, Applied)
    );
    assert_eq!(picker.counted("kv_events_restarts_total", &[]), 2);
}

#[test]
fn another_process_after_a_lost_connection_is_found_out_although_its_numbers_fit() {
    let picker = Picker::new();
    let publisher = picker.open(0, 0, Engine::Vllm);
    deliver(&publisher, 0..5);
    picker.events.connected(publisher.id, false);
    picker.events.connected(publisher.id, true);
    let other = |number: u64| {
        batch(vec![stored_map(
            &[number + 500],
            None,
            &count(0, 4),
            4,
            vec![],
        )])
    };
    assert_eq!(publisher.deliver(5, &other(5)), Replay { from: 4 });
    picker
        .events
        .replayed(publisher.id, &4_u64.to_be_bytes(), &other(4));
    picker
        .events
        .replayed(publisher.id, &5_u64.to_be_bytes(), &other(5));
    assert_eq!(picker.blocks(0, &count(0, 400)), 0);
    assert_eq!(
        picker.events.replay_ended(publisher.id, true),
        Replay { from: 0 }
    );
    for number in 0..6 {
        picker
            .events
            .replayed(publisher.id, &u64::to_be_bytes(number), &other(number));
    }
    assert_eq!(picker.events.replay_ended(publisher.id, true), Applied);
    assert_eq!(picker.blocks(0, &count(0, 400)), 1);
    // The same process: nothing is lost.
    picker.events.connected(publisher.id, false);
    picker.events.connected(publisher.id, true);
    assert_eq!(publisher.deliver(6, &other(6)), Replay { from: 5 });
    picker
        .events
        .replayed(publisher.id, &5_u64.to_be_bytes(), &other(5));
    assert_eq!(picker.events.replay_ended(publisher.id, true), Applied);
    assert_eq!(picker.blocks(0, &count(0, 400)), 1);
    // Asked at once instead: what comes next needs no second answer.
    picker.events.connected(publisher.id, false);
    picker.events.connected(publisher.id, true);
    assert_eq!(picker.events.join(publisher.id), Replay { from: 6 });
    picker
        .events
        .replayed(publisher.id, &6_u64.to_be_bytes(), &other(6));
    assert_eq!(picker.events.replay_ended(publisher.id, true), Applied);
    assert_eq!(publisher.deliver(7, &other(7)), Applied);
    assert_eq!(picker.blocks(0, &count(0, 400)), 1);
    assert_eq!(picker.counted("kv_events_restarts_total", &[]), 1);
}

/// Nobody can tell whether it is the same process: one that has said little loses that, one that has said much cannot have been replaced unseen.
#[test]
fn without_a_replay_a_number_that_fits_is_believed_only_of_a_publisher_that_has_said_much() {
    for (said, believed) in [(5, false), (1023, false), (1024, true)] {
        let picker = Picker::new();
        let publisher = picker.open(0, 0, Engine::Vllm);
        deliver(&publisher, 0..5);
        for number in 5..said {
            publisher.deliver(number, &batch(vec![]));
        }
        picker.events.connected(publisher.id, false);
        picker.events.connected(publisher.id, true);
        let anew = batch(vec![stored_map(&[500], None, &count(900, 4), 4, vec![])]);
        assert_eq!(
            publisher.deliver(said, &anew),
            Replay { from: said - 1 },
            "{said}"
        );
        assert_eq!(picker.events.replay_ended(publisher.id, false), Applied);
        let held = [count(0, 400), count(900, 4)].map(|prompt| picker.blocks(0, &prompt));
        assert_eq!(held, [if believed { 5 } else { 0 }, 1], "{said}");
        let restarts = picker.counted("kv_events_restarts_total", &[]);
        assert_eq!(restarts, u64::from(!believed), "{said}");
        // Once settled, it goes on as before.
        assert_eq!(publisher.deliver(said + 1, &batch(vec![])), Applied);
    }
}

#[test]
fn process_that_has_not_even_what_came_last_is_another_one() {
    for live in [false, true] {
        let picker = Picker::new();
        let publisher = picker.open(0, 0, Engine::Vllm);
        deliver(&publisher, 0..5);
        picker.events.connected(publisher.id, false);
        picker.events.connected(publisher.id, true);
        let first = if live {
            publisher.deliver(5, &payload(5))
        } else {
            picker.events.join(publisher.id)
        };
        assert_eq!(first, Replay { from: 4 });
        let ended = picker.events.replay_ended(publisher.id, true);
        assert_eq!(ended, Replay { from: 0 }, "live: {live}");
        assert_eq!(picker.blocks(0, &count(0, 400)), 0, "live: {live}");
        // What it has sent before anybody was connected.
        replay(&picker.events, publisher.id, 0..2);
        picker.events.replay_ended(publisher.id, true);
        if !live {
            assert_eq!(picker.blocks(0, &count(0, 400)), 2);
            assert_eq!(deliver(&publisher, [2]), [Applied]);
        }
        assert_eq!(picker.counted("kv_events_restarts_total", &[]), 1);
    }
}
