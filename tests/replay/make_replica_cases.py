"""Writes the cases that the replay's replica (rust/replay) must agree on with `warmroute.sim`'s engine. Run by hand after a change of the engine.

python tests/replay/make_replica_cases.py rust/replay/tests/data/replica_cases.json

Requests are drawn with the seed below. What the engine does with them is told on a time line of its own: arrivals join the queue before the first
step that begins when or after they come, and a sample of the metrics shows what stands while a step runs.
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmroute.sim.cost import PRESETS, CostModel
from warmroute.sim.engine import EngineSettings, SimulatedEngine
from warmroute.sim.sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20260806
ANY_NUMBER = 1_000_000
"""Adapter slots of an engine that has no limit."""
H100 = PRESETS["h100-8b"].cost
H100_70B = PRESETS["h100-70b"].cost
COST_FIELDS = ("step", "prefill_token", "decode_sequence", "decode_kv_token", "prefill_context")


@dataclass(frozen=True, slots=True)
class Hardware:
    """The fields of the Rust `Hardware`."""

    num_gpu_blocks: int = 27_000
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_loras: int = 0
    cost: CostModel = H100


@dataclass(frozen=True, slots=True)
class Request:
    """`spans`: ids of the full blocks of its prompt as (first, number)."""

    at: float
    prompt: int
    output: int
    spans: list[tuple[int, int]]
    lora: int = 0

    def packed(self, index: int, unit: int) -> bytes:
        """A prompt whose equal ids are equal tokens, and whose tail is its own."""
        ids = [first + offset for first, number in self.spans for offset in range(number)]
        tail = self.prompt - len(ids) * unit
        return b"".join((number + 1).to_bytes(4, "little") * unit for number in ids) + (0x80000000 + index).to_bytes(4, "little") * tail


@dataclass(slots=True)
class Maker:
    """Draws requests; fresh ids never come again."""

    chance: random.Random
    unit: int = 16
    fresh: int = 1_000_000
    requests: list[Request] = field(default_factory=list)

    def add(self, at: float, prompt: int, output: int, shared: list[tuple[int, int]] | None = None, lora: int = 0) -> None:
        """A request whose prompt begins with the shared spans, and goes on with blocks of its own."""
        spans = list(shared or [])
        own = prompt // self.unit - sum(number for _first, number in spans)
        if own > 0:
            spans.append((self.fresh, own))
            self.fresh += own
        self.requests.append(Request(at, prompt, output, spans, lora))

    def poisson(self, number: int, rate: float) -> list[float]:
        """Arrival times."""
        at = 0.0
        times = []
        for _ in range(number):
            at += self.chance.expovariate(rate)
            times.append(at)
        return times


def mixed(make: Maker, number: int, rate: float, longest: int, output: int) -> None:
    """Prompts without anything in common."""
    for at in make.poisson(number, rate):
        make.add(at, make.chance.randint(1, longest), make.chance.randint(1, output))


@dataclass(frozen=True, slots=True)
class Groups:
    """Prefixes shared within a group."""

    number: int
    rate: float
    prefixes: int
    blocks: int
    """Of a prefix; some prompts have fewer."""
    tail: int
    """Tokens that only one prompt has, at most."""
    output: int
    loras: int = 0
    bare: bool = True
    """Whether some prompts end with the prefix: their last token is computed though all is cached."""
    grid: float = 0.0
    """Arrivals are rounded up to multiples of it; 0: as they come."""

    def draw(self, make: Maker) -> None:
        """Requests at random times."""
        for drawn in make.poisson(self.number, self.rate):
            group = make.chance.randrange(self.prefixes)
            part = self.blocks if make.chance.random() < 0.7 else make.chance.randint(1, self.blocks)
            extra = 0 if self.bare and make.chance.random() < 0.5 else make.chance.randint(1, self.tail)
            lora = make.chance.randint(0, self.loras)
            at = math.ceil(drawn / self.grid) * self.grid if self.grid else drawn
            make.add(at, part * make.unit + extra, make.chance.randint(1, self.output), [(group * 1000 + lora * 50_000, part)], lora)


def together(make: Maker, number: int) -> None:
    """Several at a time, alike and not."""
    at = 0.0
    for _ in range(number):
        at += make.chance.choice((0.0, 0.0, 0.05, 0.4))
        make.add(at, 16 * make.chance.randint(1, 30) + make.chance.choice((0, 5)), make.chance.randint(1, 30), [(make.chance.randrange(3) * 100, 1)])


def long_among_decodes(make: Maker) -> None:
    """100,000 tokens come while thirty sequences decode."""
    for index in range(30):
        make.add(0.1 * index, make.chance.randint(100, 800), make.chance.randint(150, 500))
    make.add(4.0, 100_000, 40)
    mixed_later = [4.5 + 0.5 * index for index in range(10)]
    for at in mixed_later:
        make.add(at, make.chance.randint(100, 800), make.chance.randint(1, 60))


def cases() -> list[tuple[str, Hardware, int, list[Request]]]:
    """Name, hardware, tokens in a unit, and requests by time."""
    made = []

    def case(name: str, hardware: Hardware, draw: Callable[[Maker], None], unit: int = 16) -> None:
        make = Maker(random.Random(f"{SEED} {name}"), unit)
        draw(make)
        made.append((name, hardware, unit, make.requests))

    plain = Hardware()
    tiny = replace(plain, num_gpu_blocks=31, block_size=4)
    adapters = Groups(80, 40.0, prefixes=3, blocks=20, tail=100, output=60, loras=5)
    case("mixed prompts", plain, lambda make: mixed(make, 80, 8.0, 3000, 200))
    case("shared prefixes", plain, Groups(100, 15.0, prefixes=5, blocks=40, tail=300, output=80).draw)
    case("cache smaller than the prefixes", replace(plain, num_gpu_blocks=500), Groups(100, 4.0, prefixes=12, blocks=60, tail=200, output=60).draw)
    case("full cache preempts", replace(plain, num_gpu_blocks=200), lambda make: mixed(make, 60, 6.0, 900, 400))
    case("full cache preempts what shares", replace(plain, num_gpu_blocks=150), Groups(80, 8.0, prefixes=4, blocks=20, tail=100, output=300).draw)
    case("tiny cache", tiny, Groups(100, 20.0, prefixes=4, blocks=8, tail=9, output=60).draw, unit=4)
    small_steps = replace(tiny, num_gpu_blocks=41, max_num_batched_tokens=13)
    case("tiny cache, small steps", small_steps, Groups(100, 20.0, prefixes=4, blocks=9, tail=9, output=60).draw, unit=4)
    case("many short", plain, lambda make: mixed(make, 120, 400.0, 40, 20))
    case("one long prompt among decodes", plain, long_among_decodes)
    case("adapters pass over", replace(plain, max_loras=2), adapters.draw)
    case("any number of adapters", plain, adapters.draw)
    case("seats all taken", replace(plain, max_num_seqs=4), lambda make: mixed(make, 50, 12.0, 1200, 60))
    case("arrivals at equal times", replace(plain, max_num_batched_tokens=1024), lambda make: together(make, 80))
    # Every step takes a quarter of a second, exactly: whoever comes, comes as a step begins.
    beat = replace(plain, cost=CostModel(0.25, 0.0, 0.0, 0.0, 0.0), max_num_batched_tokens=512, num_gpu_blocks=70, max_loras=2, max_num_seqs=12)
    on_the_beat = Groups(100, 3.0, prefixes=3, blocks=12, tail=100, output=60, loras=3, grid=0.25)
    case("arrivals as a step begins", beat, on_the_beat.draw)
    case("more decodes than a step computes", replace(plain, max_num_batched_tokens=24, max_num_seqs=64), lambda make: mixed(make, 60, 10.0, 120, 80))
    slow = replace(plain, cost=H100_70B, max_num_batched_tokens=2048)
    case("slow hardware", slow, Groups(60, 6.0, prefixes=3, blocks=100, tail=2000, output=120).draw)
    # A prompt of nothing but full units is left out: the engine finds all but the last block of it, units only all but the last unit.
    case("units of 512", plain, Groups(60, 3.0, prefixes=4, blocks=12, tail=500, output=200, bare=False).draw, unit=512)
    return made


def run(hardware: Hardware, unit: int, requests: list[Request], samples: list[float]) -> dict[str, Any]:
    """What the engine does."""
    settings = asdict(hardware) | {"cost": hardware.cost, "max_loras": hardware.max_loras or ANY_NUMBER}
    engine = SimulatedEngine(EngineSettings(max_model_len=(hardware.num_gpu_blocks - 1) * hardware.block_size, **settings))
    sequences = [
        Sequence(request.packed(index, unit), request.output, 0, seed=index, lora=f"{request.lora:03}" if request.lora else None)
        for index, request in enumerate(requests)
    ]
    finished = [0.0] * len(requests)
    rows = []
    pending = sorted([(request.at, 0, index) for index, request in enumerate(requests)] + [(at, 1, index) for index, at in enumerate(samples)])
    now = 0.0
    while True:
        seconds = engine.begin_step(now)
        if seconds is None and not pending:
            break
        end = pending[0][0] if seconds is None else now + seconds
        while pending and pending[0][0] <= end:
            at, kind, index = pending.pop(0)
            if kind == 0:
                engine.add(sequences[index], at)
            else:
                rows.append(page(engine))
        if seconds is not None:
            running = list(engine.running)
            engine.finish_step(end)
            for sequence in running:
                if sequence.finished is not None:
                    finished[sequences.index(sequence)] = end
        now = end
    return {
        "first": [sequence.first_token for sequence in sequences],
        "finish": finished,
        "cached": [sequence.cached_tokens for sequence in sequences],
        "metrics": [*rows, page(engine)],
    }


def page(engine: SimulatedEngine) -> dict[str, Any]:
    """The fields of the Rust `ReplicaMetrics`."""
    statistics = engine.statistics
    return {
        "waiting": len(engine.waiting),
        "running": len(engine.running),
        "kv_usage": engine.cache.usage,
        "first_tokens": statistics.time_to_first_token.count,
        "first_token_seconds": statistics.time_to_first_token.total,
        "token_gaps": statistics.inter_token.count,
        "token_gap_seconds": statistics.inter_token.total,
        "output_tokens": statistics.generation_tokens,
        "finished_requests": sum(statistics.finished.values()),
        "queried_tokens": statistics.prefix_cache_queries,
        "cached_tokens": statistics.prefix_cache_hits,
        "preemptions": statistics.preemptions,
        "running_loras": [int(name) for name in engine.running_adapters()],
        "waiting_loras": [int(name) for name in engine.waiting_adapters()],
    }


def main() -> None:
    """Run every case and write them."""
    documents = []
    for name, hardware, unit, requests in cases():
        last = requests[-1].at
        chance = random.Random(f"{SEED} samples {name}")
        samples = sorted(chance.uniform(0.0, last * 1.3) for _ in range(12))
        cost = {key: getattr(hardware.cost, key) for key in COST_FIELDS}
        result = run(hardware, unit, requests, samples)
        documents.append(
            {
                "name": name,
                "hardware": {**asdict(hardware), "cost": cost},
                "unit_tokens": unit,
                "requests": [[request.at, request.prompt, request.output, request.lora, request.spans] for request in requests],
                "samples": samples,
                **result,
            }
        )
        final = result["metrics"][-1]
        print(f"{name}: {len(requests)} requests, {final['preemptions']} preemptions, {final['cached_tokens']} of {final['queried_tokens']} cached")
    lines = ",\n".join(json.dumps(document, separators=(",", ":")) for document in documents)
    Path(sys.argv[1]).write_text(f'{{"seed":{SEED},"cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
