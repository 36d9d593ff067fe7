"""How the gateway starts and ends."""

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from .harness import Gateway, eventually, is_gone, launch, run_to_the_end, running


@pytest.mark.parametrize("name", ["sim", "envoy"])
def test_child_that_dies_ends_the_gateway_with_its_last_lines(name: str) -> None:
    with running("--sim", "2") as gateway:
        os.kill(gateway.pids[name], signal.SIGKILL)
        assert gateway.wait_for_end() == 1
        errors = gateway.errors_at_end()
        assert f"{name} was killed by SIGKILL" in errors
        assert "Its last lines" in errors
        # The logs are kept for whoever looks for the reason.
        logs = Path(gateway.ready["logs"])
        assert (logs / f"{name}.log").is_file()
        shutil.rmtree(logs)
        assert all(is_gone(pid) for pid in gateway.pids.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_all_and_leaves_nothing(number: signal.Signals) -> None:
    with running("--sim", "2") as gateway:
        children = gateway.children()
        assert set(children) >= set(gateway.pids.values())
        gateway.signal(number)
        assert gateway.wait_for_end() == 0
        assert all(is_gone(pid) for pid in children)
        assert not Path(gateway.ready["logs"]).exists()
        assert gateway.errors_at_end() == ""


def test_signal_during_the_start_leaves_nothing() -> None:
    process = launch("--sim", "2", "--port", "0", "--print-json")
    # Any moment will do: nothing is printed before it serves.
    children = eventually(lambda: [child.pid for child in psutil.Process(process.pid).children()], "a child was started")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.communicate()
    assert all(is_gone(pid) for pid in children)


def test_killed_gateway_leaves_nothing() -> None:
    with running("--sim", "2") as gateway:
        children = gateway.children()
        gateway.signal(signal.SIGKILL)
        gateway.wait_for_end()
        eventually(lambda: all(is_gone(pid) for pid in children), "all children are gone")
        shutil.rmtree(gateway.ready["logs"])


@pytest.mark.parametrize(
    ("flag", "others"),
    [
        ("--port", ["--admin-port", "0", "--metrics-port", "0"]),
        ("--admin-port", ["--port", "0"]),
        ("--metrics-port", ["--port", "0"]),
        ("--sim-port", ["--port", "0"]),
    ],
)
def test_port_in_use_is_named_with_its_flag(flag: str, others: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_to_the_end("--sim", "1", flag, str(port), *others)
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1" in done.stderr
    assert f"{flag} PORT" in done.stderr


def test_second_gateway_on_the_same_port_is_refused() -> None:
    with running("--sim", "1") as gateway:
        port = gateway.url.rpartition(":")[2]
        done = run_to_the_end("--sim", "1", "--port", port, "--admin-port", "0", "--metrics-port", "0")
        assert done.returncode == 1
        assert f"Port {port} on 127.0.0.1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--sim N"),
        (["--sim", "1", "--endpoint", "http://127.0.0.1:1"], "only one of"),
        (["--endpoint", "https://127.0.0.1:1"], "https is not supported"),
        (["--endpoint", "http://no-such-host.invalid:1"], "does not resolve"),
        (["--endpoints", "no-such-file.yaml"], "no-such-file.yaml"),
        (["--sim", "1", "--max-body", "many"], "--max-body many"),
        (["--sim", "1", "--port", "9999", "--admin-port", "9999"], "Port 9999 is wanted for"),
        (["--sim", "1", "--listen", "192.0.2.1", "--port", "0"], "Cannot listen on 192.0.2.1"),
        (["--sim", "1", "--listen", "localhost", "--port", "0"], "Cannot listen on 'localhost'"),
        (["--sim", "1", "--policy", "best"], "--policy: 'best' is no policy"),
        (["--sim", "1", "--policy", "reference", "--config-file", "some.yaml"], "only one of --policy and --config-file"),
        (["--sim", "1", "--picker-host", "other"], "--picker-host other: expected one of native, grpcio"),
        (["--sim", "1", "--sim-preset", "tpu"], "--sim-preset tpu: expected one of h100-8b, h100-70b, instant"),
        (["--sim", "1", "--health-path", "health"], "begins with /"),
        (["--sim", "1", "--config-file", "no-such-file.yaml"], "--config-file no-such-file.yaml: No such file"),
        (["--sim", "1", "--access-log", "no-such-folder/log"], "--access-log no-such-folder/log: No such file"),
    ],
)
def test_wrong_usage_is_told_with_status_2(arguments: list[str], said: str) -> None:
    done = run_to_the_end(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_endpoints_that_never_answer_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = run_to_the_end("--endpoint", f"http://127.0.0.1:{port}", "--port", "0", "--ready-timeout", "2", "--log-dir", str(tmp_path))
    assert done.returncode == 1
    assert "No request passed within 2 s" in done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert "health check" in done.stderr
    # The folder that is kept is named.
    assert f"Logs: {tmp_path}" in done.stderr


def test_reader_that_leaves_does_not_end_the_gateway() -> None:
    process = launch("--sim", "1", "--port", "0", "--print-json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    process.stdout.close()
    # Something to tell, to nobody: the picker is still watched and comes back, requests go on.
    os.kill(ready["pids"]["picker"], signal.SIGKILL)
    eventually(lambda: is_gone(ready["pids"]["picker"]), "the picker is dead")
    eventually(lambda: _answers(f"{ready['metrics']}/healthz"), "the picker is back")
    assert httpx.get(f"{ready['gateway']}/v1/models", timeout=10).is_success
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert all(is_gone(pid) for pid in ready["pids"].values())


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_demonstration_shows_each_request() -> None:
    process = launch("--sim", "2", "--port", "0", "--demo")
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if "same beginning again" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    text = "".join(shown) + rest
    assert process.returncode == 0, errors
    assert "curl http://127.0.0.1:" in text
    assert "chat, streamed" in text
    assert "prompt tokens from the cache" in text


def test_access_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with running("--sim", "1", "--access-log", str(log)) as gateway:
        gateway.complete("hello")
        _stop(gateway)
    assert '"path":"/v1/completions"' in log.read_text()


def _stop(gateway: Gateway) -> None:
    gateway.signal(signal.SIGTERM)
    assert gateway.wait_for_end() == 0
