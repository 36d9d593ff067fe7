//! Properties of the replica under any arrivals.

use proptest::prelude::*;

use super::{Arrival, Observed, Replica, ReplicaMetrics, RequestError};
use crate::hardware::{CostModel, Hardware, HardwareError};

const H100: CostModel = CostModel {
    step: 7e-3,
    prefill_token: 31.5e-6,
    decode_sequence: 20e-6,
    decode_kv_token: 48e-9,
    prefill_context: 1e-9,
};
/// Steps of a quarter of a second: arrivals can fall on their ends.
const BEAT: CostModel = CostModel {
    step: 0.25,
    prefill_token: 0.0,
    decode_sequence: 0.0,
    decode_kv_token: 0.0,
    prefill_context: 0.0,
};
const INSTANT: CostModel = CostModel { step: 0.0, ..BEAT };

#[derive(Clone, Debug)]
struct Asked {
    after: f64,
    prompt: u32,
    output: u32,
    blocks: Vec<u64>,
    lora: u16,
}

impl Asked {
    fn arrival(&self, id: usize) -> Arrival<'_> {
        Arrival {
            id: id as u32,
            prompt_tokens: self.prompt,
            output_tokens: self.output,
            blocks: &self.blocks,
            lora: self.lora,
        }
    }
}

fn hardware() -> impl Strategy<Value = Hardware> {
    (
        prop_oneof![Just(H100), Just(BEAT), Just(INSTANT)],
        26..200_u32,
        1..20_u32,
        prop_oneof![Just(5), Just(24), Just(8192_u32)],
        0..3_u32,
    )
        .prop_map(
            |(cost, num_gpu_blocks, max_num_seqs, max_num_batched_tokens, max_loras)| Hardware {
                cost,
                num_gpu_blocks,
                block_size: 4,
                max_num_seqs,
                max_num_batched_tokens,
                max_loras,
            },
        )
}

/// Requests of at most 80 tokens: prefixes of five families, a rest of their own, quarters of a second apart or anything.
fn asked(unit: u32) -> impl Strategy<Value = Vec<Asked>> {
    let request = (
        prop_oneof![
            Just(0.0),
            (0..4_u8).prop_map(|quarters| f64::from(quarters) / 4.0),
            0.0..0.5
        ],
        0..5_u64,
        0..=(40 / unit).max(1),
        1..10_u32,
        1..30_u32,
        0..4_u16,
    );
    proptest::collection::vec(request, 1..60).prop_map(move |requests| {
        requests
            .into_iter()
            .enumerate()
            .map(|(id, (after, prefix, shared, rest, output, lora))| {
                let prompt = (shared * unit + rest).min(49);
                // Behind the prefix come blocks of its own.
                let block = |index| {
                    if index < u64::from(shared) {
                        prefix * 100 + index
                    } else {
                        1_000_000 + 1000 * id as u64 + index
                    }
                };
                Asked {
                    after,
                    prompt,
                    output,
                    blocks: (0..u64::from(prompt / unit)).map(block).collect(),
                    lora,
                }
            })
            .collect()
    })
}

fn pool() -> impl Strategy<Value = (Hardware, u32, Vec<Asked>)> {
    (hardware(), prop_oneof![Just(4_u32), Just(12), Just(20)]).prop_flat_map(|(hardware, unit)| {
        asked(unit).prop_map(move |asked| (hardware, unit, asked))
    })
}

fn assert_consistent(replica: &Replica) {
    // Blocks of decoding steps that were passed over are taken when the stage ends.
    let unnamed = replica
        .running
        .iter()
        .map(|running| {
            let sequence = &replica.sequences[running.slot as usize];
            running.blocks
                - sequence.units.len() as u32 * replica.unit_blocks
                - sequence.own.len() as u32
        })
        .sum();
    replica.cache.assert_consistent(unnamed);
    for &slot in &replica.waiting {
        let sequence = &replica.sequences[slot as usize];
        assert!(
            sequence.units.is_empty() && sequence.own.is_empty(),
            "what waits holds nothing"
        );
    }
    assert_eq!(
        replica.running.len() + replica.waiting.len() + replica.spare.len(),
        replica.sequences.len()
    );
}

/// Runs all to the end; `pieces`: in how many steps the time between two arrivals passes.
fn run(
    hardware: Hardware,
    unit: u32,
    asked: &[Asked],
    pieces: u32,
) -> (Vec<(f64, Observed)>, Vec<ReplicaMetrics>) {
    let mut replica = Replica::new(hardware, unit).expect("sizes are fine");
    let mut observed = Vec::new();
    let mut pages = Vec::new();
    let mut now = 0.0;
    for (id, request) in asked.iter().enumerate() {
        let next = now + request.after;
        for piece in 1..pieces {
            let time = now + (next - now) * f64::from(piece) / f64::from(pieces);
            replica.advance(time, &mut observed);
        }
        replica.advance(next, &mut observed);
        now = next;
        pages.push(replica.metrics());
        replica.add(request.arrival(id), now).expect("it fits");
        assert_consistent(&replica);
    }
    if pieces == 1 {
        replica.advance(f64::MAX, &mut observed);
    } else {
        while replica.next_event().is_finite() {
            now = f64::midpoint(now, replica.next_event()).max(now);
            replica.advance(now, &mut observed);
            replica.advance(replica.next_event(), &mut observed);
        }
    }
    assert_consistent(&replica);
    pages.push(replica.metrics());
    (observed, pages)
}

