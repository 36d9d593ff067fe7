"""The render endpoints answer with the tokens that the server itself computes, in vLLM's shape."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from warmroute.sim import SimPool, tokenizer
from warmroute.sim.prompt import MEDIUM_TOKENS

pytestmark = pytest.mark.asyncio

FIELDS = [
    "request_id", "token_ids", "features", "sampling_params", "model", "stream", "stream_options", "cache_salt", "priority",
    "kv_transfer_params",
]  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "http://images/1"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


async def post(client: aiohttp.ClientSession, path: str, **body: Any) -> tuple[int, Any]:
    async with client.post(path, json={"model": "tiny", **body}) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("hello world", [tokenizer.unpack(tokenizer.encode("hello world"))]),
        ([1, 2, 3], [[1, 2, 3]]),
        (["one", "two"], [tokenizer.unpack(tokenizer.encode(text)) for text in ("one", "two")]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
async def test_completions_render_to_an_object_a_prompt(client: aiohttp.ClientSession, prompt: Any, tokens: list[list[int]]) -> None:
    status, answer = await post(client, "/v1/completions/render", prompt=prompt, max_tokens=7, cache_salt="salt", stream=True)
    assert status == 200
    assert [list(item) for item in answer] == [FIELDS] * len(tokens)
    assert [item["token_ids"] for item in answer] == tokens
    for item in answer:
        assert item["request_id"].startswith("cmpl-")
        assert (item["features"], item["cache_salt"], item["stream"], item["model"]) == (None, "salt", True, "tiny")
        assert item["sampling_params"]["max_tokens"] == 7
    _, used = await post(client, "/v1/completions", prompt=prompt, max_tokens=1)
    assert used["usage"]["prompt_tokens"] == sum(len(ids) for ids in tokens)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]},
        {"messages": [{"role": "user", "content": "hello"}], "tools": [TOOL]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "you"}]}]},
        {"messages": [{"role": "user", "content": ["look", IMAGE, "and hear", SOUND, IMAGE]}], "cache_salt": "salt"},
        {"messages": [{"role": "assistant", "content": None}, {"role": "tool", "content": "42"}]},
    ],
)
async def test_chat_renders_to_the_tokens_it_is_computed_from(client: aiohttp.ClientSession, pool: SimPool, body: dict[str, Any]) -> None:
    status, rendered = await post(client, "/v1/chat/completions/render", **body)
    assert status == 200
    assert list(rendered) == FIELDS
    assert rendered["request_id"].startswith("chatcmpl-")
    assert rendered["cache_salt"] == body.get("cache_salt")
    _, tokenized = await post(client, "/tokenize", **body)
    assert rendered["token_ids"] == tokenized["tokens"]
    _, first = await post(client, "/v1/chat/completions", max_tokens=1, **body)
    assert first["usage"]["prompt_tokens"] == len(rendered["token_ids"])
    # A generate request with the rendered tokens finds the same blocks, as long as no medium makes them others.
    if rendered["features"] is None:
        sent = {"token_ids": rendered["token_ids"], "cache_salt": rendered["cache_salt"], "sampling_params": {"max_tokens": 1}}
        hits = pool.replicas[0].engine.statistics.prefix_cache_hits
        assert (await post(client, "/inference/v1/generate", **sent))[0] == 200
        block = pool.replicas[0].engine.settings.block_size
        assert pool.replicas[0].engine.statistics.prefix_cache_hits - hits == (len(rendered["token_ids"]) - 1) // block * block


async def test_media_are_placeholders_with_the_hash_of_their_content(client: aiohttp.ClientSession) -> None:
    content = [{"type": "text", "text": "look"}, IMAGE, SOUND, {**IMAGE, "uuid": "mine"}, IMAGE]
    _, rendered = await post(client, "/v1/chat/completions/render", messages=[{"role": "user", "content": content}])
    hashes, places = rendered["features"]["mm_hashes"], rendered["features"]["mm_placeholders"]
    assert {modality: len(found) for modality, found in hashes.items()} == {"image": 3, "audio": 1}
    first, mine, again = hashes["image"]
    assert (mine, again) == ("mine", first)
    assert len(first) == 64
    assert first != hashes["audio"][0]
    head = tokenizer.count(tokenizer.encode("user: ")) + 1
    assert [place["offset"] for place in (*places["image"], *places["audio"])] == [head + MEDIUM_TOKENS * index for index in (0, 2, 3, 1)]
    (identifier,) = {rendered["token_ids"][index] for place in places["image"] for index in range(place["offset"], place["offset"] + place["length"])}
    assert identifier == tokenizer.MAX_TOKEN_ID


async def test_equal_placeholders_of_another_medium_are_not_cached(client: aiohttp.ClientSession) -> None:
    cached = []
    for url in ("http://images/1", "http://images/1", "http://images/2"):
        content = [{"type": "text", "text": "x" * 4 * 62}, {"type": "image_url", "image_url": {"url": url}}]
        _, answer = await post(client, "/v1/chat/completions", messages=[{"role": "user", "content": content}], max_tokens=1)
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached == [0, (2 + 62 + MEDIUM_TOKENS + 3) // 32 * 32, 64]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/completions/render", {"model": "other", "prompt": "x"}, 404, "does not exist"),
        ("/v1/completions/render", {}, 400, "prompt"),
        ("/v1/chat/completions/render", {}, 400, "messages"),
        ("/v1/chat/completions/render", {"messages": [{"role": "user", "content": "x" * 4 * 131_072}]}, 400, "maximum context length"),
        ("/v1/completions/render", {"prompt": "x", "cache_salt": ""}, 400, "cache_salt"),
    ],
)
async def test_what_the_api_would_refuse_is_refused(client: aiohttp.ClientSession, path: str, body: dict[str, Any], status: int, words: str) -> None:
    found, answer = await post(client, path, **body)
    assert found == status
    assert words in answer["error"]["message"]
