//! What a process reports: raw figures, of which the page makes rates and ratios.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::beside::Beside;
use crate::long_prompt::LongPrompt;
use crate::timing::Times;
use crate::verify::Wrong;

/// The figures of one process.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The index.
    pub subject: &'static str,
    /// What timing adds to each single call.
    pub clock: Times,
    /// Of 4,096 workers that all hold one sequence, how many an answer names.
    pub named_of_4096: usize,
    /// Workload A.
    pub a: SharedPrefixes,
    /// Workload B.
    pub b: SingleHolders,
    /// Workload C, when there is a trace.
    pub c: Option<Conversations>,
    /// The prompt of 240,000 tokens, where it is measured.
    pub long_prompt: Vec<LongPrompt>,
}

/// Figures of a load from empty.
#[derive(Debug, Serialize)]
pub struct Loaded {
    /// Pairs of block and holder.
    pub pairs: usize,
    /// Different blocks.
    pub distinct: usize,
    /// Events of the load.
    pub events: usize,
    /// Heap bytes of the index, by the counting allocator.
    pub heap_bytes: isize,
    /// By how much the process's resident memory grew meanwhile: the allocator's own share is in it.
    pub resident_bytes: isize,
    /// What the index itself says.
    pub gauge_bytes: Option<usize>,
    /// CPU time of the load.
    pub cpu_s: f64,
}

/// Figures of removing and storing.
#[derive(Debug, Serialize)]
pub struct Churned {
    /// Blocks removed and stored.
    pub blocks: usize,
    /// CPU time of that.
    pub cpu_s: f64,
    /// Growth of the heap.
    pub growth_bytes: isize,
    /// The same after the upkeep that the index wants.
    pub growth_after_upkeep_bytes: Option<isize>,
    /// CPU time of one upkeep.
    pub upkeep_cpu_s: Option<f64>,
}

/// Workload A.
#[derive(Debug, Serialize)]
pub struct SharedPrefixes {
    /// Load.
    pub loaded: Loaded,
    /// By kind.
    pub queries: BTreeMap<&'static str, Times>,
    /// Store and remove.
    pub churned: Churned,
    /// Reader and writer at once.
    pub beside: Beside,
    /// CPU seconds of clearing one worker, each.
    pub clear_cpu_s: Vec<f64>,
    /// Answers compared with the oracle's, when asked for.
    pub wrong: BTreeMap<&'static str, Wrong>,
}

/// Workload B.
#[derive(Debug, Serialize)]
pub struct SingleHolders {
    /// Load.
    pub loaded: Loaded,
    /// By kind.
    pub queries: BTreeMap<&'static str, Times>,
    /// Store and remove.
    pub churned: Churned,
}

/// Workload C.
#[derive(Debug, Serialize)]
pub struct Conversations {
    /// Requests of the trace, each asked right before what it changes.
    pub queries: Times,
    /// Blocks stored and removed.
    pub blocks: usize,
    /// CPU time of that, by itself.
    pub cpu_s: f64,
}
