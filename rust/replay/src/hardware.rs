//! What a replica runs on: how long a step takes and how much it holds.

use serde::Deserialize;

/// Seconds that each part of a step costs: `a + b·prefill tokens + c·decoding sequences + d·KV tokens they read + e·Σ prefill tokens × context`.
///
/// The five-term model of the policy study, section 2; the same as `warmroute.sim.cost.CostModel`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// a: seconds a step costs whatever it does.
    pub step: f64,
    /// b: seconds per prompt token computed.
    pub prefill_token: f64,
    /// c: seconds per sequence that decodes one token.
    pub decode_sequence: f64,
    /// d: seconds per KV token read by decoding sequences.
    pub decode_kv_token: f64,
    /// e: seconds per (prompt token computed × token it attends to).
    pub prefill_context: f64,
}

/// One replica's engine: the sizes of `warmroute.sim.engine.EngineSettings`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// How long a step takes.
    pub cost: CostModel,
    /// KV blocks, one of which the engine keeps for itself.
    pub num_gpu_blocks: u32,
    /// Tokens in a KV block.
    pub block_size: u32,
    /// Sequences that run at once.
    pub max_num_seqs: u32,
    /// Tokens computed per step.
    pub max_num_batched_tokens: u32,
    /// Adapters that run at once; 0: any number.
    pub max_loras: u32,
}
