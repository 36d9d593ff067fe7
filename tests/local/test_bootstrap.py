"""Envoy's configuration, judged by Envoy."""

import json
import subprocess
from pathlib import Path

import pytest

from warmroute.local import bootstrap, endpoints, envoy


def wiring(directory: Path, *, health_path: str = "/health", access_log: Path | None = None) -> bootstrap.Wiring:
    file = directory / "endpoints.json"
    file.write_text(bootstrap.render_endpoints(endpoints.from_addresses([("127.0.0.1", 1), ("::1", 2)], "server")))
    return bootstrap.Wiring("127.0.0.1", 18_080, 18_081, 18_082, file, 2**26, health_path, access_log)


@pytest.mark.parametrize("health_path", ["/health", ""])
def test_envoy_accepts_the_configuration(tmp_path: Path, health_path: str) -> None:
    path = tmp_path / "envoy.json"
    path.write_text(bootstrap.render(wiring(tmp_path, health_path=health_path, access_log=tmp_path / "access.log")))
    command = [*envoy.arguments(envoy.find_binary(), path, 1), "--mode", "validate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_clients_header_is_removed_before_anything_else_sees_it(tmp_path: Path) -> None:
    text = bootstrap.render(wiring(tmp_path))
    manager = json.loads(text)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    mutation = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    assert mutation == [{"remove": "x-gateway-destination-endpoint"}]


def test_without_a_health_path_nothing_is_checked(tmp_path: Path) -> None:
    clusters = json.loads(bootstrap.render(wiring(tmp_path, health_path="")))["static_resources"]["clusters"]
    assert "health_checks" not in clusters[0]


def test_no_endpoints_is_a_valid_set() -> None:
    assignment = json.loads(bootstrap.render_endpoints([]))["resources"][0]
    assert assignment["endpoints"] == []
