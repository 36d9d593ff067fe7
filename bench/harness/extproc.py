"""Both hosts of the picker and their echo floors, driven directly by the load generator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness import commands, processes
from harness.results import Json, Settings

ENDPOINTS = 8
SUBJECTS = ("echo", "product")
# An echo that names a destination, in turn: behind a gateway that heeds destinations it leaves the same work as a picker.
NAMING_ECHO = "naming echo"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load."""

    name: str
    body_bytes: int
    streams: int
    chunk_bytes: int = 16_000
    rate: int | None = None

    @property
    def flags(self) -> list[str]:
        """Flags of the load generator."""
        shape = ["--mode", "fds", "--body-bytes", self.body_bytes, "--chunk-bytes", self.chunk_bytes, "--streams", self.streams]
        rate = [] if self.rate is None else ["--rate", self.rate]
        return [str(part) for part in [*shape, *rate]]


# Sizes, streams and chunks as the reference was measured with.
CASES = (
    Case("8 KB", 8 * 1024, 64),
    Case("64 KB", 64 * 1024, 16),
    Case("400 KB", 400 * 1024, 4, chunk_bytes=62_000),
    Case("open loop", 8 * 1024, 64, rate=1000),
)


def measure(settings: Settings) -> Json:
    """Paired rounds: in each one, floor and product of each host, the first of the two alternating."""
    runs: list[Json] = []
    with processes.upstreams(commands.upstream(ENDPOINTS)) as (_, endpoints):
        for number in range(settings.rounds):
            for host in commands.HOSTS:
                for subject in SUBJECTS if number % 2 == 0 else reversed(SUBJECTS):
                    with serve(subject, host, endpoints) as (target, pid):
                        for case in CASES:
                            flags = [*case.flags, *settings.timing, "--pid", str(pid)]
                            if subject == "product":
                                flags.append("--require-destination")
                            report = processes.report(commands.extproc_load(target, settings.seconds, *flags), settings.seconds + settings.warmup)
                            runs.append({"round": number, "host": host, "subject": subject, "case": case.name, "report": report})
    return {"endpoints": ENDPOINTS, "runs": runs}


@contextmanager
def serve(subject: str, host: str, endpoints: list[str]) -> Iterator[tuple[str, int]]:
    """The product or its floor, until the end of the block: its address and process id."""
    port, health_port, metrics_port = processes.free_ports(3)
    if subject == "product":
        command = commands.picker(host, port, health_port, metrics_port, endpoints)
    else:
        command = commands.echo(host, port, endpoints if subject == NAMING_ECHO else ())
    with processes.child(f"{subject} ({host})", command, port) as started:
        yield f"127.0.0.1:{port}", started.pid
        started.check()