proptest! {
    #[test]
    fn passing_time_in_pieces_changes_nothing((hardware, unit, asked) in pool()) {
        let at_once = run(hardware, unit, &asked, 1);
        prop_assert_eq!(&at_once, &run(hardware, unit, &asked, 7));
        prop_assert_eq!(&at_once, &run(hardware, unit, &asked, 1), "deterministic");
    }

    #[test]
    fn every_request_is_served_once((hardware, unit, asked) in pool()) {
        let (observed, pages) = run(hardware, unit, &asked, 1);
        let mut first = vec![None; asked.len()];
        let mut finished = vec![None; asked.len()];
        let mut before = 0.0;
        for (at, what) in observed {
            prop_assert!(at >= before, "in order of time");
            before = at;
            let (list, id) = match what {
                Observed::FirstToken { id, cached_tokens } => {
                    prop_assert!(cached_tokens < asked[id as usize].prompt, "the last token is computed");
                    prop_assert_eq!(cached_tokens % unit, 0, "whole units");
                    (&mut first, id)
                }
                Observed::Finished { id } => (&mut finished, id),
            };
            prop_assert!(list[id as usize].replace(at).is_none());
        }
        let mut now = 0.0;
        let mut waited = 0.0;
        for (id, request) in asked.iter().enumerate() {
            now += request.after;
            let (first, finished) = (first[id].expect("a first token"), finished[id].expect("an end"));
            prop_assert!(now <= first && first <= finished);
            waited += first - now;
        }
        let last = pages.last().expect("the last page");
        prop_assert_eq!((last.waiting, last.running, last.kv_usage), (0, 0, 0.0));
        prop_assert!(last.running_loras.is_empty() && last.waiting_loras.is_empty());
        let number = asked.len() as u64;
        let tokens: u64 = asked.iter().map(|request| u64::from(request.output)).sum();
        prop_assert_eq!((last.first_tokens, last.finished_requests), (number, number));
        prop_assert_eq!((last.output_tokens, last.token_gaps), (tokens, tokens - number));
        prop_assert!((last.first_token_seconds - waited).abs() < 1e-9);
        for pair in pages.windows(2) {
            prop_assert!(pair[0].kv_usage <= 1.0);
            prop_assert!(pair[0].running <= hardware.max_num_seqs);
            prop_assert!(pair[0].output_tokens <= pair[1].output_tokens);
            prop_assert!(pair[0].token_gap_seconds <= pair[1].token_gap_seconds + 1e-9);
        }
        if hardware.max_loras > 0 {
            prop_assert!(pages.iter().all(|page| page.running_loras.len() <= hardware.max_loras as usize));
        }
    }

    #[test]
    fn nothing_is_observed_before_the_next_event((hardware, unit, asked) in pool()) {
        let mut replica = Replica::new(hardware, unit).expect("sizes are fine");
        let mut observed = Vec::new();
        let mut now = 0.0;
        let mut asked = asked.iter().enumerate().peekable();
        loop {
            let next = replica.next_event();
            let arrives = asked.peek().map_or(f64::INFINITY, |(_, request)| now + request.after);
            if next.is_infinite() && arrives.is_infinite() {
                break;
            }
            prop_assert!(next >= now);
            if arrives < next {
                replica.advance(arrives, &mut observed);
                prop_assert!(observed.is_empty());
                now = arrives;
            } else {
                let exact = replica.stage.as_ref().is_some_and(|stage| {
                    let first = replica.running.iter().map(|running| running.end - running.length).min();
                    stage.decodes && Some(stage.limit) == first
                });
                if next > now {
                    replica.advance(f64::midpoint(now, next), &mut observed);
                    prop_assert!(observed.is_empty());
                }
                replica.advance(next, &mut observed);
                prop_assert!(observed.iter().all(|&(at, _)| at.total_cmp(&next).is_eq()));
                prop_assert!(!exact || !observed.is_empty(), "an end was foretold");
                observed.clear();
                // What arrives from here on counts from this event, so that some arrive at the very time of one.
                now = next;
                continue;
            }
            let (id, request) = asked.next().expect("it was there");
            replica.add(request.arrival(id), now).expect("it fits");
        }
    }
}

fn plain() -> Hardware {
    Hardware {
        cost: H100,
        num_gpu_blocks: 1001,
        block_size: 16,
        max_num_seqs: 256,
        max_num_batched_tokens: 8192,
        max_loras: 0,
    }
}

