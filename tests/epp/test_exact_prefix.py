"""The exact prefix index of a running picker: what a configuration makes of it at the start and when it changes."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kv_events.support import Publisher, stored

from .conftest import DEADLINE_SECONDS, METHOD, eventually
from .test_reload import count, last, write

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "rust/tokenize/tests/data/vllm-0.32"
PAGE = (ROOT / "docs/kv-events.md").read_text()
ENDPOINT = "127.0.0.1:8000"


def configuration(*, tokenizer: dict[str, Any] | None = None, port: int | None = None, **events: Any) -> str:
    plugins: list[dict[str, Any]] = [{"type": "prefix-cache-scorer"}]
    if tokenizer is not None:
        plugins.append({"type": "token-producer", "parameters": tokenizer})
    if port is not None or events:
        settings = {**events} | ({} if port is None else {"podDiscoveryConfig": {"socketPort": port}})
        plugins.append({"type": "precise-prefix-cache-producer", "parameters": {"kvEventsConfig": settings}})
    profiles = [{"name": "default", "plugins": [{"pluginRef": "prefix-cache-scorer"}]}]
    return json.dumps(
        {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": plugins, "schedulingProfiles": profiles}, indent=1
    )


LOCAL = {"local": {"path": str(MODEL)}}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a message, shorter than 16,384 bytes."""
    size = len(content)
    return bytes([number << 3 | 2, *([size] if size < 128 else [size & 127 | 128, size >> 7])]) + content


def request(prompt: str) -> list[bytes]:
    """Headers and body of a completion as ProcessingRequests."""
    body = json.dumps({"model": "tiny", "prompt": prompt}).encode()
    header = field(1, b":path") + field(3, b"/v1/completions")
    return [field(2, field(1, field(1, header))), field(4, field(1, body) + b"\x10\x01")]


class Traffic:
    """Sends requests, one after the other, until it is told to end; each has to be given a destination."""

    def __init__(self, address: str) -> None:
        self.failed: list[Any] = []
        self.sent = 0
        self._ending = threading.Event()
        self._channel = grpc.insecure_channel(address)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def ask(self) -> None:
        process = self._channel.stream_stream(METHOD)
        replies = b"".join(process(iter(request(f"{self.sent % 10} the quick brown fox " * 20)), timeout=DEADLINE_SECONDS))
        self.sent += 1
        if f"{ENDPOINT}".encode() not in replies:
            self.failed.append(replies)

    def _send(self) -> None:
        while not self._ending.is_set():
            try:
                self.ask()
            except grpc.RpcError as error:
                self.failed.append(error)

    def end(self) -> None:
        self._ending.set()
        self._thread.join(DEADLINE_SECONDS)
        self._channel.close()


@pytest.fixture
def publishers() -> Iterator[Callable[..., Publisher]]:
    started: list[Publisher] = []

    def start(**settings: Any) -> Publisher:
        started.append(Publisher(**settings))
        return started[-1]

    yield start
    for publisher in started:
        publisher.close()


def port_of(publisher: Publisher) -> int:
    return int(publisher.address.rpartition(":")[2])


def rows(picker: Any) -> list[dict[str, Any]]:
    return json.loads(picker.get("/debug/kv-events")[0])


