"""Answers have the shape of the recorded ones, and errors are vLLM's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from warmroute.sim import SimPool, tokenizer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio
Shape = Callable[[object], object]


async def post(client: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(path, data=data) as response:
        return response.status, await response.json()


def recorded_request(recordings: Path, name: str) -> dict[str, Any]:
    requests = json.loads((recordings / "requests.json").read_text())
    return next(entry["body"] for entry in requests if entry["file"] == name)


@pytest.mark.parametrize("name", ["completion-1.json", "completion-lora.json"])
async def test_a_completion_has_the_recorded_shape(client: aiohttp.ClientSession, recordings: Path, shape_of: Shape, name: str) -> None:
    recorded = json.loads((recordings / name).read_text())
    status, answer = await post(client, "/v1/completions", recorded_request(recordings, name))
    assert status == 200
    assert list(answer) == list(recorded)
    assert shape_of(answer) == shape_of(recorded)
    assert answer["model"] == recorded["model"]
    assert answer["usage"]["completion_tokens"] == recorded["usage"]["completion_tokens"]
    assert answer["choices"][0]["finish_reason"] == recorded["choices"][0]["finish_reason"]


async def test_a_chat_stream_has_the_recorded_events(client: aiohttp.ClientSession, recordings: Path, shape_of: Shape) -> None:
    recorded = (recordings / "chat-stream.sse").read_text()
    headers = (recordings / "chat-stream.headers").read_text()
    body = recorded_request(recordings, "chat-stream.sse")
    async with client.post("/v1/chat/completions", json=body) as response:
        text = await response.text()
        assert f"content-type: {response.headers['content-type']}" in headers
        assert response.headers["transfer-encoding"] == "chunked"
    assert text.endswith("data: [DONE]\n\n")
    ours, theirs = ([json.loads(line[6:]) for line in page.split("\n\n") if "{" in line] for page in (text, recorded))
    assert [shape_of(event) for event in ours] == [shape_of(event) for event in theirs]
    assert ours[-1]["usage"]["completion_tokens"] == 6


async def test_without_include_usage_a_stream_has_none(client: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2, "stream": True}
    async with client.post("/v1/completions", json=body) as response:
        events = [event for event in (await response.text()).split("\n\n") if event]
    assert len(events) == 3
    assert "usage" not in events[1]
    assert json.loads(events[1][6:])["choices"][0]["finish_reason"] == "length"


async def test_streaming_and_not_give_the_same_text_on_every_replica(pool: SimPool) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "say something"}], "max_tokens": 20}
    texts = set()
    for address in pool.addresses:
        async with aiohttp.ClientSession(f"http://{address}") as session:
            _, answer = await post(session, "/v1/chat/completions", body)
            texts.add(answer["choices"][0]["message"]["content"])
            async with session.post("/v1/chat/completions", json={**body, "stream": True}) as response:
                events = [json.loads(line[6:]) for line in (await response.text()).split("\n\n") if "{" in line]
                texts.add("".join(event["choices"][0]["delta"]["content"] for event in events))
    assert len(texts) == 1
    assert len(texts.pop()) == 80


async def test_an_equal_prompt_is_cached_and_another_salt_is_not(client: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "prompt": "x" * 4 * 100, "max_tokens": 1}
    cached = []
    for salt in (None, None, "s"):
        _, answer = await post(client, "/v1/completions", {**body, "cache_salt": salt} if salt else body)
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached == [0, 96, 0]


async def test_the_next_turn_of_a_chat_finds_the_last_answer_in_the_cache(client: aiohttp.ClientSession) -> None:
    messages = [{"role": "user", "content": "q" * 400}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 200}
    _, answer = await post(client, "/v1/chat/completions", body)
    messages += [answer["choices"][0]["message"], {"role": "user", "content": "and then?"}]
    _, second = await post(client, "/v1/chat/completions", {**body, "messages": messages})
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 256


async def test_several_prompts_and_choices_are_numbered(client: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "prompt": ["one one one", "two"], "n": 2, "max_tokens": 3}
    _, answer = await post(client, "/v1/completions", body)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["completion_tokens"] == 12


async def test_embeddings_are_unit_vectors_and_base64_decodes_to_them(client: aiohttp.ClientSession) -> None:
    _, answer = await post(client, "/v1/embeddings", {"model": "tiny", "input": ["a", "b"], "dimensions": 8})
    vector = answer["data"][1]["embedding"]
    assert (answer["object"], len(answer["data"]), len(vector)) == ("list", 2, 8)
    assert sum(value * value for value in vector) == pytest.approx(1)


async def test_messages_answer_and_count_as_anthropic_does(client: aiohttp.ClientSession) -> None:
    body = {
        "model": "tiny",
        "max_tokens": 4,
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }
    _, answer = await post(client, "/v1/messages", body)
    assert (answer["type"], answer["role"], answer["stop_reason"]) == ("message", "assistant", "max_tokens")
    assert len(answer["content"][0]["text"]) == 16
    _, counted = await post(client, "/v1/messages/count_tokens", body)
    assert counted == {"input_tokens": answer["usage"]["input_tokens"]}


async def test_a_message_stream_has_the_event_types_in_order(client: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "max_tokens": 2, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with client.post("/v1/messages", json=body) as response:
        events = [block.split("\n") for block in (await response.text()).strip().split("\n\n")]
    names = [name.removeprefix("event: ") for name, _ in events]
    delta = "content_block_delta"
    tail = ["content_block_stop", "message_delta", "message_stop"]
    assert names == ["message_start", "content_block_start", delta, delta, *tail]
    assert all(json.loads(data[6:])["type"] == name for name, (_, data) in zip(names, events, strict=True))


async def test_generate_takes_and_gives_token_ids(client: aiohttp.ClientSession) -> None:
    body = {"token_ids": list(range(100)), "sampling_params": {"max_tokens": 5}}
    status, answer = await post(client, "/inference/v1/generate", body)
    assert status == 200
    assert len(answer["choices"][0]["token_ids"]) == 5
    async with client.post("/inference/v1/generate", json={**body, "stream": True}) as response:
        events = [json.loads(line[6:]) for line in (await response.text()).split("\n\n") if "{" in line]
    streamed = [token for event in events for token in event["choices"][0]["token_ids"]]
    assert streamed == answer["choices"][0]["token_ids"]


async def test_models_have_the_recorded_shape(client: aiohttp.ClientSession, recordings: Path, shape_of: Shape) -> None:
    recorded = json.loads((recordings / "models.json").read_text())
    async with client.get("/v1/models") as response:
        answer = await response.json()
    assert [shape_of(card) for card in answer["data"]] == [shape_of(card) for card in recorded["data"]]
    assert [card["id"] for card in answer["data"]] == ["tiny", "a1"]
    assert answer["data"][1]["parent"] == "tiny"


async def test_tokens_come_back_as_text(client: aiohttp.ClientSession) -> None:
    text = "grüße, 世界! \ud83d\ude00"
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    _, answer = await post(client, "/tokenize", {"model": "tiny", "prompt": text})
    assert list(answer) == ["count", "max_model_len", "tokens", "token_strs"]
    assert answer["count"] == len(answer["tokens"]) == -(-len(text.encode()) // tokenizer.TOKEN_BYTES)
    _, back = await post(client, "/detokenize", {"model": "tiny", "tokens": answer["tokens"]})
    assert back == {"prompt": text}


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/load"])
async def test_health_paths_answer(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 200


async def test_errors_are_those_of_vllm(client: aiohttp.ClientSession) -> None:
    status, answer = await post(client, "/v1/completions", {"model": "missing", "prompt": "x"})
    assert (status, answer) == (
        404,
        {
            "error": {
                "message": "The model `missing` does not exist. Valid aliases: tiny.",
                "type": "NotFoundError",
                "param": "model",
                "code": 404,
            }
        },
    )
    for body in (b"{", b"[]", b"", b"\xff", b"[" * 100_000):
        status, answer = await post(client, "/v1/chat/completions", body)
        assert (status, answer["error"]["code"]) == (400, 400), body[:10]
    status, answer = await post(client, "/v1/messages", {"model": "missing", "max_tokens": 1, "messages": []})
    assert (status, answer["type"], answer["error"]["type"]) == (404, "error", "NotFoundError")


@pytest.mark.parametrize(
    ("path", "change", "word"),
    [
        ("/v1/completions", {"prompt": ""}, "empty"),
        ("/v1/completions", {"prompt": None}, "prompt"),
        ("/v1/completions", {"prompt": [-1]}, "token ids"),
        ("/v1/completions", {"prompt": {}}, "prompt"),
        ("/v1/completions", {"max_tokens": 0}, "max_tokens"),
        ("/v1/completions", {"max_tokens": 10**9}, "too large"),
        ("/v1/completions", {"temperature": -1}, "temperature"),
        ("/v1/completions", {"n": 10**6}, "n must be"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [3]}, "message"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 3}]}, "content"),
        ("/v1/embeddings", {"input": "x", "dimensions": 0}, "dimensions"),
        ("/v1/responses", {"input": []}, "input"),
        ("/inference/v1/generate", {"token_ids": ["a"]}, "token"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
    ],
)
async def test_a_bad_value_is_named(client: aiohttp.ClientSession, path: str, change: dict[str, Any], word: str) -> None:
    base = {"model": "tiny", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
    status, answer = await post(client, path, {**base, **change})
    assert status == 400
    assert word in answer["error"]["message"]


async def test_unknown_paths_and_methods_are_told_apart(client: aiohttp.ClientSession) -> None:
    async with client.get("/v2/nothing") as response:
        assert response.status == 404
    async with client.get("/v1/completions") as response:
        assert response.status == 405


async def test_a_prompt_longer_than_the_model_is_refused(client: aiohttp.ClientSession) -> None:
    status, answer = await post(client, "/v1/completions", {"model": "tiny", "prompt": "x" * 4 * 131_073})
    assert status == 400
    assert "maximum context length is 131072" in answer["error"]["message"]


async def test_adapters_are_loaded_and_unloaded_with_the_recorded_answers(client: aiohttp.ClientSession) -> None:
    async def send(verb: str, **body: str | bool) -> tuple[int, str]:
        async with client.post(f"/v1/{verb}_lora_adapter", json=body) as response:
            return response.status, await response.text()

    again = {
        "error": {
            "message": "The lora adapter 'a1' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
            "type": "InvalidUserInput",
            "param": None,
            "code": 400,
        }
    }
    status, text = await send("load", lora_name="a1", lora_path="/lora/a1")
    assert (status, json.loads(text)) == (400, again)
    assert await send("load", lora_name="a2", lora_path="/lora/a2") == (
        200,
        "Success: LoRA adapter 'a2' added successfully.",
    )
    assert (await send("load", lora_name="a2", lora_path="/lora/a2", load_inplace=True))[0] == 200
    status, text = await send("load", lora_name="a3", lora_path="/missing/a3")
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")
    assert (await post(client, "/v1/completions", {"model": "a2", "prompt": "x"}))[0] == 200
    assert (await send("unload", lora_name="a2"))[0] == 200
    status, text = await send("unload", lora_name="a2")
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")
    assert (await post(client, "/v1/completions", {"model": "a2", "prompt": "x"}))[0] == 404


async def test_received_requests_are_remembered_up_to_a_bound(pool: SimPool, client: aiohttp.ClientSession) -> None:
    body = b'{"model":"tiny","prompt":"x"}'
    async with client.post("/v1/completions", data=body, headers={"X-Test": "1"}) as response:
        assert response.headers["x-sim-endpoint"] == pool.addresses[0]
    (entry,) = pool.replicas[0].requests
    assert (entry.path, entry.body, entry.headers["x-test"]) == ("/v1/completions", body, "1")
    assert pool.replicas[0].requests.maxlen == 256
    assert not pool.replicas[1].requests
