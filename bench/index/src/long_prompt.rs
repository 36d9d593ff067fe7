//! One prompt of 240,000 tokens before 96 workers, from token ids on: hashing is part of it.

use fastrand::Rng;
use serde::Serialize;

use crate::subject::Subject;
use crate::timing::{Times, elapsed};
use crate::workload::{Arena, Block, Change, Event, engine_hash};

const TOKENS: usize = 240_000;
const WORKERS: u32 = 96;
const VOCABULARY: u32 = 128_256;
const REPETITIONS: usize = 200;

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct LongPrompt {
    /// Tokens of a block.
    pub block_tokens: usize,
    /// Blocks of the prompt.
    pub blocks: usize,
    /// Whether worker `n` of 96 holds only the first `n` 96ths; otherwise each holds all of it.
    pub spread: bool,
    /// From token ids to every worker's depth.
    pub times: Times,
}

/// Both block sizes, held whole and held to different depths; nothing where the index's crate has no hash of token ids that the bench uses.
///
/// # Panics
///
/// When an answer does not name every holder.
pub fn run<S: Subject>(seed: u64) -> Vec<LongPrompt> {
    let mut rng = Rng::with_seed(seed);
    let tokens: Vec<u32> = (0..TOKENS).map(|_| rng.u32(..VOCABULARY)).collect();
    let mut contents = Vec::new();
    let mut cases = Vec::new();
    for (size, spread) in [(16, false), (16, true), (64, false), (64, true)] {
        if !S::hash_tokens(&tokens, size, &mut contents) {
            break;
        }
        let (subject, mut writer) = S::create(WORKERS);
        let (arena, events) = held(&contents, spread);
        subject.apply(
            &mut writer,
            events
                .iter()
                .map(|event| S::prepare(&arena, event))
                .collect(),
        );
        let mut asked = S::Asked::default();
        let times = (0..REPETITIONS).map(|_| {
            elapsed(|| {
                let holders = subject.answer_tokens(&tokens, size, &mut asked);
                assert_eq!(
                    holders, WORKERS as usize,
                    "every worker holds the first block"
                );
            })
        });
        let times = Times::of(times.collect());
        cases.push(LongPrompt {
            block_tokens: size,
            blocks: contents.len(),
            spread,
            times,
        });
    }
    cases
}

fn held(contents: &[u64], spread: bool) -> (Arena, Vec<Event>) {
    let mut last = None;
    let chain = contents.iter().map(|&content| {
        let engine = engine_hash(last, content);
        last = Some(engine);
        Block { engine, content }
    });
    let arena = Arena {
        blocks: chain.collect(),
        removals: Vec::new(),
    };
    let depth = |worker: u32| {
        if spread {
            contents.len() * (worker as usize + 1) / WORKERS as usize
        } else {
            contents.len()
        }
    };
    let events = (0..WORKERS).map(|worker| Event {
        worker,
        change: Change::Store {
            parent: None,
            blocks: 0..depth(worker),
        },
    });
    (arena, events.collect())
}
