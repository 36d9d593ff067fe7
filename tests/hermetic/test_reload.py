"""The configuration changes under requests: none fails, none meets a mixture of two configurations, and nothing of the old ones is left."""

import asyncio
import gc
import json
import logging
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from hosts import Grpcio, Native
from warmroute.config.defaults import resolve
from warmroute.config.document import read_document
from warmroute.config.flags import parse_flags
from warmroute.config.load import load_config
from warmroute.host.configured import Configured
from warmroute.host.reload import ConfigFile, Reloader

from .conftest import METHOD, metrics_page
from .messages import request

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\ndataLayer: {injectDefaults: false}\n"
RELOADS = 50
# Requests that each configuration serves at least before the next one comes.
REQUESTS_EACH = 12
CLIENTS = 3


def config(color: str, *scorers: str) -> str:
    """Only endpoints of that colour, rated by these scorers. Both configurations have the prefix scorer, which looks at what was sent before."""
    names = ["label-selector-filter", *scorers, "prefix-cache-scorer"]
    plugins = [{"type": "label-selector-filter", "parameters": {"matchLabels": {color: "yes"}}}, *({"type": name} for name in names[1:])]
    profile = {"name": "default", "plugins": [{"pluginRef": name} for name in names]}
    return f"{HEAD}plugins: {json.dumps(plugins)}\nschedulingProfiles: [{json.dumps(profile)}]\n"


# `both` is of both colours and the last choice of each configuration: only a filter of one with the scorer of the other, or both filters, lead to it.
ENDPOINTS = {"red": (("red",), 0, 0.9), "blue": (("blue",), 9, 0.0), "both": (("red", "blue"), 5, 0.5)}
RED, BLUE = config("red", "queue-scorer"), config("blue", "kv-cache-utilization-scorer")
BAD = RED.replace("queue-scorer", "quue-scorer")


class Running:
    """A configuration file, what runs by it, and a host."""

    def __init__(self, host: type, directory: Path, text: str) -> None:
        self.file = directory / "config.yaml"
        self.file.write_text(text)
        endpoints = directory / "endpoints.json"
        entries = [
            {"name": name, "address": f"10.0.0.{number}", "port": "8000", "labels": dict.fromkeys(labels, "yes")}
            for number, (name, (labels, _, _)) in enumerate(ENDPOINTS.items(), 1)
        ]
        endpoints.write_text(json.dumps({"endpoints": entries}))
        flags = parse_flags([f"--config-file={self.file}", f"--endpoints={endpoints}"], {})
        source = ConfigFile(self.file, lambda: resolve(load_config(read_document(self.file)), flags.refresh_metrics_interval))
        self.configured = Configured(flags, source.load(), lambda _name, _work: None)
        self.configured.start()
        for name, (_, waiting, kv_usage) in ENDPOINTS.items():
            self.engine.feed_metrics("default", name, metrics_page(waiting, kv_usage, ()))
        self.reloader = Reloader(self.configured, source)
        self._task = asyncio.create_task(self.reloader.run())
        self.host = host(self.engine)

    @property
    def engine(self) -> Any:
        return self.configured.engine

    async def reload(self, text: str) -> str:
        """Change the file; the outcome once it is in force or refused."""
        self.file.write_text(text)
        before = self.reloader.state["reloads"]
        self.reloader.request()
        async with asyncio.timeout(20):
            while (now := self.reloader.state["reloads"]) == before:  # noqa: ASYNC110 - the state tells no events
                await asyncio.sleep(0.002)
        return next(outcome for outcome in now if now[outcome] != before[outcome])

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.configured.stop()
        await asyncio.to_thread(self.host.stop)


class Client:
    """Sends requests one after the other from a thread of its own."""

    def __init__(self, address: str, pb: Any, phase: Callable[[], tuple[int, str]], seed: int) -> None:
        self.failures: list[str] = []
        # (phase, expected) of requests that began and ended in one phase, and where they went.
        self.settled: Counter[tuple[tuple[int, str], str]] = Counter()
        self.elsewhere: set[str] = set()
        self._channel = grpc.insecure_channel(address)
        self._process = self._channel.stream_stream(
            METHOD, request_serializer=pb.ProcessingRequest.SerializeToString, response_deserializer=pb.ProcessingResponse.FromString
        )
        self._pb, self._phase, self._seed = pb, phase, seed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            before = self._phase()
            try:
                content = json.dumps({"model": "m", "prompt": f"{self._seed} {number} " + "words " * 400, "max_tokens": 4}).encode()
                replies = list(self._process(iter(request(self._pb, "m", "m", content)), timeout=20))
                where = destination(replies)
            except (grpc.RpcError, AssertionError) as error:
                self.failures.append(repr(error))
                continue
            if self._phase() == before:
                self.settled[before, where] += 1
            else:
                self.elsewhere.add(where)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        self._channel.close()


NAMES = {f"10.0.0.{number}:8000": name for number, name in enumerate(ENDPOINTS, 1)}