/// Cached tokens of one request after the other, all in time for the next to find what they leave.
fn cached(hardware: Hardware, unit: u32, requests: &[(u32, &[u64])]) -> Vec<u32> {
    let mut replica = Replica::new(hardware, unit).expect("sizes are fine");
    let mut observed = Vec::new();
    for (id, &(prompt_tokens, blocks)) in requests.iter().enumerate() {
        let arrival = Arrival {
            id: id as u32,
            prompt_tokens,
            output_tokens: 2,
            blocks,
            lora: 0,
        };
        replica.add(arrival, id as f64 * 100.0).expect("it fits");
        replica.advance(id as f64 * 100.0 + 99.0, &mut observed);
        assert_consistent(&replica);
    }
    observed
        .iter()
        .filter_map(|(_, what)| match what {
            Observed::FirstToken { cached_tokens, .. } => Some(*cached_tokens),
            Observed::Finished { .. } => None,
        })
        .collect()
}

#[test]
fn units_larger_than_blocks_are_shared_whole() {
    // 512 and 512 and a rest; the same; the last token is computed, so a prompt of two units finds one; another second unit.
    let requests: [(u32, &[u64]); 5] = [
        (1100, &[1, 2, 3]),
        (1100, &[1, 2, 3]),
        (1024, &[1, 2]),
        (1025, &[1, 2, 9]),
        (1100, &[1, 7, 8]),
    ];
    assert_eq!(cached(plain(), 512, &requests), [0, 1024, 512, 1024, 512]);
}

#[test]
fn a_unit_that_loses_a_block_is_lost() {
    // Room for 100 KV blocks. The first request's units take 32 each, its rest and answer 5; the second needs 36 blocks:
    // 31 are empty, 5 come from the first one's rest. The third needs one block more than that, so the first one's second unit goes.
    let small = Hardware {
        num_gpu_blocks: 101,
        ..plain()
    };
    let keeps: [(u32, &[u64]); 3] = [(1100, &[1, 2]), (560, &[5]), (1030, &[1, 2])];
    assert_eq!(cached(small, 512, &keeps), [0, 0, 1024]);
    let loses: [(u32, &[u64]); 3] = [(1100, &[1, 2]), (580, &[5]), (1030, &[1, 2])];
    assert_eq!(cached(small, 512, &loses), [0, 0, 512]);
}

#[test]
fn adapters_do_not_share() {
    let mut replica = Replica::new(plain(), 16).expect("sizes are fine");
    let mut observed = Vec::new();
    for (id, lora) in [0, 1, 1, 0].into_iter().enumerate() {
        let arrival = Arrival {
            id: id as u32,
            prompt_tokens: 100,
            output_tokens: 1,
            blocks: &[1, 2, 3, 4, 5, 6],
            lora,
        };
        replica.add(arrival, id as f64).expect("it fits");
        replica.advance(id as f64 + 0.9, &mut observed);
    }
    let metrics = replica.metrics();
    assert_eq!((metrics.queried_tokens, metrics.cached_tokens), (400, 192));
}

#[test]
fn hardware_that_cannot_run_is_refused() {
    for (hardware, unit, part) in [
        (
            Hardware {
                num_gpu_blocks: 1,
                ..plain()
            },
            16,
            "num_gpu_blocks is 1",
        ),
        (
            Hardware {
                block_size: 0,
                ..plain()
            },
            16,
            "block_size is 0",
        ),
        (
            Hardware {
                max_num_seqs: 0,
                ..plain()
            },
            16,
            "max_num_seqs is 0",
        ),
        (
            Hardware {
                max_num_batched_tokens: 0,
                ..plain()
            },
            16,
            "max_num_batched_tokens is 0",
        ),
        (
            Hardware {
                cost: CostModel { step: -1.0, ..H100 },
                ..plain()
            },
            16,
            "cost.step is -1",
        ),
        (
            Hardware {
                cost: CostModel {
                    prefill_context: f64::NAN,
                    ..H100
                },
                ..plain()
            },
            16,
            "cost.prefill_context is NaN",
        ),
        (plain(), 8, "stand for 8 tokens"),
        (plain(), 24, "stand for 24 tokens"),
    ] {
        let error: HardwareError = Replica::new(hardware, unit).expect_err("it cannot run");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn requests_that_can_never_be_served_are_refused() {
    let mut replica = Replica::new(plain(), 16).expect("sizes are fine");
    let arrival = |prompt_tokens, output_tokens| Arrival {
        id: 7,
        prompt_tokens,
        output_tokens,
        blocks: &[1, 2],
        lora: 0,
    };
    for (arrival, error) in [
        (arrival(0, 1), RequestError::Empty { id: 7 }),
        (arrival(1, 0), RequestError::Empty { id: 7 }),
        (
            arrival(16, 15_985),
            RequestError::TooLong {
                id: 7,
                tokens: 16_001,
                capacity: 16_000,
            },
        ),
        (
            arrival(u32::MAX, u32::MAX),
            RequestError::TooLong {
                id: 7,
                tokens: 8_589_934_590,
                capacity: 16_000,
            },
        ),
        (
            arrival(48, 1),
            RequestError::BlocksMissing {
                id: 7,
                blocks: 2,
                full: 3,
            },
        ),
    ] {
        assert_eq!(replica.add(arrival, 0.0), Err(error));
        assert!(error.to_string().starts_with("request 7: "));
    }
    assert!(replica.next_event().is_infinite());
    replica.add(arrival(47, 15_953), 0.0).expect("it just fits");
}
