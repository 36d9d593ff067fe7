//! How many requests a second one core simulates, replicas alone (Linux only: it counts this thread's time on a core). Run by hand:
//!
//! `cargo test --release -p warmroute-replay --test replica_speed -- --ignored --nocapture`

use warmroute_replay::{Arrival, CostModel, Hardware, Observed, Replica};

const UNIT: u32 = 64;
const SEED: u64 = 6;

/// One H100 with an 8B model, as `warmroute.sim.cost` has it.
const H100: Hardware = Hardware {
    cost: CostModel {
        step: 7e-3,
        prefill_token: 31.5e-6,
        decode_sequence: 20e-6,
        decode_kv_token: 48e-9,
        prefill_context: 1e-9,
    },
    num_gpu_blocks: 27_000,
    block_size: 16,
    max_num_seqs: 256,
    max_num_batched_tokens: 8192,
    max_loras: 0,
};

struct Mix {
    name: &'static str,
    requests: u32,
    /// Replicas, each with its own arrivals.
    replicas: usize,
    /// Requests a second for each.
    rate: f64,
    /// Turns of a session; 1: no reuse.
    turns: u32,
    /// Tokens of the first turn, and that each turn adds, at most.
    prompt: u32,
    output: u32,
    hardware: Hardware,
}

/// A conversation: its blocks are its own from the system prompt on.
#[derive(Clone)]
struct Session {
    number: u64,
    turn: u32,
    tokens: u32,
}

/// Seconds that this thread has spent on a core: other programs do not count.
fn core_seconds() -> f64 {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let nanoseconds = line.split(' ').next().expect("the first of three numbers");
    nanoseconds.parse::<f64>().expect("a number") / 1e9
}

fn measure(mix: &Mix) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut replicas: Vec<Replica> = (0..mix.replicas)
        .map(|_| Replica::new(mix.hardware, UNIT).expect("sizes are fine"))
        .collect();
    let fresh = Session {
        number: 0,
        turn: u32::MAX,
        tokens: 0,
    };
    let mut sessions = vec![vec![fresh; 40]; mix.replicas];
    let mut blocks = Vec::new();
    let mut observed: Vec<(f64, Observed)> = Vec::new();
    let (mut now, mut prompt_tokens, mut counted) = (0.0, 0_u64, 0_u64);
    let began = core_seconds();
    for id in 0..mix.requests {
        now -= (1.0 - random.f64()).ln() / (mix.rate * mix.replicas as f64);
        let index = random.usize(..mix.replicas);
        let session = random.usize(..40);
        let session = &mut sessions[index][session];
        session.turn = session.turn.saturating_add(1);
        if session.turn >= mix.turns {
            *session = Session {
                number: u64::from(id) + 1,
                turn: 0,
                tokens: 0,
            };
        }
        session.tokens += random.u32(mix.prompt / 4..mix.prompt);
        blocks.clear();
        blocks
            .extend((0..u64::from(session.tokens / UNIT)).map(|unit| session.number << 12 | unit));
        let arrival = Arrival {
            id,
            prompt_tokens: session.tokens,
            output_tokens: random.u32(1..mix.output * 2),
            blocks: &blocks,
            lora: 0,
        };
        let replica = &mut replicas[index];
        // As a driver does: from one event to the next.
        while replica.next_event() <= now {
            replica.advance(replica.next_event(), &mut observed);
        }
        replica.advance(now, &mut observed);
        replica.add(arrival, now).expect("it fits");
        prompt_tokens += u64::from(session.tokens);
        counted += observed.len() as u64;
        observed.clear();
    }
    let seconds = core_seconds() - began;
    let metrics: Vec<_> = replicas.iter().map(Replica::metrics).collect();
    let sum = |field: fn(&warmroute_replay::ReplicaMetrics) -> u64| {
        metrics.iter().map(field).sum::<u64>()
    };
    assert_eq!(
        counted,
        sum(|page| page.first_tokens + page.finished_requests)
    );
    println!(
        "{}: {:.0} requests/s, {:.2} us each ({} requests in {seconds:.2} s; {:.0} simulated seconds; mean prompt {:.0} tokens, {:.0} % cached; \
         in the end {} run and {} wait in {} replicas, {} preemptions, KV {:.2})",
        mix.name,
        f64::from(mix.requests) / seconds,
        seconds / f64::from(mix.requests) * 1e6,
        mix.requests,
        now,
        prompt_tokens as f64 / f64::from(mix.requests),
        100.0 * sum(|page| page.cached_tokens) as f64 / sum(|page| page.queried_tokens) as f64,
        sum(|page| page.running.into()),
        sum(|page| page.waiting.into()),
        mix.replicas,
        sum(|page| page.preemptions),
        metrics[0].kv_usage,
    );
}

#[test]
#[ignore = "measures; meant for a release build"]
fn speed_of_replicas() {
    let conversation = Mix {
        name: "conversation",
        requests: 1_000_000,
        replicas: 8,
        rate: 17.0,
        turns: 6,
        prompt: 700,
        output: 200,
        hardware: H100,
    };
    measure(&conversation);
    measure(&Mix {
        name: "conversation, 32 replicas",
        replicas: 32,
        ..conversation
    });
    measure(&Mix {
        name: "short",
        rate: 45.0,
        turns: 1,
        prompt: 352,
        output: 180,
        ..conversation
    });
    measure(&Mix {
        name: "conversation, full cache",
        rate: 16.0,
        requests: 200_000,
        hardware: Hardware {
            num_gpu_blocks: 4000,
            ..H100
        },
        ..conversation
    });
    measure(&Mix {
        name: "conversation, overloaded",
        rate: 30.0,
        requests: 200_000,
        ..conversation
    });
}
