"""The constants that a simulation stands on, each with its source: how far its numbers can be believed."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from warmroute.replay.hardware import TIMED_PRESETS, Pool
from warmroute.sim.cost import PRESETS, CostModel


@dataclass(frozen=True, slots=True)
class Constant:
    """`field`: of `CostModel`. `scale`: from seconds to `unit`."""

    symbol: str
    field: str
    text: str
    unit: str
    scale: float
    source: str

    def of(self, cost: CostModel) -> str:
        """The value with its unit."""
        return f"{getattr(cost, self.field) * self.scale:g} {self.unit}"


CONSTANTS = (
    Constant("a", "step", "a step, whatever it does", "ms", 1e3, "weights read once at 2.7 TB/s a GPU, and launch overhead (derived)"),
    Constant(
        "b", "prefill_token", "a prompt token computed", "us", 1e6, "about 51 % of peak FLOPs, which the reference's 15,928 tokens/s imply (assumed)"
    ),
    Constant("c", "decode_sequence", "a sequence that decodes", "us", 1e6, "sampling and bookkeeping of a sequence (assumed)"),
    Constant("d", "decode_kv_token", "a KV token read by a decode", "ns", 1e9, "128 or 320 KiB of KV a token at 2.7 TB/s a GPU (derived)"),
    Constant("e", "prefill_context", "a prompt token times a token before it", "ns", 1e9, "FLOPs of attention (derived)"),
)
#: What a simulated pool leaves out.
LEFT_OUT = (
    "crashed, hung and restarting servers",
    "wrong estimates of tokens: the picker is told the true number",
    "the network, Envoy and the picker's own time",
    "copies of the cache in the host's memory, disaggregated prefill, several routers",
    "speculative decoding and whatever else an engine does beside the five terms",
)
FORMULA = "step = a + b * prefill tokens + c * decodes + d * KV tokens they read + e * sum(prefill tokens x context)"


def footer(pool: Pool) -> str:
    """One line for below a table."""
    cost = PRESETS[pool.preset].cost
    values = ", ".join(f"{constant.symbol} {constant.of(cost)}" for constant in CONSTANTS)
    return f"{pool.preset}: {values}; derived, not measured on a GPU (--explain-constants has the sources, --self-check a comparison)"


def explain(console: Console) -> None:
    """Every constant of every preset, its source, and what is left out."""
    table = Table(title="Constants of the simulated engines", caption=FORMULA, caption_justify="left")
    for column in ("", "seconds for", *TIMED_PRESETS, "source"):
        table.add_column(column)
    for constant in CONSTANTS:
        table.add_row(constant.symbol, constant.text, *(constant.of(PRESETS[name].cost) for name in TIMED_PRESETS), constant.source)
    sizes = [PRESETS[name] for name in TIMED_PRESETS]
    blocks = [f"{preset.num_gpu_blocks:,} x {preset.block_size} tokens" for preset in sizes]
    table.add_row("", "KV cache", *blocks, "what 80 GB, or four of them, leave beside the weights (policy study, section 2)")
    table.add_row("", "tokens a step", *("8,192" for _ in sizes), "vLLM's default on an H100 (--max-num-batched-tokens)")
    table.add_row("", "sequences at once", *("256" for _ in sizes), "vLLM V1's default (--max-num-seqs)")
    console.print(table)
    console.print(
        "The scheduler is vLLM V1's: decodes and running prefills first, then the queue in order of arrival; whole blocks cached, least recently used out first."
    )
    console.print(f"Left out: {'; '.join(LEFT_OUT)}.")
    console.print("The constants are derived, not measured on a GPU: they rank policies, they do not predict a product's figures.")
