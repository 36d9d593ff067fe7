"""A picker of each host, two model servers, a dead one, and an Envoy with all modes."""

import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hosts import Grpcio, Native
from warmroute import _core

from .gateway import Gateway
from .upstream import Upstream

POLICY = {"plugins": [{"type": "queue-scorer"}], "profiles": [{"name": "default", "plugins": [{"plugin": "queue-scorer"}]}]}


def page(waiting: int) -> bytes:
    return f'vllm:num_requests_waiting{{engine="0"}} {waiting}\n'.encode()


@pytest.fixture(scope="module", params=[Native, Grpcio], ids=["native", "grpcio"])
def setup(request, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """`engine`, `gateway`, `first` (the server that the picker prefers), `second`, `dead` (an address that refuses connections)."""
    engine = _core.Engine(json.dumps({"max_endpoints": 3, "response_usage": True}), json.dumps(POLICY))
    first, second = Upstream(), Upstream()
    # Bound and not listening: refuses connections, and nobody else gets the port.
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    for waiting, upstream in enumerate((first, second)):
        engine.upsert_endpoint("default", str(upstream.port), "127.0.0.1", upstream.port, {})
        engine.feed_metrics("default", str(upstream.port), page(waiting + 1))
    host = request.param(engine)
    dead_port = int(dead.getsockname()[1])
    ports = [first.port, second.port, dead_port]
    gateway = Gateway(tmp_path_factory.mktemp("modes"), int(host.address.rpartition(":")[2]), ports)
    yield SimpleNamespace(engine=engine, gateway=gateway, first=first, second=second, dead=dead_port)
    gateway.close()
    host.stop()
    for upstream in (first, second):
        upstream.close()
    dead.close()


@pytest.fixture
def with_dead_first(setup) -> Iterator[SimpleNamespace]:
    """The server that refuses connections heads the picker's list."""
    setup.engine.upsert_endpoint("default", "dead", "127.0.0.1", setup.dead, {})
    setup.engine.feed_metrics("default", "dead", page(0))
    yield setup
    setup.engine.remove_endpoint("default", "dead")
