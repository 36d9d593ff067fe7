"""The pool that is simulated: replicas by preset and speed, as the JSON of `warmroute._core.simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from warmroute.config.errors import UsageError, nearest
from warmroute.sim.config import MAX_REPLICAS
from warmroute.sim.cost import PRESETS

#: Presets whose steps take time: without it there is nothing to compare.
TIMED_PRESETS = tuple(name for name, preset in PRESETS.items() if preset.cost.step > 0)
#: Speed of every second replica of a mixed pool: half of them take twice as long for everything (policy study, section 2).
MIXED_SPEED = 0.5


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of one preset; `speeds`: how many times faster than the preset each of them is. Sizes: those of `warmroute sim`."""

    preset: str
    speeds: tuple[float, ...]
    num_gpu_blocks: int | None = None
    block_size: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_loras: int = 4

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be simulated."""
        if self.preset not in TIMED_PRESETS:
            raise UsageError(f"--preset: unknown preset {self.preset!r}{nearest(self.preset, TIMED_PRESETS)}; one of {', '.join(TIMED_PRESETS)}")
        if not 1 <= len(self.speeds) <= MAX_REPLICAS:
            raise UsageError(f"--replicas: between 1 and {MAX_REPLICAS}, not {len(self.speeds)}")

    @property
    def replicas(self) -> int:
        """How many."""
        return len(self.speeds)

    @property
    def words(self) -> str:
        """`8 x h100-8b`, with the speeds where they differ."""
        counts = {speed: self.speeds.count(speed) for speed in dict.fromkeys(self.speeds)}
        if len(counts) == 1:
            speed = self.speeds[0]
            return f"{self.replicas} x {self.preset}" + (f" at speed {speed:g}" if speed != 1 else "")
        return f"{self.replicas} x {self.preset} ({', '.join(f'{count} at speed {speed:g}' for speed, count in counts.items())})"

    def hardware(self) -> list[dict[str, Any]]:
        """One `Hardware` object of the simulator a replica."""
        preset = PRESETS[self.preset]
        replicas = []
        for speed in self.speeds:
            cost = preset.cost.faster(speed)
            replicas.append(
                {
                    "cost": {
                        "step": cost.step,
                        "prefill_token": cost.prefill_token,
                        "decode_sequence": cost.decode_sequence,
                        "decode_kv_token": cost.decode_kv_token,
                        "prefill_context": cost.prefill_context,
                    },
                    "num_gpu_blocks": self.num_gpu_blocks or preset.num_gpu_blocks,
                    "block_size": self.block_size or preset.block_size,
                    "max_num_seqs": self.max_num_seqs,
                    "max_num_batched_tokens": self.max_num_batched_tokens,
                    "max_loras": self.max_loras,
                }
            )
        return replicas

    def prefill_tokens_per_second(self) -> float:
        """Prompt tokens that the whole pool could compute if it did nothing else."""
        return sum(speed / PRESETS[self.preset].cost.prefill_token for speed in self.speeds)


def mixed_speeds(replicas: int) -> tuple[float, ...]:
    """Odd replicas slower, as in the policy study."""
    return tuple(MIXED_SPEED if index % 2 else 1.0 for index in range(replicas))
