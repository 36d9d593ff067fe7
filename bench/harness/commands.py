"""Every command line that the benches start, in one place."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
INDEX_PACKAGE = REPOSITORY / "bench" / "index" / "Cargo.toml"
INDEX_TARGET = TARGET / "index-bench"
METRICS_PAGE = REPOSITORY / "bench" / "data" / "vllm-0.32-metrics.txt"
LEAST_SCORER = REPOSITORY / "bench" / "harness" / "least_scorer.py"
# Names another build of the load generator.
LOADGEN_VARIABLE = "WARMROUTE_LOADGEN"

HOSTS = ("native", "grpcio")


def loadgen() -> str:
    """The load generator's binary; `cargo build --release -p warmroute-loadgen` makes it."""
    return os.environ.get(LOADGEN_VARIABLE) or str(TARGET / "release" / "warmroute-loadgen")


def picker(host: str, port: int, health_port: int, metrics_port: int, endpoints: Iterable[str], *flags: str) -> list[str]:
    """The product: an endpoint picker in front of `endpoints` (`ip:port`)."""
    return [
        sys.executable,
        "-m",
        "warmroute",
        "epp",
        "--secure-serving=false",
        "--bind-address=127.0.0.1",
        f"--host={host}",
        f"--grpc-port={port}",
        f"--grpc-health-port={health_port}",
        f"--metrics-port={metrics_port}",
        *(f"--endpoint=http://{endpoint}" for endpoint in endpoints),
        *flags,
    ]


def echo(host: str, port: int, destinations: Iterable[str] = ()) -> list[str]:
    """The floor: the same host, which answers without deciding anything; it names `destinations` (`ip:port`) in turn."""
    named = [f"--destination={destination}" for destination in destinations]
    return [sys.executable, "-m", "warmroute", "bench", "echo", "--host", host, "--address", f"127.0.0.1:{port}", *named]


def upstream(servers: int, *flags: str) -> list[str]:
    """Stand-ins for model servers on free ports; prints their addresses."""
    return [loadgen(), "upstream", "--servers", str(servers), "--page", str(METRICS_PAGE), *flags]


def extproc_load(target: str, seconds: float, *flags: str) -> list[str]:
    """Load on an ext_proc server; prints its report."""
    return [loadgen(), "extproc", "--target", target, "--duration", str(seconds), *flags]


def http_load(target: str, seconds: float, *flags: str) -> list[str]:
    """Load on a gateway; prints its report."""
    return [loadgen(), "http", "--target", target, "--duration", str(seconds), *flags]


def single_picks(report: Path) -> list[str]:
    """pytest-benchmark's report of single decisions, with every timing."""
    return _benchmark("test_pick.py", report)


def plugin_calls(report: Path) -> list[str]:
    """pytest-benchmark's report of decisions with and without a scorer in Python."""
    return _benchmark("test_plugin.py", report)


def _benchmark(file: str, report: Path) -> list[str]:
    options = ["--import-mode=importlib", "--benchmark-disable-gc", f"--benchmark-json={report}"]
    return [sys.executable, "-m", "pytest", str(REPOSITORY / "bench" / file), "-q", *options]


def pick_bench() -> list[str]:
    """The engine's own benches of one pick; leave their results under target/."""
    return ["cargo", "bench", "--quiet", "-p", "warmroute-core", "--bench", "schedule"]


def index_build() -> list[str]:
    """The binary that takes one prefix index through the workloads; a package of its own with the peers' crates, to be built into `INDEX_TARGET`."""
    return ["cargo", "build", "--quiet", "--release", "--locked", "--bins", "--manifest-path", str(INDEX_PACKAGE)]


def index_measure(name: str, trace: Path | None, *, verify: bool) -> list[str]:
    """Figures of one prefix index, as JSON."""
    traced = ["--trace", str(trace)] if trace else []
    return [str(INDEX_TARGET / "release" / "measure"), name, *traced, *(["--verify"] if verify else [])]


def index_queries() -> list[str]:
    """Criterion's run of the queries of all prefix indexes; leaves its results under `INDEX_TARGET`."""
    return ["cargo", "bench", "--quiet", "--locked", "--manifest-path", str(INDEX_PACKAGE), "--bench", "queries"]
