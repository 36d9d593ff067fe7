"""What runs follows the configuration: at the start, and when it changes."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from warmroute.config.errors import ConfigError
from warmroute.config.flags import parse_flags
from warmroute.config.plan import Plan
from warmroute.config.read import Given, read_plan
from warmroute.config.trial import try_plan
from warmroute.host.configured import Configured
from warmroute.kv_events.settings import KvEventsError

from .conftest import Publish
from .support import eventually, stored

FLAGS = parse_flags(["--endpoint=http://127.0.0.1:8000", "--endpoint=http://127.0.0.1:8001"], {})


def plan(directory: Path, *events: dict[str, Any]) -> Plan:
    """A configuration with a producer for each of these `kvEventsConfig`."""
    producers = [
        {"type": "precise-prefix-cache-producer", "name": f"exact-{number}", "parameters": {"kvEventsConfig": given}}
        for number, given in enumerate(events)
    ]
    file = directory / "config.json"
    file.write_text(json.dumps({"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": producers}, indent=1))
    return read_plan(Given(file=file))


@pytest_asyncio.fixture
async def configured(tmp_path: Path) -> AsyncIterator[Configured]:
    """What runs without KV events."""
    running = Configured(FLAGS, plan(tmp_path), lambda _name, _work: None)
    running.start()
    yield running
    await running.stop()


async def test_configuration_with_the_producer_subscribes_and_one_without_it_stops(configured: Configured, publish: Publish, tmp_path: Path) -> None:
    publisher = publish(replay=None)
    port = int(publisher.address.rpartition(":")[2])
    assert configured.kv_events.states() == []
    assert await configured.replace(plan(tmp_path, {"podDiscoveryConfig": {"socketPort": port}}))
    publisher.subscribed().publish(stored(1))
    eventually(lambda: [row["messages"] for row in configured.kv_events.states()] == [1, 0], "the message of the first endpoint")
    assert [row["rank"] for row in configured.kv_events.states()] == [0, 1]
    assert await configured.replace(plan(tmp_path))
    assert configured.kv_events.settings is None
    assert configured.kv_events.states() == []


async def test_address_that_is_taken_refuses_the_change_and_what_ran_goes_on(configured: Configured, tmp_path: Path) -> None:
    await configured.replace(plan(tmp_path, {"zmqEndpoint": "tcp://127.0.0.1:*"}))
    before = configured.plan
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = plan(tmp_path, {"zmqEndpoint": f"tcp://127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(KvEventsError, match="zmqEndpoint: cannot listen"):
            await configured.replace(wanted)
    assert configured.plan is before
    assert configured.kv_events.settings is not None
    assert configured.kv_events.settings.bind == "tcp://127.0.0.1:*"


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([{"zmqEndpoint": "5557"}], r"config\.json:10: plugins\[0\]\.parameters\.kvEventsConfig\.zmqEndpoint: '5557': expected tcp://HOST:PORT"),
        ([{}, {"topicFilter": ""}], r"plugins\[1\]\.parameters\.kvEventsConfig: differs from that of the plugin before it"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, events: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        try_plan(plan(tmp_path, *events), FLAGS)
