"""The endpoints file changes while the gateway runs."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .harness import SERVED, Gateway, ModelServer, running


def write(path: Path, *servers: ModelServer) -> None:
    """Replace the file as an editor does."""
    entries = [{"name": f"server-{server.port}", "address": "127.0.0.1", "port": str(server.port)} for server in servers]
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"endpoints": entries}))
    temporary.replace(path)


@pytest.fixture
def servers() -> Iterator[tuple[ModelServer, ModelServer]]:
    """Give two model servers."""
    with ModelServer("one") as first, ModelServer("one") as second:
        yield first, second


def served_by(gateway: Gateway, count: int = 24) -> set[str]:
    """Endpoints that serve `count` distinct requests at the same time; all must succeed."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: gateway.complete(f"{number} prompt"), range(count)))
    assert [answer.status_code for answer in answers] == [200] * count
    return {answer.headers[SERVED] for answer in answers}


def test_added_and_removed_endpoints(tmp_path: Path, servers: tuple[ModelServer, ModelServer]) -> None:
    first, second = servers
    path = tmp_path / "endpoints.yaml"
    write(path, first)
    with running("--endpoints", str(path)) as gateway:
        assert served_by(gateway) == {first.address}
        write(path, first, second)
        assert set(gateway.wait_for("endpoints-changed")["endpoints"]) == {first.address, second.address}
        assert served_by(gateway) == {first.address, second.address}
        write(path, second)
        assert gateway.wait_for("endpoints-changed")["endpoints"] == [second.address]
        assert served_by(gateway) == {second.address}


def test_removed_endpoint_finishes_its_open_answer(tmp_path: Path, servers: tuple[ModelServer, ModelServer]) -> None:
    first, second = servers
    path = tmp_path / "endpoints.yaml"
    write(path, first)
    with running("--endpoints", str(path)) as gateway:
        document = {"model": "one", "prompt": "stay", "stream": True}
        with gateway.http.stream("POST", "/v1/completions", json=document) as answer:
            parts = answer.iter_raw()
            received = next(parts)
            write(path, second)
            gateway.wait_for("endpoints-changed")
            assert served_by(gateway) == {second.address}
            first.finish.set()
            received += b"".join(parts)
        assert received.count(b"data: ") == 2


def test_unusable_file_keeps_the_endpoints(tmp_path: Path, servers: tuple[ModelServer, ModelServer]) -> None:
    first, second = servers
    path = tmp_path / "endpoints.yaml"
    write(path, first)
    with running("--endpoints", str(path)) as gateway:
        path.write_text("endpoints: [")
        assert str(path) in gateway.wait_for("endpoints-refused")["message"]
        assert served_by(gateway, 4) == {first.address}
        write(path, second)
        gateway.wait_for("endpoints-changed")
        assert served_by(gateway, 4) == {second.address}


def test_bad_entry_is_skipped_and_told(tmp_path: Path, servers: tuple[ModelServer, ModelServer]) -> None:
    first, _ = servers
    path = tmp_path / "endpoints.yaml"
    write(path, first)
    with running("--endpoints", str(path)) as gateway:
        path.write_text(
            f"endpoints:\n- {{name: good, address: 127.0.0.1, port: '{first.port}'}}\n- {{name: bad, address: not-an-address, port: '1'}}\n",
        )
        assert "not-an-address" in gateway.wait_for("endpoint-skipped")["message"]
        assert served_by(gateway, 4) == {first.address}
