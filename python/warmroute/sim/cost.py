"""How long one engine step takes: the five-term model of the policy study, with its presets.

    step = a + b*prefill_tokens + c*decode_sequences + d*decode_kv_tokens + e*sum(prefill_tokens x context)
           + f*loaded_tokens

The constants are derived (model FLOPs utilisation, memory bandwidth), not measured on a GPU: they rank policies,
they do not predict a product's figures. Source: the project's policy study, section 2; of the sixth term, `_load`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds that each part of a step costs."""

    step: float
    """a: seconds a step costs whatever it does (weights read once, launch overhead)."""
    prefill_token: float
    """b: seconds per prompt token computed."""
    decode_sequence: float
    """c: seconds per sequence that decodes one token."""
    decode_kv_token: float
    """d: seconds per KV token read by the decoding sequences."""
    prefill_context: float
    """e: seconds per (prompt token computed x token it attends to)."""
    load_token: float = 0.0
    """f: seconds per token whose KV is copied from the CPU to the GPU. vLLM loads beside other work; here the step waits for it."""

    def step_seconds(self, work: StepWork) -> float:
        """Seconds that a step with this work takes."""
        return (
            self.step
            + self.prefill_token * work.prefill_tokens
            + self.decode_sequence * work.decode_sequences
            + self.decode_kv_token * work.decode_kv_tokens
            + self.prefill_context * work.prefill_context
            + self.load_token * work.loaded_tokens
        )

    def faster(self, speed: float) -> CostModel:
        """The same engine `speed` times as fast (below 1: slower)."""
        return CostModel(
            self.step / speed,
            self.prefill_token / speed,
            self.decode_sequence / speed,
            self.decode_kv_token / speed,
            self.prefill_context / speed,
            self.load_token / speed,
        )


@dataclass(slots=True)
class StepWork:
    """What one step computes."""

    prefill_tokens: int = 0
    """Prompt tokens computed (also the generated tokens recomputed after a preemption)."""
    decode_sequences: int = 0
    """Sequences that produce their next token from one new token."""
    decode_kv_tokens: int = 0
    """Sum of the contexts that the decoding sequences read."""
    prefill_context: float = 0.0
    """Sum over prefill chunks of tokens x mean context they attend to."""
    loaded_tokens: int = 0
    """Tokens whose KV comes from the CPU."""

    def add_prefill(self, computed: int, tokens: int) -> None:
        """A chunk of `tokens` prompt tokens after `computed` ones that are in the cache."""
        self.prefill_tokens += tokens
        self.prefill_context += tokens * (computed + tokens / 2)

    def add_decode(self, context: int) -> None:
        """One sequence decodes with `context` tokens before it."""
        self.decode_sequences += 1
        self.decode_kv_tokens += context


@dataclass(frozen=True, slots=True)
class Preset:
    """A cost model and the KV cache that goes with it."""

    cost: CostModel
    num_gpu_blocks: int
    """KV blocks of `block_size` tokens."""
    block_size: int = 16


HOST_LINK_BYTES = 50e9
"""Assumption: bytes a second from the host to one GPU, PCIe 5.0 x16 (64 GB/s each way) at about four fifths of its rate."""
KV_VALUE_BYTES = 2
"""Bytes of a key's or value's number: 16-bit floats."""


def _load(layers: int, heads: int, size: int, gpus: int = 1) -> float:
    """Seconds to load a token's KV: keys and values of every layer, split over the GPUs, each with a link of its own."""
    return 2 * layers * heads * size * KV_VALUE_BYTES / gpus / HOST_LINK_BYTES


PRESETS: dict[str, Preset] = {
    "h100-8b": Preset(CostModel(7e-3, 31.5e-6, 20e-6, 48e-9, 1.0e-9, _load(32, 8, 128)), 27_000),
    "h100-70b": Preset(CostModel(18e-3, 80e-6, 60e-6, 30e-9, 1.5e-9, _load(80, 8, 128, gpus=4)), 27_000),
    "instant": Preset(CostModel(0.0, 0.0, 0.0, 0.0, 0.0), 27_000),
}
"""`h100-8b`: one H100; `h100-70b`: four with tensor parallelism; `instant`: no time passes, for functional tests.

Loading: layers, KV heads and head size of Llama 3 8B and 70B.
"""
