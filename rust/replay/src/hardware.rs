//! What a replica runs on: how long a step takes and how much it holds.

use std::fmt;

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

/// Why no replica can run on some hardware, or not for some trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HardwareError {
    /// A size below the least it can be.
    TooSmall {
        /// Field of [`Hardware`].
        field: &'static str,
        /// What it is.
        value: u32,
        /// What it has to be at least.
        least: u32,
    },
    /// Seconds that are negative, infinite or no number.
    Seconds {
        /// Field of [`CostModel`].
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// Block ids of the trace that do not stand for whole KV blocks.
    Unit {
        /// Tokens that one block id stands for.
        unit_tokens: u32,
        /// Tokens in a KV block.
        block_size: u32,
    },
}

impl fmt::Display for HardwareError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall {
                field,
                value,
                least,
            } => {
                write!(
                    formatter,
                    "hardware: {field} is {value} and has to be at least {least}"
                )
            }
            Self::Seconds { field, value } => write!(
                formatter,
                "hardware: cost.{field} is {value} and has to be a number of seconds, 0 or more"
            ),
            Self::Unit {
                unit_tokens,
                block_size,
            } => write!(
                formatter,
                "the trace's block ids stand for {unit_tokens} tokens each, which are no whole KV blocks of {block_size} tokens: \
                 choose a block_size that divides {unit_tokens}"
            ),
        }
    }
}

impl std::error::Error for HardwareError {}

impl Hardware {
    /// Tokens that the KV cache holds.
    pub fn capacity_tokens(&self) -> u64 {
        u64::from(self.num_gpu_blocks.saturating_sub(1)) * u64::from(self.block_size)
    }

    /// Checks that a replica can run on this, for block ids that stand for `unit_tokens` tokens each.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, unit_tokens: u32) -> Result<(), HardwareError> {
        for (field, value, least) in [
            // The block that the engine keeps, and one to use.
            ("num_gpu_blocks", self.num_gpu_blocks, 2),
            ("block_size", self.block_size, 1),
            ("max_num_seqs", self.max_num_seqs, 1),
            ("max_num_batched_tokens", self.max_num_batched_tokens, 1),
        ] {
            if value < least {
                return Err(HardwareError::TooSmall {
                    field,
                    value,
                    least,
                });
            }
        }
        let cost = self.cost;
        for (field, value) in [
            ("step", cost.step),
            ("prefill_token", cost.prefill_token),
            ("decode_sequence", cost.decode_sequence),
            ("decode_kv_token", cost.decode_kv_token),
            ("prefill_context", cost.prefill_context),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(HardwareError::Seconds { field, value });
            }
        }
        if unit_tokens < self.block_size || !unit_tokens.is_multiple_of(self.block_size) {
            return Err(HardwareError::Unit {
                unit_tokens,
                block_size: self.block_size,
            });
        }
        Ok(())
    }
}
