"""The metrics page has the recorded names, types, labels and filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from warmroute.sim import SimConfig, SimPool
from warmroute.sim.config import ENGINES
from warmroute.sim.exposition import number

if TYPE_CHECKING:
    from pathlib import Path

Families = dict[str, tuple[str, set[str]]]


def families(page: str) -> Families:
    return {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels}) for family in text_string_to_metric_families(page)
    }


async def get(address: str, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as response:
        assert response.status == 200
        return await response.text()


async def complete(address: str, **body: object) -> None:
    async with aiohttp.ClientSession() as session:
        sent = {"model": "tiny", "prompt": "x" * 400, "max_tokens": 10, **body}
        async with session.post(f"http://{address}/v1/completions", json=sent) as response:
            assert response.status == 200


def sample(page: str, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(page):
        for found in family.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return float(found.value)
    raise AssertionError(name)


@pytest.mark.asyncio
@pytest.mark.parametrize("padding", [0, 50_000])
async def test_every_family_is_in_the_recorded_page_with_its_type_and_labels(recordings: Path, padding: int) -> None:
    recorded_page = (recordings / "metrics-loaded.txt").read_text()
    recorded = families(recorded_page)
    async with SimPool(1, SimConfig(models=("tiny",), loras=("a1",), metrics_padding=padding)) as pool:
        await complete(pool.addresses[0])
        page = await get(pool.addresses[0], "/metrics")
    ours = families(page)
    assert len(ours) > 30
    assert {name: ours[name] for name in ours} == {name: recorded.get(name) for name in ours}
    helps = {line for line in page.splitlines() if line.startswith("# HELP")}
    assert helps <= set(recorded_page.splitlines())
    assert padding <= len(page) < max(padding * 1.1, 60_000)


@pytest.mark.asyncio
async def test_bucket_bounds_are_the_recorded_ones(recordings: Path) -> None:
    def bounds(page: str) -> set[str]:
        lines = (line.rpartition(" ")[0] for line in page.splitlines() if "_bucket{" in line)
        return {line for line in lines if line.startswith("vllm:")}

    async with SimPool(1, SimConfig(models=("tiny",), max_model_len=2048)) as pool:
        ours = bounds(await get(pool.addresses[0], "/metrics"))
    recorded = bounds((recordings / "metrics-loaded.txt").read_text())
    assert ours <= recorded


@pytest.mark.asyncio
async def test_values_follow_the_requests(pool: SimPool) -> None:
    address = pool.addresses[0]
    await complete(address)
    await complete(address)
    page = await get(address, "/metrics")
    assert sample(page, "vllm:prompt_tokens_total", model_name="tiny", engine="0") == 200
    assert sample(page, "vllm:generation_tokens_total") == 20
    assert sample(page, "vllm:prefix_cache_hits_total") == 96
    assert sample(page, "vllm:request_success_total", finished_reason="length") == 2
    assert sample(page, "vllm:time_to_first_token_seconds_count") == 2
    assert sample(page, "vllm:inter_token_latency_seconds_count") == 18
    assert sample(page, "vllm:num_requests_running") == 0
    assert sample(page, "vllm:kv_cache_usage_perc") == 0
    assert sample(page, "vllm:cache_config_info", block_size="32", num_gpu_blocks="65536") == 1


@pytest.mark.asyncio
async def test_only_the_path_with_a_slash_filters(pool: SimPool) -> None:
    query = "?name[]=vllm:num_requests_waiting&name[]=vllm:prompt_tokens&name[]=unknown"
    filtered = await get(pool.addresses[0], f"/metrics/{query}")
    assert list(families(filtered)) == ["vllm:num_requests_waiting", "vllm:prompt_tokens"]
    assert len(filtered) < 2000
    for path in (f"/metrics{query}", "/metrics/", "/metrics"):
        assert len(families(await get(pool.addresses[0], path))) > 30


@pytest.mark.asyncio
async def test_the_newest_lora_series_says_what_runs_now() -> None:
    config = SimConfig(models=("tiny",), preset="h100-8b", loras=("a1", "a2"), max_loras=1)
    async with SimPool(1, config) as pool, aiohttp.ClientSession() as session:
        address = pool.addresses[0]
        await get(address, "/metrics")
        streams = []
        for lora in ("a1", "a2"):
            body = {"model": lora, "prompt": "x", "max_tokens": 1000, "stream": True}
            streams.append(await session.post(f"http://{address}/v1/completions", json=body))
            if lora == "a1":
                await streams[0].content.readline()
        while not pool.replicas[0].engine.deferred:
            await streams[0].content.readline()
        page = await get(address, "/metrics")
        for stream in streams:
            stream.close()
    (lora_family,) = [family for family in text_string_to_metric_families(page) if family.name == "vllm:lora_requests_info"]
    newest = max(lora_family.samples, key=lambda found: found.value)
    assert newest.labels == {"max_lora": "1", "running_lora_adapters": "a1", "waiting_lora_adapters": "a2"}
    assert len(lora_family.samples) == 2
    assert sample(page, "vllm:num_requests_waiting_by_reason", reason="deferred") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("engine", "path", "wanted"),
    [
        ("sglang", "/metrics", {"sglang:num_queue_reqs", "sglang:num_running_reqs", "sglang:token_usage"}),
        ("trtllm-serve", "/prometheus/metrics", {"trtllm_num_requests_waiting", "trtllm_kv_cache_max_blocks"}),
        ("triton-tensorrt-llm", "/metrics", {"nv_trt_llm_request_metrics", "nv_trt_llm_kv_cache_block_metrics"}),
    ],
)
async def test_other_engines_have_their_own_page(engine: str, path: str, wanted: set[str]) -> None:
    assert engine in ENGINES
    async with SimPool(1, SimConfig(engine=engine)) as pool:
        page = await get(pool.addresses[0], path)
    assert wanted <= set(families(page))


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0) | st.integers(0, 2**53))
@example(1_000_000)
@example(999_999)
@example(1.7951646761152313e09)
@example(float("inf"))
def test_numbers_are_written_as_prometheus_client_does(value: float) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]
