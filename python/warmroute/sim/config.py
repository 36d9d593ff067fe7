"""What a simulated pool is told: models, engine, sizes, faults. Plain values, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cost import PRESETS
from .cpu_tier import OFFLOAD, WHEN_EVICTED, WHEN_STORED
from .engine import EngineSettings
from .faults import COUNTED_KINDS, RESTART, Fault, FaultError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .output import OutputLength

ENGINES = ("vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm")
"""Whose metrics page is served; the API is vLLM's in every case."""

KV_EVENT_FORMS = ("map", "array", "sglang", "bytes")
"""What KV events look like; see `kv_event_forms`, which is not imported here as it costs start-up time."""

MAX_REPLICAS = 1024
DEFAULT_MODEL_LEN = 131_072
MAX_METRICS_PADDING = 16 * 1024 * 1024


class SimConfigError(ValueError):
    """A setting that cannot be; the message names it."""


@dataclass(frozen=True, slots=True)
class SimConfig:
    """Settings of every replica of a pool."""

    models: tuple[str, ...] = ("sim",)
    """Names under which the one model is served; the first is its own, the rest aliases."""
    engine: str = "vllm"
    preset: str = "instant"
    speed: float = 1.0
    """How many times faster than the preset time runs."""
    block_size: int | None = None
    """Tokens per KV block; None: the preset's."""
    num_gpu_blocks: int | None = None
    """KV blocks; None: the preset's."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int | None = None
    """Tokens of prompt and answer together; None: 131,072, or what the KV cache holds if that is less."""
    output_length: OutputLength | None = None
    """Natural length of answers; None: as long as the client allows."""
    loras: tuple[str, ...] = ()
    """Adapters loaded at start."""
    max_loras: int = 4
    """Adapters that run at once."""
    kv_events: str | None = None
    """ZMQ endpoint of the first replica's KV events, `tcp://*:5557`; the others take the next ports (0: free ones)."""
    kv_events_form: str | None = None
    """One of `KV_EVENT_FORMS`; None: `sglang` for that engine, `map` for the others."""
    kv_events_replay: str | None = None
    """ZMQ endpoint at which the first replica replays events, `tcp://*:5657`; the others take the next ports. None: no replay."""
    kv_events_buffer: int = 10_000
    """Messages kept for replay."""
    cpu_blocks: int = 0
    """KV blocks that the host's memory holds copies of; 0: no CPU tier."""
    cpu_offload: str = WHEN_STORED
    """When a block is copied there: `stored` (at once, as vLLM does) or `evicted`."""
    data_parallel: bool = False
    """Whether the replicas are the data-parallel ranks of one server, each with its own port: events and metrics then name the rank."""
    metrics_padding: int = 0
    """Bytes that the metrics page is filled up to with further families of a real page; 0: none."""
    request_log: int = 256
    """Requests remembered per replica; 0: none."""
    faults: dict[int | None, Fault] = field(default_factory=dict)
    """Fault of a replica (None: of all) at start."""

    def __post_init__(self) -> None:
        """Check what can be checked without starting.

        Raises:
            SimConfigError: naming the setting.
        """
        if not self.models or not all(self.models):
            message = "at least one model name is needed, and none may be empty"
            raise SimConfigError(message)
        if twice := sorted(name for name in self.loras if name in self.models or self.loras.count(name) > 1):
            message = f"the name {twice[0]!r} is given to more than one model or adapter"
            raise SimConfigError(message)
        _one_of("engine", self.engine, ENGINES)
        _one_of("preset", self.preset, tuple(PRESETS))
        if not (math.isfinite(self.speed) and self.speed > 0):
            message = f"speed must be a number above 0, not {self.speed}"
            raise SimConfigError(message)
        _one_of("kv_events_form", self.event_form, KV_EVENT_FORMS)
        _one_of("cpu_offload", self.cpu_offload, OFFLOAD)
        self._check_events()
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "max_loras", "block_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                message = f"{name} must be at least 1, not {value}"
                raise SimConfigError(message)
        if self.num_gpu_blocks is not None and self.num_gpu_blocks < 2:  # noqa: PLR2004 - one of them is reserved
            message = f"num_gpu_blocks must be at least 2, not {self.num_gpu_blocks}"
            raise SimConfigError(message)
        for name in ("request_log", "cpu_blocks", "kv_events_buffer"):
            if getattr(self, name) < 0:
                message = f"{name} must be 0 or more, not {getattr(self, name)}"
                raise SimConfigError(message)
        if not 0 <= self.metrics_padding <= MAX_METRICS_PADDING:
            message = f"metrics_padding must be between 0 and {MAX_METRICS_PADDING} bytes, not {self.metrics_padding}"
            raise SimConfigError(message)

    def _check_events(self) -> None:
        if self.kv_events is None and self.kv_events_replay is not None:
            message = "kv_events_replay replays KV events: give kv_events as well"
            raise SimConfigError(message)
        if self.event_form == "sglang" and self.cpu_blocks and self.cpu_offload == WHEN_EVICTED:
            message = "SGLang tells the tokens of copies in the CPU, and they are known only when a block is stored: cpu_offload must be stored"
            raise SimConfigError(message)
        for fault in self.faults.values():
            if fault.kind == RESTART:
                message = f"{RESTART} happens at once: send it to a running replica, POST /sim/fault"
                raise SimConfigError(message)
            if fault.of_events and self.kv_events is None:
                message = f"{fault.kind} is a fault of KV events: give kv_events as well"
                raise SimConfigError(message)

    @property
    def event_form(self) -> str:
        """What KV events look like."""
        return self.kv_events_form or ("sglang" if self.engine == "sglang" else "map")

    def engine_settings(self) -> EngineSettings:
        """Settings of the engine model."""
        preset = PRESETS[self.preset]
        blocks = preset.num_gpu_blocks if self.num_gpu_blocks is None else self.num_gpu_blocks
        block_size = preset.block_size if self.block_size is None else self.block_size
        return EngineSettings(
            cost=preset.cost.faster(self.speed),
            num_gpu_blocks=blocks,
            block_size=block_size,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_model_len=self.max_model_len or min(DEFAULT_MODEL_LEN, (blocks - 1) * block_size),
            max_loras=self.max_loras,
            record_events=self.kv_events is not None,
            cpu_blocks=self.cpu_blocks,
            cpu_offload=self.cpu_offload,
        )

    def rank_of(self, replica: int) -> int:
        """Data-parallel rank of a replica."""
        return replica if self.data_parallel else 0

    def fault_of(self, replica: int) -> Fault | None:
        """Fault with which a replica starts."""
        return self.faults.get(replica, self.faults.get(None))


def parse_faults(values: Sequence[str]) -> dict[int | None, Fault]:
    """Read `--fault [REPLICA=]KIND[:PROBABILITY]` values; of faults that strike each Nth message, `KIND[:N]`.

    Raises:
        SimConfigError: naming the value that is wrong.
    """
    faults: dict[int | None, Fault] = {}
    for value in values:
        replica, _, rest = value.rpartition("=")
        kind, _, number = rest.partition(":")
        try:
            fault = Fault(kind, every=int(number or 2)) if kind in COUNTED_KINDS else Fault(kind, probability=float(number or 1))
            faults[int(replica) if replica else None] = fault
        except FaultError as error:
            message = f"--fault {value}: {error}"
            raise SimConfigError(message) from error
        except ValueError as error:
            message = f"--fault {value}: expected [REPLICA=]KIND[:PROBABILITY], or events-drop:N and the like"
            raise SimConfigError(message) from error
    return faults


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        message = f"{name} must be one of {', '.join(known)}, not {value!r}"
        raise SimConfigError(message)
