//! One replica: vLLM V1's scheduler and prefix cache in simulated time.

use crate::hardware::Hardware;

/// A request as it reaches a replica.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Names it in what is observed.
    pub id: u32,
    /// Tokens; at least 1.
    pub prompt_tokens: u32,
    /// Tokens of the answer; at least 1.
    pub output_tokens: u32,
    /// Ids of its prompt's blocks of `unit_tokens` each, the last one may be partial. An id names a block and everything before it.
    pub blocks: &'a [u64],
    /// Adapter; 0: none.
    pub lora: u16,
}

/// What a replica did at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observed {
    /// A request's first token left.
    FirstToken {
        /// The request.
        id: u32,
        /// Prompt tokens that were in the cache when it was admitted.
        cached_tokens: u32,
    },
    /// A request's last token left.
    Finished {
        /// The request.
        id: u32,
    },
}

/// What the replica's metrics page would say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaMetrics {
    /// Requests waiting.
    pub waiting: u32,
    /// Requests running.
    pub running: u32,
    /// Share of the KV cache that running requests use, 0 to 1.
    pub kv_usage: f64,
    /// First tokens so far.
    pub first_tokens: u64,
    /// Seconds from arrival to first token, summed.
    pub first_token_seconds: f64,
    /// Gaps between two tokens of a request so far.
    pub token_gaps: u64,
    /// Their seconds together.
    pub token_gap_seconds: f64,
    /// Output tokens so far.
    pub output_tokens: u64,
    /// Requests finished so far.
    pub finished_requests: u64,
    /// Prompt tokens looked up in the cache so far.
    pub queried_tokens: u64,
    /// Those of them that it had.
    pub cached_tokens: u64,
    /// Requests put back into the queue because the cache was full.
    pub preemptions: u64,
    /// Adapters of running requests, ascending.
    pub running_loras: Vec<u16>,
    /// Adapters of requests that only wait, ascending.
    pub waiting_loras: Vec<u16>,
}

/// A replica. Time is seconds since the simulation began and never goes back.
#[derive(Debug)]
pub struct Replica {
    hardware: Hardware,
    unit_tokens: u32,
}

impl Replica {
    /// An idle replica with an empty cache, for traces whose block ids stand for `unit_tokens` tokens each.
    pub fn new(hardware: Hardware, unit_tokens: u32) -> Self {
        Self {
            hardware,
            unit_tokens,
        }
    }

    /// Queues a request. Everything before `now` must have been advanced over.
    pub fn add(&mut self, _arrival: Arrival<'_>, _now: f64) {
        let _ = (self.hardware, self.unit_tokens);
        unimplemented!("the replica's author writes this")
    }

    /// When it will next have something to observe if nothing arrives before; infinite when it is idle.
    pub fn next_event(&self) -> f64 {
        unimplemented!("the replica's author writes this")
    }

    /// Lets time pass to `until`, included; appends what happened, in order of time.
    pub fn advance(&mut self, _until: f64, _observed: &mut Vec<(f64, Observed)>) {
        unimplemented!("the replica's author writes this")
    }

    /// The metrics page now, that is at the time last advanced to.
    pub fn metrics(&self) -> ReplicaMetrics {
        unimplemented!("the replica's author writes this")
    }
}
