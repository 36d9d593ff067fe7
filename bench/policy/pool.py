"""Fresh simulated model servers behind a fresh `warmroute up` with a policy, for one run; and what they say of themselves."""

import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import processes
from harness.errors import BenchError
from harness.processes import Child
from harness.results import Json

from policy.workloads import Hardware

REPLICAS = 4
MODEL = "sim"
READY_SECONDS = 40.0
# Series of the picker's page that tell what the policy runs on and what it learnt.
_LEARNT = "policy_"


@dataclass(frozen=True, slots=True)
class Pool:
    """A gateway that serves, its model servers and the processes of both."""

    host: str
    port: int
    replicas: tuple[str, ...]
    """Their addresses, `ip:port`."""
    processes: Mapping[str, tuple[int, ...]]
    """Process ids by what they are: `replicas`, `envoy`, `picker`, `up`."""
    metrics: str
    admin: str

    def cpu_seconds(self) -> dict[str, float]:
        """CPU used so far by each kind of process."""
        return {kind: sum(processes.usage(pid).cpu_seconds for pid in pids) for kind, pids in self.processes.items()}

    def states(self) -> list[Json]:
        """What each replica says of itself: load, and whether it keeps up with its own cost model."""
        return [json.loads(_get(f"http://{address}/sim/state")) for address in self.replicas]

    def preemptions(self) -> int:
        """Preemptions of all replicas so far."""
        return round(sum(_sum(_get(f"http://{address}/metrics").decode(), "vllm:num_preemptions_total") for address in self.replicas))

    def learnt(self) -> dict[str, float]:
        """What the picker's page says of its policy: the signals that it runs on, the rates it learnt. Empty where it says nothing."""
        series = {}
        for line in _get(f"{self.metrics}/metrics").decode().splitlines():
            name, _, value = line.rpartition(" ")
            if not line.startswith("#") and _LEARNT in name.partition("{")[0]:
                series[name] = float(value)
        return series

    def bypassed(self) -> int:
        """Requests that Envoy let pass without the picker: it fails open."""
        stats = json.loads(_get(f"{self.admin}/stats?filter=ext_proc.failure_mode_allowed&format=json"))["stats"]
        return sum(counter["value"] for counter in stats if "value" in counter)


@contextmanager
def running(hardware: Hardware, policy: str) -> Iterator[Pool]:
    """A pool for one run. `policy`: the name of one, or the path of an EndpointPickerConfig (ends with .yaml).

    Raises:
        BenchError: a process did not start.
    """
    with ExitStack() as stack:
        # Started together, and told together to stop: each takes a second of CPU to load, and a moment to end.
        replicas = [stack.enter_context(processes.child(f"replica {number}", _sim(hardware))) for number in range(REPLICAS)]
        addresses = [_announced(replica)["addresses"][0] for replica in replicas]
        gateway = stack.enter_context(processes.child("warmroute up", _up(addresses, policy)))
        for child in (*replicas, gateway):
            stack.callback(child.process.terminate)
        ready = _announced(gateway)
        host, _, port = ready["gateway"].removeprefix("http://").rpartition(":")
        groups = {
            "replicas": tuple(replica.pid for replica in replicas),
            "envoy": (ready["pids"]["envoy"],),
            "picker": (ready["pids"]["picker"],),
            "up": (gateway.pid,),
        }
        yield Pool(host, int(port), tuple(addresses), groups, ready["metrics"], ready["admin"])


def _sim(hardware: Hardware) -> list[str]:
    return [
        *(sys.executable, "-m", "warmroute", "sim", "--replicas=1", "--port=0", f"--model={MODEL}", "--print-json", "--die-with-parent"),
        *(f"--preset={hardware.preset}", f"--speed={hardware.speed:g}", f"--num-gpu-blocks={hardware.blocks}"),
    ]


def _up(addresses: list[str], policy: str) -> list[str]:
    flag = f"--config-file={Path(policy).resolve()}" if policy.endswith((".yaml", ".yml")) else f"--policy={policy}"
    endpoints = [f"--endpoint=http://{address}" for address in addresses]
    return [sys.executable, "-m", "warmroute", "up", "--port=0", "--print-json", flag, *endpoints]


def _announced(child: Child) -> dict[str, Any]:
    """The JSON line by which a process says that it serves."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        for line in child.log.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                document: dict[str, Any] = json.loads(line)
                if document.get("event", "ready") == "ready":
                    return document
        child.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{child.name} is not ready after {READY_SECONDS:.0f} s:\n{child.tail()}")
        time.sleep(0.02)


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own processes'
            content: bytes = response.read()
    except OSError as error:
        raise BenchError(f"{url}: {error}") from error
    return content


def _sum(page: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
