"""Sessions stay with the endpoint that served them first, through real Envoy."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from .harness import SERVED, Gateway, eventually, is_gone, running

#: The picker goes by lot, so that only the session can make choices equal again and again.
_CONFIGURATION = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: session-affinity-filter
  parameters: {parameters}
- type: random-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: session-affinity-filter
  - pluginRef: random-picker
"""


def _gateway(directory: Path, parameters: str) -> AbstractContextManager[Gateway]:
    path = directory / "picker.yaml"
    path.write_text(_CONFIGURATION.format(parameters=parameters))
    return running("--sim", "4", f"--config-file={path}", "--allow-experimental-plugins")


@pytest.fixture(scope="module")
def by_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Give a gateway whose answers carry a token of their endpoint."""
    with _gateway(tmp_path_factory.mktemp("token"), "{}") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def by_id(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Give a gateway whose picker remembers the endpoint of each session's id."""
    with _gateway(tmp_path_factory.mktemp("id"), "{strategy: session_id}") as gateway:
        yield gateway


def _tokens(gateway: Gateway) -> dict[str, str]:
    """A token of each endpoint."""
    tokens: dict[str, str] = {}

    def ask() -> bool:
        answer = gateway.complete("a new session")
        tokens[answer.headers[SERVED]] = answer.headers["x-session-token"]
        return set(tokens) == set(gateway.endpoints)

    eventually(ask, "every endpoint has served")
    return tokens


def test_the_token_of_an_answer_leads_back_to_its_endpoint(by_token: Gateway) -> None:
    for endpoint, token in _tokens(by_token).items():
        for number in range(4):
            answer = by_token.complete(f"turn {number}", headers={"x-session-token": token})
            assert (answer.headers[SERVED], answer.headers["x-session-token"]) == (endpoint, token)


def test_a_stream_carries_the_token_too(by_token: Gateway) -> None:
    document = {"model": by_token.models[0], "prompt": "a story", "max_tokens": 4, "stream": True}
    with by_token.http.stream("POST", "/v1/completions", json=document) as answer:
        token, served = answer.headers["x-session-token"], answer.headers[SERVED]
        answer.read()
    assert by_token.complete("more", headers={"x-session-token": token}).headers[SERVED] == served


def test_a_token_outlives_the_picker(by_token: Gateway) -> None:
    tokens = _tokens(by_token)
    before = by_token.pids["picker"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: is_gone(before), "the picker is dead")

    def answers() -> bool:
        # While there is no picker, answers come without a token.
        answer: httpx.Response = by_token.complete("hello")
        return "x-session-token" in answer.headers

    eventually(answers, "a new picker answers")
    for endpoint, token in tokens.items():
        assert by_token.complete("hello again", headers={"x-session-token": token}).headers[SERVED] == endpoint


def test_an_id_stays_with_its_endpoint(by_id: Gateway) -> None:
    served = {}
    for session in range(12):
        answers = [by_id.complete(f"turn {turn}", headers={"x-session-id": f"session-{session}"}) for turn in range(5)]
        assert all("x-session-token" not in answer.headers for answer in answers)
        [served[session]] = {answer.headers[SERVED] for answer in answers}
    assert len(set(served.values())) > 1, "different sessions go to different endpoints"


def test_requests_without_a_session_go_anywhere(by_id: Gateway) -> None:
    served: set[str] = set()

    def ask() -> bool:
        served.add(by_id.complete("no session").headers[SERVED])
        return served == set(by_id.endpoints)

    eventually(ask, "every endpoint has served")
