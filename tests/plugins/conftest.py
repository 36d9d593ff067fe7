"""A picker in this process whose policy is one plugin in Python beside a built-in scorer."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from epp.conftest import host
from hermetic import messages
from hermetic.conftest import METHOD, metrics_page, pb
from hosts import Grpcio, Native
from warmroute import _core
from warmroute.plugins import registry
from warmroute.plugins.build import build

__all__ = ["host", "pb"]

# Long enough that a busy machine answers in time: tests of what is in time use it.
LONG = 30.0
DESTINATION = "x-gateway-destination-endpoint"


@pytest.fixture(autouse=True)
def _forget_types() -> Iterator[None]:
    """Types that a test registers are gone after it."""
    definitions, loaded = dict(registry._definitions), dict(registry._loaded)
    yield
    for known, before in ((registry._definitions, definitions), (registry._loaded, loaded)):
        known.clear()
        known.update(before)


def policy(type_name: str | None, weight: float | None = 10) -> str:
    """The queue scorer, and the plugin `mine` of that type (`weight` None: a filter)."""
    plugins: list[dict[str, Any]] = [{"type": "queue-scorer"}]
    entries: list[dict[str, Any]] = [{"plugin": "queue-scorer", "weight": 1}]
    if type_name is not None:
        plugins.append({"type": type_name, "name": "mine"})
        entries.append({"plugin": "mine"} | ({} if weight is None else {"weight": weight}))
    return json.dumps({"plugins": plugins, "profiles": [{"name": "default", "plugins": entries}]})


def plugin(type_name: str, budget_seconds: float = LONG, **parameters: Any) -> _core.PythonPlugin:
    """A registered type as the plugin `mine`."""
    definition = registry.find(type_name)
    assert definition is not None
    model = None if definition.parameters is None else definition.parameters.model_validate(parameters)
    return build(definition, "mine", model, budget_seconds)


def add_pods(engine: _core.Engine, count: int) -> None:
    """Pods pod-0, pod-1, … in zones a, b, a, …, each with one waiting request more than the one before: without the plugin pod-0 is best."""
    for index in range(count):
        name = f"pod-{index}"
        engine.upsert_endpoint("default", name, f"192.168.1.{index + 1}", 8000, {"zone": "ab"[index % 2]})
        engine.feed_metrics("default", name, metrics_page(index, index / 10, ()))
    engine.set_synced(synced=True)


class Running:
    """A host, its engine and a client."""

    def __init__(self, host: type, pb: Any, engine: _core.Engine) -> None:
        self.engine = engine
        self._pb = pb
        self._host = host(engine)
        self._channel = grpc.insecure_channel(self._host.address)
        self._process = self._channel.stream_stream(
            METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )

    def send(self, **headers: str) -> Any:
        """A stream with a whole request, answered by `destination`."""
        first = messages.headers(self._pb, x_request_id="id", **headers)
        return self._process(iter([first, messages.body(self._pb, messages.completion("model"))]), timeout=LONG)

    def exchange(self, *subset: str, **headers: str) -> list[Any]:
        """All replies to a whole request, with that subset hint if any, and to the headers of its answer."""
        asked = [messages.headers(self._pb, **headers), messages.body(self._pb, messages.completion("model"))]
        if subset:
            asked = [messages.with_subset(message, *subset) for message in asked]
        return list(self._process(iter([*asked, messages.response_headers(self._pb, status="200")]), timeout=LONG))

    def pick(self, **headers: str) -> str:
        """Name of the pod that a request goes to, or the status it is refused with."""
        return self.destination(self.send(**headers))

    @staticmethod
    def destination(stream: Any) -> str:
        for reply in stream:
            if reply.HasField("immediate_response"):
                return str(reply.immediate_response.status.code)
            for part in (reply.request_headers, reply.request_body):
                for option in part.response.header_mutation.set_headers:
                    if option.header.key == DESTINATION:
                        address = option.header.raw_value.decode() or option.header.value
                        return f"pod-{int(address.split(':')[0].rsplit('.', 1)[1]) - 1}"
        raise AssertionError("no reply names a destination")

    def failures(self) -> dict[str, int]:
        """How often the plugin was skipped, by reason; what the metrics page and `plugin_failures` say must agree."""
        counts = {failure["reason"]: failure["count"] for failure in self.engine.plugin_failures()}
        family = next(family for family in self.engine.stats() if family["name"] == "plugin_failures_total")
        assert {labels[2]: value for labels, value in family["samples"]} == counts
        return counts

    def close(self) -> None:
        self._channel.close()
        self._host.stop()


@pytest.fixture(params=[Native, Grpcio], ids=["native", "grpcio"])
def serve(request, pb) -> Iterator[Callable[..., Running]]:
    """Start the parametrised host on a pool of pods: `serve(type, plugin, weight=10, pods=2)`; further settings are the engine's."""
    running: list[Running] = []

    def start(type_name: str, python_plugin: _core.PythonPlugin, weight: float | None = 10, pods: int = 2, **settings: Any) -> Running:
        engine = _core.Engine(json.dumps(settings), policy(type_name, weight), {"mine": python_plugin})
        add_pods(engine, pods)
        running.append(Running(request.param, pb, engine))
        return running[-1]

    yield start
    for one in running:
        one.close()
