//! One replica: vLLM V1's scheduler and prefix cache in simulated time.
//!
//! Does what `warmroute.sim.engine.SimulatedEngine` does, without its CPU tier and events, and some thousand times as fast: steps in
//! which every running sequence only decodes are passed over in closed form, up to the next end or the next shortage of blocks.

mod admission;
mod cache;
mod metrics;
mod sequence;
mod stage;
mod steps;
#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;
use std::fmt;

use crate::hardware::{Hardware, HardwareError};
use cache::BlockCache;
use sequence::{Running, Sequence};
use stage::Stage;

/// Longest prompt and answer together, in tokens, whatever the cache holds: leaves room for rounding up to blocks.
const LONGEST: u64 = 1 << 30;

/// A request as it reaches a replica.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Names it in what is observed.
    pub id: u32,
    /// Tokens; at least 1.
    pub prompt_tokens: u32,
    /// Tokens of the answer; at least 1.
    pub output_tokens: u32,
    /// Ids of its prompt's blocks of `unit_tokens` each, the last one may be partial (it is not looked at, nor need it be there). An id names
    /// a block and everything before it, under the adapter.
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
    /// Adapters of waiting requests, ascending; running requests may have them too.
    pub waiting_loras: Vec<u16>,
}

/// Why a replica refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// No prompt, or no answer asked for.
    Empty {
        /// The request.
        id: u32,
    },
    /// Prompt and answer together are more than the KV cache holds.
    TooLong {
        /// The request.
        id: u32,
        /// Tokens of prompt and answer.
        tokens: u64,
        /// Tokens that it could have.
        capacity: u64,
    },
    /// Fewer block ids than the prompt has full blocks.
    BlocksMissing {
        /// The request.
        id: u32,
        /// Ids that are there.
        blocks: usize,
        /// Full blocks of the prompt.
        full: usize,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { id } => write!(
                formatter,
                "request {id}: needs at least one prompt token and one output token"
            ),
            Self::TooLong {
                id,
                tokens,
                capacity,
            } => write!(
                formatter,
                "request {id}: {tokens} tokens of prompt and answer are more than the {capacity} that the replica's KV cache holds"
            ),
            Self::BlocksMissing { id, blocks, full } => write!(
                formatter,
                "request {id}: {blocks} block ids for a prompt of {full} full blocks"
            ),
        }
    }
}

impl std::error::Error for RequestError {}

/// A replica. Time is seconds since the simulation began and never goes back.
#[derive(Debug)]
pub struct Replica {
    hardware: Hardware,
    unit_tokens: u32,
    unit_blocks: u32,
    cache: BlockCache,
    sequences: Vec<Sequence>,
    spare: Vec<u32>,
    waiting: VecDeque<u32>,
    /// In the order of admission.
    running: Vec<Running>,
    /// The step that runs, and those like it that would follow; none: idle.
    stage: Option<Stage>,
    /// Counters, up to the beginning of the stage.
    counters: ReplicaMetrics,
    /// Requests with an adapter that wait or run.
    with_adapter: u32,
    /// Serials given to preempted sequences so far.
    serials: u32,
    /// Buffers that keep their memory.
    adapters: Vec<u16>,
    passed_over: Vec<u32>,
}

impl Replica {
    /// An idle replica with an empty cache, for traces whose block ids stand for `unit_tokens` tokens each.
    ///
    /// The cache shares whole units only. What is not a full unit of a prompt is counted in KV blocks of `hardware.block_size` tokens.
    ///
    /// # Errors
    /// Sizes or costs that no replica can run with, or units that are not whole KV blocks.
    pub fn new(hardware: Hardware, unit_tokens: u32) -> Result<Self, HardwareError> {
        hardware.check(unit_tokens)?;
        Ok(Self {
            hardware,
            unit_tokens,
            unit_blocks: unit_tokens / hardware.block_size,
            cache: BlockCache::new(hardware.num_gpu_blocks - 1),
            sequences: Vec::new(),
            spare: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            stage: None,
            counters: ReplicaMetrics::default(),
            with_adapter: 0,
            serials: 0,
            adapters: Vec::new(),
            passed_over: Vec::new(),
        })
    }

    /// Queues a request. Everything before `now` must have been advanced over.
    ///
    /// It is considered by the first step that begins at `now` or later, so requests that arrive together share a step.
    ///
    /// # Errors
    /// A request that this replica can never serve; nothing is queued.
    pub fn add(&mut self, arrival: Arrival<'_>, now: f64) -> Result<(), RequestError> {
        let full_units = self.check(&arrival)?;
        let slot = self.spare.pop().unwrap_or_else(|| {
            self.sequences.push(Sequence::default());
            self.sequences.len() as u32 - 1
        });
        self.sequences[slot as usize].reset(&arrival, full_units, now);
        self.with_adapter += u32::from(arrival.lora > 0);
        self.waiting.push_back(slot);
        self.consider_arrival(now);
        Ok(())
    }

    /// When to look again if nothing arrives before; infinite when it is idle. Nothing is observed before that time.
    ///
    /// While all that runs decodes, it is the time of the next end, exactly. Where a prompt is computed in several steps, a full cache
    /// preempts, or the queue could move, it is the end of the present step, at which there may be nothing to observe.
    pub fn next_event(&self) -> f64 {
        self.stage.as_ref().map_or(f64::INFINITY, Stage::end)
    }

    /// Lets time pass to `until`, included; appends what happened, in order of time.
    pub fn advance(&mut self, until: f64, observed: &mut Vec<(f64, Observed)>) {
        while let Some(stage) = &mut self.stage {
            let end = stage.end();
            if end > until {
                stage.pass(until);
                return;
            }
            self.close_stage(end, observed);
            self.begin_stage(end);
        }
    }

    fn check(&self, arrival: &Arrival<'_>) -> Result<usize, RequestError> {
        let id = arrival.id;
        if arrival.prompt_tokens == 0 || arrival.output_tokens == 0 {
            return Err(RequestError::Empty { id });
        }
        let tokens = u64::from(arrival.prompt_tokens) + u64::from(arrival.output_tokens);
        let capacity = self.hardware.capacity_tokens().min(LONGEST);
        if tokens > capacity {
            return Err(RequestError::TooLong {
                id,
                tokens,
                capacity,
            });
        }
        let full = (arrival.prompt_tokens / self.unit_tokens) as usize;
        if arrival.blocks.len() < full {
            return Err(RequestError::BlocksMissing {
                id,
                blocks: arrival.blocks.len(),
                full,
            });
        }
        Ok(full)
    }
}
