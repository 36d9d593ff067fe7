"""A gateway in a process of its own, and what tests ask of it."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx
import openai
import psutil

#: Longest time for anything that should happen soon, in seconds: generous, for a machine that does other things too.
SOON = 20.0
SERVED = "x-gateway-destination-endpoint-served"
DESTINATION = "x-gateway-destination-endpoint"


def eventually(condition: Callable[[], Any], what: str, timeout: float = SOON) -> Any:
    """Poll until the condition gives something true; fail after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"not within {timeout} s: {what}; last: {value!r}"
            raise AssertionError(message)
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody has waited for yet counts)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def launch(*arguments: str) -> "subprocess.Popen[str]":
    """Start `warmroute up` with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "warmroute", "up", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_to_the_end(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `warmroute up` where it should end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "warmroute", "up", *arguments],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


class Gateway:
    """A running gateway, seen from outside."""

    def __init__(self, *arguments: str) -> None:
        """Start it on free ports and wait until it says that it serves."""
        self.process = launch("--port", "0", "--print-json", *arguments)
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._passed_over: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=self._read_events, daemon=True), threading.Thread(target=self._read_errors, daemon=True)]
        for thread in self._threads:
            thread.start()
        try:
            self.ready = self.wait_for("ready", timeout=40.0)
            #: What it told before it served.
            self.before_ready = list(self._passed_over)
        except BaseException:
            self.process.kill()
            raise
        self.url: str = self.ready["gateway"]
        self.endpoints: list[str] = self.ready["endpoints"]
        self.models: list[str] = self.ready["models"]
        self.pids: dict[str, int] = self.ready["pids"]
        self.http = httpx.Client(base_url=self.url, timeout=SOON, limits=httpx.Limits(max_connections=200))

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    def wait_for(self, event: str, timeout: float = SOON) -> dict[str, Any]:
        """Return the next event of this kind; others before it are passed over."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                found = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                message = f"no event {event!r} within {timeout} s; stderr: {''.join(self._errors)}"
                raise AssertionError(message) from None
            if found is None:
                message = f"the gateway ended before an event {event!r}; stderr: {self.errors_at_end()}"
                raise AssertionError(message)
            if found["event"] == event:
                return found
            self._passed_over.append(found)

    def openai(self) -> openai.OpenAI:
        """A client without retries of its own, so that those of the gateway are seen."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=SOON)

    def complete(self, prompt: str, *, max_tokens: int = 1, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """Send one completion."""
        document = {"model": self.models[0] if self.models else "none", "prompt": prompt, "max_tokens": max_tokens, **fields}
        return self.http.post("/v1/completions", json=document, headers=headers)

    def picker_endpoints(self) -> list[dict[str, Any]]:
        """What the picker knows."""
        answer = httpx.get(f"{self.ready['metrics']}/debug/endpoints", timeout=SOON)
        return list(answer.json())

    def inflight(self) -> int:
        """Requests for which the picker holds load."""
        return sum(endpoint["inflight_requests"] for endpoint in self.picker_endpoints())

    def envoy_counter(self, name: str) -> int:
        """A counter of Envoy."""
        text = httpx.get(f"{self.ready['admin']}/stats", params={"filter": f"^{re.escape(name)}$"}, timeout=SOON).text
        return int(text.partition(": ")[2] or 0)

    def fault(self, endpoint: str, **fault: Any) -> None:
        """Make a simulated model server fail from now on."""
        httpx.post(f"http://{endpoint}/sim/fault", json={"probability": 1.0, **fault}, timeout=SOON).raise_for_status()

    def clear_faults(self) -> None:
        """Let all simulated model servers work again, and wait until Envoy sends to all of them."""
        for endpoint in self.endpoints:
            # One that refuses connections refuses this one too, until its time is up.
            eventually(lambda endpoint=endpoint: self._clear_fault(endpoint), f"fault of {endpoint} cleared")  # type: ignore[misc]
        eventually(lambda: self.usable() >= set(self.endpoints), "all endpoints usable again")

    @staticmethod
    def _clear_fault(endpoint: str) -> bool:
        try:
            return httpx.delete(f"http://{endpoint}/sim/fault", timeout=SOON).is_success
        except httpx.ConnectError:
            return False

    def usable(self) -> set[str]:
        """Endpoints that Envoy neither ejected nor holds for unhealthy."""
        document = httpx.get(f"{self.ready['admin']}/clusters", params={"format": "json"}, timeout=SOON).json()
        cluster = next(cluster for cluster in document["cluster_statuses"] if cluster["name"] == "models")
        usable = set()
        for host in cluster.get("host_statuses", []):
            health = host["health_status"]
            if not health.get("failed_active_health_check") and not health.get("failed_outlier_check"):
                where = host["address"]["socket_address"]
                usable.add(f"{where['address']}:{where['port_value']}")
        return usable

    def signal(self, number: signal.Signals) -> None:
        """Signal the gateway's own process only, as a terminal's Ctrl-C never would."""
        self.process.send_signal(number)

    def wait_for_end(self, timeout: float = SOON) -> int:
        """Return the exit status."""
        return self.process.wait(timeout)

    def errors_at_end(self) -> str:
        """All that it wrote to standard error; it must have ended."""
        self.process.wait(SOON)
        for thread in self._threads:
            thread.join(SOON)
        return "".join(self._errors)

    def children(self) -> list[int]:
        """Process ids of all that it started."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def close(self) -> None:
        """End it, whatever state it is in."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SOON)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(SOON)
            assert self.process.returncode == 0, self.errors_at_end()


@contextmanager
def running(*arguments: str) -> Iterator[Gateway]:
    """Give a gateway for the length of a block."""
    gateway = Gateway(*arguments)
    try:
        yield gateway
    finally:
        gateway.close()


class ModelServer:
    """A model server inside the test: answers at once, or streams until it is told to end."""

    def __init__(self, model: str, port: int = 0) -> None:
        """Listen on this port, or a free one."""
        self.requests = 0
        #: A stream stays open until this is set.
        self.finish = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                body = json.dumps({"object": "list", "data": [{"id": model, "object": "model"}]}).encode()
                self.reply(body if self.path == "/v1/models" else b"{}", 404 if self.path == "/missing" else 200)

            def do_POST(self) -> None:
                server.requests += 1
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if document.get("stream"):
                    self.stream()
                else:
                    self.reply(json.dumps({"object": "text_completion", "choices": [{"text": model}], "model": document["model"]}).encode())

            def reply(self, body: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for number in range(2):
                    if number:
                        server.finish.wait(SOON)
                    event = b'data: {"choices":[{"text":"%d"}]}\n\n' % number
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

        self._connections: list[socket.socket] = []
        connections = self._connections

        class Server(ThreadingHTTPServer):
            def process_request(self, request: Any, client_address: Any) -> None:
                connections.append(request)
                super().process_request(request, client_address)

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end the connections that are open."""
        self.finish.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SOON)
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop listening."""
        self.close()