def metric(picker: Any, name: str) -> float | None:
    """Sum of a family; None: it is not on the page."""
    lines = [line for line in picker.get("/metrics")[0].splitlines() if line.startswith((f"llm_d_epp_{name} ", f"llm_d_epp_{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines) if lines else None


def test_producer_and_tokenizer_come_change_and_go_while_requests_run(start_picker, host, tmp_path, publishers):
    path = tmp_path / "config.yaml"
    write(path, configuration())
    picker = start_picker(f"--host={host}", f"--endpoint=http://{ENDPOINT}", f"--config-file={path}")
    assert rows(picker) == []
    first, second = publishers(replay=None), publishers(replay=None)
    traffic = Traffic(picker.grpc)
    try:
        write(path, configuration(tokenizer=LOCAL, port=port_of(first)))
        first.subscribed().publish(stored(*range(1, 1001)))
        eventually(lambda: metric(picker, "kv_cache_index_pairs") == 1000)
        eventually(lambda: metric(picker, "kv_cache_index_lookup_requests_total"))
        assert metric(picker, "kv_cache_index_budget_bytes") == 2 * 1024**3
        held = metric(picker, "kv_cache_index_bytes")

        # A tokenizer that is not there is refused; what ran goes on, with what it knows.
        write(path, configuration(tokenizer={"local": {"path": "/no/such/model"}}, port=port_of(first)))
        eventually(lambda: count(picker, "refused") == 1)
        (problem,) = last(picker)["problems"]
        assert "/no/such/model does not exist; name a folder with the model's tokenizer.json in it" in problem
        assert metric(picker, "kv_cache_index_pairs") == 1000
        # Another tokenizer is no reason to forget what engines hold.
        write(path, configuration(tokenizer={"vllm": {"url": "http://127.0.0.1:9"}}, port=port_of(first)))
        eventually(lambda: count(picker, "applied") == 2)
        eventually(lambda: picker.logged("no tokens for prompts"))
        assert metric(picker, "kv_cache_index_pairs") == 1000

        write(path, configuration(tokenizer=LOCAL, port=port_of(second)))
        second.subscribed()
        eventually(lambda: metric(picker, "kv_cache_index_pairs") == 0)
        (row,) = rows(picker)
        assert row["address"] == second.address
        second.publish(stored(1, 2, 3))
        eventually(lambda: metric(picker, "kv_cache_index_pairs") == 3)
        # Until an engine told what it holds, nobody waited for tokens.
        eventually(lambda: picker.logged("tokens for prompts again"))

        write(path, configuration())
        eventually(lambda: rows(picker) == [])
        eventually(lambda: metric(picker, "kv_cache_index_pairs") in {0, None})
        assert (metric(picker, "kv_cache_index_bytes") or 0) < held
    finally:
        traffic.end()
    assert traffic.failed == []
    assert traffic.sent > 0
    # Nothing of this is an error, and the log tells each thing once.
    assert len([entry for entry in picker.log if "tokens for prompts" in entry["msg"]]) == 2


def test_engines_that_connect_to_the_picker_are_known_by_their_topic(start_picker, tmp_path, publishers):
    path = tmp_path / "config.yaml"
    write(path, configuration(tokenizer=LOCAL, zmqEndpoint="tcp://127.0.0.1:*", discoverPods=False))
    picker = start_picker(f"--endpoint=http://{ENDPOINT}", f"--config-file={path}")
    address = picker.logged("receiving KV events")["bind"]
    known, stranger = (publishers(topic=f"kv@{name}@tiny", address=address, replay=None) for name in (ENDPOINT, "10.9.9.9:8000"))
    known.subscribed().publish(stored(1, 2))
    stranger.subscribed().publish(stored(3))
    eventually(lambda: metric(picker, "kv_cache_index_pairs") == 2)
    eventually(lambda: metric(picker, "kv_cache_events_unknown_publisher_messages_total") == 1)
    (row,) = rows(picker)
    assert (row["endpoint"], row["address"], row["messages"]) == (ENDPOINT, None, 1)


def test_start_that_cannot_have_its_tokenizer_says_why_and_one_without_says_what_is_missing(start_process, start_picker):
    refused = start_process(
        f"--endpoint=http://{ENDPOINT}", "--config-text", configuration(tokenizer={"local": {"path": "/no/such/model"}}, port=5557)
    )
    assert refused.wait() == 2
    assert "plugins[1].type: /no/such/model does not exist; name a folder with the model's tokenizer.json in it" in "".join(refused.errors)
    picker = start_picker(f"--endpoint=http://{ENDPOINT}", "--config-text", configuration(port=5557))
    notice = picker.logged("configuration: works approximately")
    assert notice["given"] == '"precise-prefix-cache-producer" without a tokenizer'
    assert notice["use"].startswith("prompts of text are matched by what was sent before; give token-producer local:")


def test_configuration_and_metrics_of_the_documentation_are_there(start_picker):
    documented = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL).group(1)
    assert "/models/Qwen3-32B" in documented
    picker = start_picker(
        f"--endpoint=http://{ENDPOINT}", "--config-text", documented.replace("/models/Qwen3-32B", str(MODEL)), "--deprecated-metrics"
    )
    page = picker.get("/metrics")[0]
    named = set(re.findall(r"`([a-z_]+)(?:\{[a-z_,]+\})?`", PAGE.partition("## Without tokens")[2]))
    metrics = {name for name in named if name.endswith(("_total", "_drift", "_subscribers", "_seconds"))}
    assert len(metrics) >= 10
    assert {name for name in metrics if f"# HELP llm_d_epp_{name} " not in page} == set()
    # Those of the reference, under their old names too.
    for twin in ("kvcache_index_admissions_total", "kvcache_index_lookup_latency_seconds", "kvcache_kvevents_dedup_removed_hashes_suppressed_total"):
        assert f"# HELP {twin} " in page