def destination(replies: list[Any]) -> str:
    for reply in replies:
        for option in reply.request_headers.response.header_mutation.set_headers:
            if option.header.key == "x-gateway-destination-endpoint":
                return NAMES[option.header.raw_value.decode()]
    raise AssertionError(replies)


@pytest.mark.parametrize("host", [Native, Grpcio], ids=["native", "grpcio"])
async def test_requests_go_on_while_the_configuration_changes(host, pb, tmp_path):
    running = Running(host, tmp_path, RED)
    phase = (0, "red")
    clients = [Client(running.host.address, pb, lambda: phase, seed) for seed in range(CLIENTS)]

    async def served() -> None:
        """Until the phase has served its requests."""
        async with asyncio.timeout(60):
            while sum(count for client in clients for (of, _), count in list(client.settled.items()) if of == phase) < REQUESTS_EACH:
                assert not [client.failures for client in clients if client.failures]
                await asyncio.sleep(0.002)

    outcomes: Counter[str] = Counter()
    try:
        await served()
        indexed = sum(row["indexed_blocks"] for row in running.engine.endpoints())
        in_force = "red"
        for number in range(1, RELOADS + 1):
            text, color = ((BLUE, "blue"), (BAD, in_force), (RED, "red"), (RED, "red"))[(number - 1) % 4]
            phase = (0, "changing")
            outcomes[await running.reload(text)] += 1
            in_force = color
            phase = (number, color)
            await served()
        rows = running.engine.endpoints()
    finally:
        for client in clients:
            await asyncio.to_thread(client.stop)
        await running.stop()
    assert [client.failures for client in clients] == [[]] * CLIENTS
    assert outcomes == {"applied": 25, "refused": 13, "unchanged": 12}
    wrong = {of: count for client in clients for of, count in client.settled.items() if of[0][1] != "changing" and of[0][1] != of[1]}
    assert wrong == {}
    assert set().union(*(client.elsewhere for client in clients)) <= {"red", "blue"}
    # What the index held before the first reload is still there, and more.
    assert sum(row["indexed_blocks"] for row in rows) > indexed > 0
    assert all(row["inflight_requests"] == 0 for row in running.engine.endpoints())


async def test_plugins_that_stay_keep_what_they_remember(pb, tmp_path):
    # The endpoint that has been without a new prompt for longest is the next one: a turn that only goes on while the plugin remembers.
    def config(weight: int) -> str:
        plugins = [{"type": name} for name in ("no-hit-lru-scorer", "lora-affinity-scorer")]
        entries = [{"pluginRef": "no-hit-lru-scorer"}, {"pluginRef": "lora-affinity-scorer", "weight": weight}]
        return f"{HEAD}plugins: {json.dumps(plugins)}\nschedulingProfiles: [{json.dumps({'name': 'default', 'plugins': entries})}]\n"

    running = Running(Native, tmp_path, config(1))
    visited = []
    try:
        with grpc.insecure_channel(running.host.address) as channel:
            process = channel.stream_stream(
                METHOD, request_serializer=pb.ProcessingRequest.SerializeToString, response_deserializer=pb.ProcessingResponse.FromString
            )
            for number in range(12):
                content = json.dumps({"model": "m", "prompt": f"{number} " + "words " * 400}).encode()
                messages = request(pb, "m", "m", content)
                visited.append(destination(await asyncio.to_thread(lambda sent=messages: list(process(iter(sent), timeout=20)))))
                assert await running.reload(config(2 + number % 2)) == "applied"
    finally:
        await running.stop()
    assert set(visited[:3]) == set(ENDPOINTS)
    assert visited == visited[:3] * 4


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def test_reloads_leave_no_memory_thread_or_file_behind(traced, caplog, tmp_path):
    # pytest would keep each record.
    caplog.set_level(logging.CRITICAL, logger="warmroute")
    source = {"type": "metrics-data-source", "parameters": {"port": 9}}
    texts = [
        RED.replace("injectDefaults: false", "injectDefaults: true"),
        BLUE,
        BAD,
        RED.replace("injectDefaults: false", "injectDefaults: true").replace("plugins: [", f"plugins: [{json.dumps(source)}, ", 1),
    ]
    running = Running(Native, tmp_path, RED)
    process = psutil.Process()

    async def reload_all(times: int) -> tuple[int, int, int, int]:
        for _ in range(times):
            for text in texts:
                await running.reload(text)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], process.memory_info().rss, process.num_threads(), process.num_fds()

    try:
        await reload_all(15)
        before = await reload_all(5)
        after = await reload_all(40)
    finally:
        await running.stop()
    grown = [now - then for now, then in zip(after, before, strict=True)]
    # 160 reloads: a plan that stays is some ten kilobytes of Python, a policy or a scraper more than one of Rust.
    assert grown[0] < 40_000, grown
    assert grown[1] < 8 << 20, grown
    # The loop's own pool may still have made its few threads; a scraper that stays would be a thread a reload.
    assert grown[2] <= 6, grown
    assert grown[3] <= 4, grown
