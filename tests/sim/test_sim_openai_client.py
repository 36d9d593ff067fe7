"""The `openai` client works against the simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from warmroute.sim import SimPool

pytestmark = pytest.mark.asyncio


@pytest.fixture
def openai_client(pool: SimPool) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{pool.addresses[0]}/v1", api_key="none", max_retries=0)


async def test_chat(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=7)
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (7, "length")
    assert len(answer.choices[0].message.content or "") == 28


async def test_chat_stream_with_usage(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None
    assert len(text) == 4 * usage.completion_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == ["stop"]


async def test_completion_and_its_stream(openai_client: openai.AsyncOpenAI) -> None:
    whole = await openai_client.completions.create(model="a1", prompt="hello", max_tokens=5)
    stream = await openai_client.completions.create(model="a1", prompt="hello", max_tokens=5, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text


async def test_embeddings(openai_client: openai.AsyncOpenAI) -> None:
    answer = await openai_client.embeddings.create(model="tiny", input="hello")
    assert len(answer.data[0].embedding) == 16
    assert sum(value * value for value in answer.data[0].embedding) == pytest.approx(1, rel=1e-5)


async def test_responses_and_their_stream(openai_client: openai.AsyncOpenAI) -> None:
    whole = await openai_client.responses.create(model="tiny", input="hello", max_output_tokens=5)
    assert (whole.status, len(whole.output_text)) == ("incomplete", 20)
    stream = await openai_client.responses.create(model="tiny", input="hello", instructions="be brief", stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == events[-1].response.output_text


async def test_models(openai_client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in openai_client.models.list()] == ["tiny", "a1"]


async def test_an_unknown_model_is_not_found(openai_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Valid aliases: tiny"):
        await openai_client.completions.create(model="missing", prompt="hello")
