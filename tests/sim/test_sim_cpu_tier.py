"""A CPU tier keeps what the GPU gives up: hits there are counted as hits, cost less than computing, and are told."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from warmroute.sim import SimConfig, SimPool
from warmroute.sim.cost import PRESETS, CostModel
from warmroute.sim.cpu_tier import WHEN_EVICTED, WHEN_STORED
from warmroute.sim.engine import EngineSettings, SimulatedEngine
from warmroute.sim.kv_events import KvEventPublisher
from warmroute.sim.sequence import Sequence

UNIT = CostModel(1.0, 0.0, 0.0, 0.0, 0.0, load_token=0.5)


def prompt(seed: int, tokens: int) -> bytes:
    return b"".join((seed * 100_000 + index).to_bytes(4, "little") for index in range(tokens))


def run(engine: SimulatedEngine, sequence: Sequence) -> float:
    engine.add(sequence, 0.0)
    now = 0.0
    while (seconds := engine.begin_step(now)) is not None:
        now += seconds
        engine.finish_step(now)
    return now


def engine_of(offload: str, cpu_blocks: int = 100, gpu_blocks: int = 11) -> SimulatedEngine:
    sizes = EngineSettings(UNIT, num_gpu_blocks=gpu_blocks, max_model_len=160, cpu_blocks=cpu_blocks, cpu_offload=offload, record_events=True)
    return SimulatedEngine(sizes)


@pytest.mark.parametrize("offload", [WHEN_STORED, WHEN_EVICTED])
def test_a_prefix_that_the_gpu_gave_up_is_loaded_and_counted(offload: str) -> None:
    engine = engine_of(offload)
    run(engine, Sequence(prompt(1, 144), 1, 1))
    run(engine, Sequence(prompt(2, 144), 1, 1))
    again = Sequence(prompt(1, 144), 1, 1)
    statistics = engine.statistics
    hits = statistics.prefix_cache_hits
    seconds = run(engine, again)
    assert again.cached_tokens == 128
    local = statistics.prefix_cache_hits - hits
    assert again.loaded_tokens == 128 - local > 0
    assert seconds == 1 + 0.5 * again.loaded_tokens
    assert (statistics.prompt_tokens_cached, statistics.prompt_tokens_loaded) == (128, again.loaded_tokens)
    assert statistics.external_cache_hits == again.loaded_tokens
    assert statistics.external_cache_queries == 3 * 144 - local
    assert engine.cache.used_blocks == 0


def test_what_neither_tier_holds_is_computed() -> None:
    engine = engine_of(WHEN_STORED, cpu_blocks=4)
    for seed in (1, 2, 3):
        run(engine, Sequence(prompt(seed, 144), 1, 1))
    lost = Sequence(prompt(1, 144), 1, 1)
    run(engine, lost)
    assert (lost.cached_tokens, lost.loaded_tokens) == (0, 0)
    assert engine.cache.cpu is not None
    assert len(engine.cache.cpu) == 4


def test_loading_costs_less_than_computing_in_every_preset() -> None:
    for name in ("h100-8b", "h100-70b"):
        cost = PRESETS[name].cost
        assert 0 < cost.load_token < cost.prefill_token / 5
        assert cost.faster(2).load_token == cost.load_token / 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120), st.integers(1, 20)), min_size=1, max_size=20),
    st.sampled_from([WHEN_STORED, WHEN_EVICTED]),
    st.integers(1, 30),
)
def test_hits_are_what_the_events_promise(asked: list[tuple[int, int, int]], offload: str, cpu_blocks: int) -> None:
    engine = engine_of(offload, cpu_blocks)
    held: dict[str, set[int]] = {"GPU": set(), "CPU": set()}
    for seed, tokens, out in asked:
        sequence = Sequence(prompt(seed, tokens), out, out, seed)
        sequence.extend_hashes(16, tokens)
        names = sequence.hashes[: (tokens - 1) // 16]
        expected = 0
        while expected < len(names) and names[expected] in held["GPU"]:
            expected += 1
        local = expected
        while expected < len(names) and names[expected] in held["CPU"]:
            expected += 1
        run(engine, sequence)
        assert (sequence.cached_tokens, sequence.loaded_tokens) == (expected * 16, (expected - local) * 16)
        for event in engine.cache.take_events():
            known = held[event.medium]  # type: ignore[union-attr]
            known.symmetric_difference_update(event.hashes)  # type: ignore[union-attr]
        assert len(held["CPU"]) <= cpu_blocks


def told(publisher: KvEventPublisher | None) -> list[tuple[str, str, int]]:
    assert publisher is not None
    events = [event for _, payload in publisher._buffer for event in msgpack.unpackb(payload)[1]]
    return [(event["type"], event.get("medium", ""), len(event.get("block_hashes", ()))) for event in events]


async def complete(session: aiohttp.ClientSession, letter: str) -> Any:
    body = {"model": "tiny", "prompt": letter * 64 * 5, "max_tokens": 1}
    async with session.post("/v1/completions", json=body) as response:
        return (await response.json())["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.asyncio
async def test_a_server_tells_its_tiers_and_its_metrics_divide_the_hits() -> None:
    config = SimConfig(models=("tiny",), num_gpu_blocks=7, cpu_blocks=50, kv_events="tcp://*:0")
    async with SimPool(1, config) as pool, aiohttp.ClientSession(f"http://{pool.addresses[0]}") as session:
        replica = pool.replicas[0]
        assert [await complete(session, letter) for letter in "aab"] == [0, 64, 0]
        stored = [("BlockStored", "GPU", 5), ("BlockStored", "CPU", 5)]
        # Six places: of the first prompt one block stays.
        assert told(replica.publisher) == [*stored, ("BlockRemoved", "GPU", 4), *stored]
        assert await complete(session, "a") == 64
        async with session.get("/sim/state") as response:
            assert (await response.json())["cpu_blocks"] == 10
        async with session.get("/metrics") as response:
            page = await response.text()
        values = {
            (sample.name, sample.labels.get("source", "")): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        assert values["vllm:prefix_cache_queries_total", ""] == 4 * 80
        assert values["vllm:prefix_cache_hits_total", ""] == 64 + 16
        assert values["vllm:external_prefix_cache_queries_total", ""] == 4 * 80 - 64 - 16
        assert values["vllm:external_prefix_cache_hits_total", ""] == 48
        assert values["vllm:prompt_tokens_cached_by_source_total", "device"] == 64 + 16
        assert values["vllm:prompt_tokens_cached_by_source_total", "host"] == 48
        assert values["vllm:prompt_tokens_by_source_total", "local_compute"] == 2 * 80 + 2 * 16
        assert values["vllm:prompt_tokens_by_source_total", "local_cache_hit"] == 64 + 16
        assert values["vllm:prompt_tokens_by_source_total", "external_kv_transfer"] == 48


@pytest.mark.asyncio
@pytest.mark.parametrize(("query", "cached"), [("", 64), ("?reset_external=true", 0)])
async def test_clearing_the_gpu_leaves_the_copies_unless_told(query: str, cached: int) -> None:
    config = SimConfig(models=("tiny",), cpu_blocks=50, kv_events="tcp://*:0")
    async with SimPool(1, config) as pool, aiohttp.ClientSession(f"http://{pool.addresses[0]}") as session:
        await complete(session, "a")
        async with session.post(f"/reset_prefix_cache{query}") as response:
            assert response.status == 200
        assert ("BlockRemoved", "CPU", 5) in told(pool.replicas[0].publisher) or cached
        assert await complete(session, "a") == cached
