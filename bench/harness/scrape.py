"""What it costs to keep 100 endpoints' metrics fresh, and what an idle picker holds in memory."""

import time
import urllib.request

from harness import commands, processes
from harness.results import Json, Settings

ENDPOINTS = 100
# Until the first pages are read, connections open, and a slower rhythm, if there is one, has begun.
SETTLE_SECONDS = 3.0
# The clock tick of /proc is 10 ms: a longer run makes small figures exact.
LONGER = 1.5

# Name of the case, flags of the stand-ins. Busy: the pages change, so that a picker that slows down when nothing happens keeps its rhythm.
CASES = (
    ("full pages", ("--busy", "--ignore-filter")),
    ("filtered pages", ("--busy",)),
    ("idle", ()),
)


def measure(settings: Settings) -> Json:
    """A picker that serves nobody: CPU, pages read and memory, for each kind of pool."""
    runs: list[Json] = []
    for number in range(settings.rounds):
        for name, flags in CASES:
            with processes.upstreams(commands.upstream(ENDPOINTS, *flags)) as (_, endpoints):
                runs.append({"round": number, "case": name, **_watch(endpoints, settings.seconds * LONGER)})
    return {"endpoints": ENDPOINTS, "runs": runs}


def _watch(endpoints: list[str], seconds: float) -> Json:
    port, health_port, metrics_port = processes.free_ports(3)
    command = commands.picker("native", port, health_port, metrics_port, endpoints)
    with processes.child("picker", command, port) as picker:
        time.sleep(SETTLE_SECONDS)
        before, pages_before, start = processes.usage(picker.pid), _pages_served(endpoints[0]), time.monotonic()
        time.sleep(seconds)
        picker.check()
        after, pages_after, elapsed = processes.usage(picker.pid), _pages_served(endpoints[0]), time.monotonic() - start
    return {
        "seconds": elapsed,
        "cores": (after.cpu_seconds - before.cpu_seconds) / elapsed,
        "pages_per_second": (pages_after - pages_before) / elapsed,
        "resident_bytes": after.resident_bytes,
    }


def _pages_served(endpoint: str) -> int:
    """The stand-ins are one process and count their pages together."""
    with urllib.request.urlopen(f"http://{endpoint}/pages-served", timeout=5) as response:
        return int(response.read())
