"""A scorer in Python: what it costs a decision in this process, and a request through each host, beside the same policy without it."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import commands, pick, processes
from harness.results import Json, Settings

ENDPOINTS = 100
SUBJECTS = ("without", "with")
# One request at a time: the difference of two latencies is then the call, and not a queue in front of it.
LOAD = ("--mode", "fds", "--body-bytes", "512", "--streams", "1", "--connections", "1", "--require-destination")

_QUEUE = {"type": "queue-scorer"}
_PYTHON = {"type": "bench-scorer"}


def measure(settings: Settings) -> Json:
    """Single decisions by pytest-benchmark, then paired rounds of both hosts."""
    return {"endpoints": ENDPOINTS, "single": _single(), "runs": list(_hosts(settings))}


def _single() -> Json:
    """Median microseconds of a decision without and with the scorer, and of the scorer's function by itself."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "plugin.json"
        pick.run(commands.plugin_calls(report))
        benchmarks = json.loads(report.read_text())["benchmarks"]
    medians = {benchmark["name"]: benchmark["stats"]["median"] * 1e6 for benchmark in benchmarks}
    return {
        "decisions": benchmarks[0]["stats"]["rounds"],
        "without_us": medians["test_decision[without]"],
        "with_us": medians["test_decision[with]"],
        "function_us": medians["test_function_alone"],
    }


def _hosts(settings: Settings) -> Iterator[Json]:
    seconds = settings.seconds
    with processes.upstreams(commands.upstream(ENDPOINTS)) as (_, endpoints):
        for number in range(settings.rounds):
            for host in commands.HOSTS:
                for subject in SUBJECTS if number % 2 == 0 else reversed(SUBJECTS):
                    with _serve(subject, host, endpoints) as (target, pid):
                        flags = [*LOAD, *settings.timing, "--pid", str(pid)]
                        report = processes.report(commands.extproc_load(target, seconds, *flags), seconds + settings.warmup)
                        yield {"round": number, "host": host, "subject": subject, "report": report}


@contextmanager
def _serve(subject: str, host: str, endpoints: list[str]) -> Iterator[tuple[str, int]]:
    """A picker with or without the scorer, until the end of the block: its address and process id."""
    plugins = [_QUEUE, _PYTHON] if subject == "with" else [_QUEUE]
    configuration = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        # The same producers for both: a scorer in Python asks for the prefix index, which has its own cost.
        "plugins": [*plugins, {"type": "approx-prefix-cache-producer"}, {"type": "inflight-load-producer"}],
        "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": plugin["type"], "weight": 1} for plugin in plugins]}],
    }
    port, health_port, metrics_port = processes.free_ports(3)
    # A call that waits for the machine is to be measured, not skipped.
    flags = (f"--config-text={json.dumps(configuration)}", f"--plugin-module={commands.LEAST_SCORER}", "--plugin-timeout=1s")
    command = commands.picker(host, port, health_port, metrics_port, endpoints, *flags)
    with processes.child(f"picker {subject} the scorer ({host})", command, port) as started:
        yield f"127.0.0.1:{port}", started.pid
        started.check()
