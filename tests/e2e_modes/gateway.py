"""One Envoy with a listener for each pair of body modes, all asking the same picker."""

import copy
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmroute.discovery.endpoints import EndpointRecord
from warmroute.local.bootstrap import Wiring, render, render_endpoints
from warmroute.local.envoy import arguments, find_binary
from warmroute.local.ports import find_free

PATIENCE = 10.0
MAX_BODY = 64 * 1024 * 1024
SUBSET = "x-test-subset"


@dataclass(frozen=True, slots=True)
class Mode:
    """How Envoy shows bodies to the picker."""

    request: str
    response: str
    without_waiting: bool = False
    trailers: bool = False
    retry: bool = True

    def __str__(self) -> str:
        words = [
            self.request,
            *(["sbw"] if self.without_waiting else []),
            self.response,
            *(["trailers"] if self.trailers else []),
            *([] if self.retry else ["once"]),
        ]
        return "-".join(words).lower().replace("full_duplex_streamed", "fds")


FDS = "FULL_DUPLEX_STREAMED"
MODES = (
    Mode("BUFFERED", "NONE"),
    Mode("BUFFERED", "BUFFERED"),
    Mode("BUFFERED", "STREAMED"),
    Mode("BUFFERED_PARTIAL", "NONE"),
    Mode("BUFFERED_PARTIAL", "BUFFERED_PARTIAL"),
    Mode("STREAMED", "NONE"),
    Mode("STREAMED", "STREAMED"),
    Mode("STREAMED", "NONE", without_waiting=True),
    Mode("STREAMED", "STREAMED", without_waiting=True),
    Mode(FDS, "NONE", trailers=True),
    Mode(FDS, FDS, trailers=True),
    Mode("NONE", "NONE"),
)
#: Trailers are shown to the picker. Without retries: Envoy 1.40 sends a full-duplex body that ends with trailers twice where a route has a
#: retry policy (seen with a picker that echoes it once; gone without the policy), so a picker cannot do anything about it.
#: STREAMED without waiting is left out: Envoy holds the trailers back until the header reply, which waits for the end of the body.
TRAILER_MODES = (
    Mode("BUFFERED", "NONE", trailers=True, retry=False),
    Mode("STREAMED", "NONE", trailers=True, retry=False),
    Mode(FDS, "NONE", trailers=True, retry=False),
    Mode(FDS, FDS, trailers=True, retry=False),
)
_ALL = MODES + TRAILER_MODES


def _listener(listener: dict[str, Any], mode: Mode, port: int) -> dict[str, Any]:
    listener = copy.deepcopy(listener)
    listener["name"] = str(mode)
    listener["address"]["socket_address"]["port_value"] = port
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_protocol_options"] = {"enable_trailers": True}
    manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    picker = next(entry for entry in manager["http_filters"] if entry["name"] == "picker")["typed_config"]
    picker["processing_mode"] |= {
        "request_body_mode": mode.request,
        "response_body_mode": mode.response,
        "request_trailer_mode": "SEND" if mode.trailers else "SKIP",
    }
    if not mode.retry:
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            route["route"].pop("retry_policy")
    # A picker that does not answer must fail the test, not be passed over.
    picker["failure_mode_allow"] = False
    picker["send_body_without_waiting_for_header_response"] = mode.without_waiting
    hint = {
        "name": "hint",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [
                {
                    "header": SUBSET,
                    "on_header_present": {
                        "metadata_namespace": "envoy.lb.subset_hint",
                        "key": "x-gateway-destination-endpoint-subset",
                        "type": "STRING",
                    },
                    "remove": True,
                }
            ],
        },
    }
    manager["http_filters"].insert(0, hint)
    return listener


class Gateway:
    """A running Envoy; `ask` sends a request through the listener of a mode."""

    def __init__(self, folder: Path, picker_port: int, upstream_ports: list[int]) -> None:
        first = find_free("127.0.0.1", len(_ALL) + 1)
        self.ports = {mode: first + index for index, mode in enumerate(_ALL)}
        endpoints = folder / "endpoints.json"
        records = [EndpointRecord(namespace="default", name=str(port), address="127.0.0.1", port=port) for port in upstream_ports]
        endpoints.write_text(render_endpoints(records))
        wiring = Wiring(
            listen="127.0.0.1",
            port=first,
            admin_port=first + len(_ALL),
            picker_port=picker_port,
            endpoints_file=endpoints,
            max_body=MAX_BODY,
            health_path="",
            access_log=None,
        )
        document = json.loads(render(wiring))
        resources = document["static_resources"]
        (base,) = resources["listeners"]
        resources["listeners"] = [_listener(base, mode, port) for mode, port in self.ports.items()]
        for cluster in resources["clusters"]:
            # A server that refuses connections on purpose must stay in the list.
            cluster.pop("outlier_detection", None)
        bootstrap = folder / "bootstrap.json"
        bootstrap.write_text(json.dumps(document))
        self.log = folder / "envoy.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(arguments(find_binary(), bootstrap, 1), stdout=log, stderr=log)
        self._admin = wiring.admin_port
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=PATIENCE)
                connection.request("GET", "/ready")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
            except ConnectionError:
                time.sleep(0.02)

    def connect(self, mode: Mode) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.ports[mode], timeout=PATIENCE)

    @contextmanager
    def ask(self, mode: Mode, method: str, path: str, body: bytes | None = None, **headers: str) -> Iterator[http.client.HTTPResponse]:
        connection = self.connect(mode)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            yield connection.getresponse()
        finally:
            connection.close()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
