"""Through a real Envoy with one worker: the product against the echo floor behind the same Envoy, and what an SSE chunk costs the picker."""

import http.client
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import commands, extproc, processes
from harness.errors import BenchError
from harness.results import Json, Settings

ENDPOINTS = 8
CONNECTIONS = 16
SIZES = (("8 KB", 8 * 1024), ("64 KB", 64 * 1024), ("400 KB", 400 * 1024))
# As `warmroute up` wires it, and as gateways that force full duplex do.
WIRINGS = ("buffered", "full duplex")
# Two lengths of answers at the same rate of requests: what differs between the runs is the chunks alone.
SSE_CHUNKS = (10, 400)
SSE_RATE = 40
SUBJECTS = ("echo", extproc.NAMING_ECHO, "product")
MAX_BODY = 64 * 2**20
# Start of Envoy, first health checks.
READY_SECONDS = 20.0
_OK = 200
# Envoy's counter of requests that went on without the picker.
FAILED_OPEN = "ext_proc.failure_mode_allowed"


def measure(settings: Settings) -> Json:
    """Paired rounds for each wiring, then the chunks, then the memory of an idle gateway."""
    runs: list[Json] = []
    chunks: list[Json] = []
    with processes.upstreams(commands.upstream(ENDPOINTS)) as (_, endpoints):
        for number in range(settings.rounds):
            for wiring in WIRINGS:
                for subject in SUBJECTS if number % 2 == 0 else reversed(SUBJECTS):
                    labels = {"round": number, "wiring": wiring, "subject": subject}
                    runs += [labels | run for run in _sizes(subject, wiring, endpoints, settings)]
    for number in range(settings.rounds):
        for length in SSE_CHUNKS:
            with processes.upstreams(commands.upstream(ENDPOINTS, "--sse-chunks", str(length), "--sse-interval-ms", "1")) as (_, endpoints):
                chunks.append({"round": number, "chunks": length, "report": _event_streams(endpoints, settings)})
    with processes.upstreams(commands.upstream(100)) as (_, endpoints):
        memory = _idle_memory(endpoints, settings)
    return {"endpoints": ENDPOINTS, "connections": CONNECTIONS, "runs": runs, "chunks": chunks, "memory": memory}


def _sizes(subject: str, wiring: str, endpoints: list[str], settings: Settings) -> Iterator[Json]:
    with gateway(subject, wiring, endpoints) as running:
        for name, body_bytes in SIZES:
            yield {"case": name, "report": running.load(settings, "--body-bytes", str(body_bytes), "--streams", str(CONNECTIONS))}


def _event_streams(endpoints: list[str], settings: Settings) -> Json:
    with gateway("product", "buffered", endpoints) as running:
        return running.load(settings, "--stream", "--rate", str(SSE_RATE))


def _idle_memory(endpoints: list[str], settings: Settings) -> Json:
    with gateway("product", "buffered", endpoints) as running:
        time.sleep(settings.seconds)
        picker, envoy = processes.usage(running.picker_pid), processes.usage(running.envoy_pid)
    return {"endpoints": len(endpoints), "picker_bytes": picker.resident_bytes, "envoy_bytes": envoy.resident_bytes}


@dataclass(frozen=True, slots=True)
class Gateway:
    """Envoy in front of a picker: its address, its admin port, and the two processes."""

    target: str
    admin_port: int
    picker_pid: int
    envoy_pid: int

    def load(self, settings: Settings, *flags: str) -> Json:
        """Run a load; requests that Envoy let pass without the picker (it fails open) count as errors."""
        watched = ["--pid", str(self.picker_pid), "--pid", str(self.envoy_pid), *settings.timing]
        before = self._bypassed()
        report = processes.report(commands.http_load(self.target, settings.seconds, *flags, *watched), settings.seconds + settings.warmup)
        bypassed = self._bypassed() - before
        if bypassed > 0:
            report["errors"]["picker_bypassed"] = bypassed
        return report

    def _bypassed(self) -> int:
        """How often the filter failed open so far."""
        url = f"http://127.0.0.1:{self.admin_port}/stats?filter={FAILED_OPEN}&format=json"
        with urllib.request.urlopen(url, timeout=5) as response:
            counters = json.load(response)["stats"]
        if not counters:
            raise BenchError(f"Envoy has no counter {FAILED_OPEN}")
        return sum(counter["value"] for counter in counters)


@contextmanager
def gateway(subject: str, wiring: str, endpoints: list[str]) -> Iterator[Gateway]:
    """Envoy in front of the product or the echo floor, ready for requests."""
    with extproc.serve(subject, "native", endpoints) as (picker, picker_pid), tempfile.TemporaryDirectory(prefix="warmroute-bench-") as directory:
        port, admin_port = processes.free_ports(2)
        command = _configure(Path(directory), wiring, (port, admin_port, int(picker.rpartition(":")[2])), endpoints)
        with processes.child("envoy", command, port) as envoy:
            _wait_until_answered(envoy, port)
            yield Gateway(f"127.0.0.1:{port}", admin_port, picker_pid, envoy.pid)


def _configure(directory: Path, wiring: str, ports: tuple[int, int, int], endpoints: list[str]) -> list[str]:
    """Write the configuration that `warmroute up` would write, and return Envoy's command line. Ports: gateway, admin page, picker."""
    port, admin_port, picker_port = ports
    try:
        from warmroute.local import bootstrap, envoy  # noqa: PLC0415 - the other sections run without it
        from warmroute.local.endpoints import from_addresses  # noqa: PLC0415
    except ImportError as error:
        raise BenchError(f"the section `envoy` needs the product's gateway: {error}") from error
    servers = [(address, int(number)) for address, _, number in (endpoint.rpartition(":") for endpoint in endpoints)]
    endpoints_file = directory / "endpoints.json"
    endpoints_file.write_text(bootstrap.render_endpoints(from_addresses(servers, "bench")))
    document = json.loads(
        bootstrap.render(
            bootstrap.Wiring(
                listen="127.0.0.1",
                port=port,
                admin_port=admin_port,
                picker_port=picker_port,
                endpoints_file=endpoints_file,
                max_body=MAX_BODY,
                health_path="/health",
                access_log=None,
            )
        )
    )
    if wiring == "full duplex":
        # Envoy takes full duplex bodies only together with the trailers.
        _processing_mode(document).update(request_body_mode="FULL_DUPLEX_STREAMED", request_trailer_mode="SEND")
    configuration = directory / "envoy.json"
    configuration.write_text(json.dumps(document))
    return envoy.arguments(envoy.find_binary(), configuration, 1)


def _processing_mode(document: Json) -> dict[str, Any]:
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    picker = next(entry for entry in manager["http_filters"] if entry["typed_config"]["@type"].endswith("ext_proc.v3.ExternalProcessor"))
    mode: dict[str, Any] = picker["typed_config"]["processing_mode"]
    return mode


def _wait_until_answered(envoy: processes.Child, port: int) -> None:
    """Envoy listens before its clusters are healthy; the first 200 says that a request passes."""
    deadline = time.monotonic() + READY_SECONDS
    status: object = "no answer"
    body = json.dumps({"model": "bench-model", "messages": [{"role": "user", "content": "ready?"}]})
    while time.monotonic() < deadline:
        envoy.check()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            response = connection.getresponse()
            status = f"{response.status} {response.read()[:200]!r}"
            if response.status == _OK:
                return
        except (OSError, http.client.HTTPException) as error:
            status = error
        finally:
            connection.close()
        time.sleep(0.05)
    raise BenchError(f"no request passes the gateway after {READY_SECONDS:.0f} s: {status}\n{envoy.tail()}")
