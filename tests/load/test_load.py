"""Ten seconds of load on each host: no error, no stream, task or reservation left behind, bounded growth of memory.

The load generator is the one of `bench/` (rust/loadgen); it checks each answer: exactly one end of stream, every byte echoed, a destination set.
Nothing here is a timed test: only counts are asserted.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

LOADGEN = Path(os.environ.get("WARMROUTE_LOADGEN", Path(__file__).parents[2] / "target" / "release" / "warmroute-loadgen"))
ENDPOINTS = 4
# Counters, label sets and the prefix index fill up in the first seconds; afterwards a leak of one reservation or stream a request would show as
# hundreds of bytes a request, tens of megabytes in the measured phase.
ALLOWED_GROWTH_BYTES = 24 << 20


@pytest.fixture(params=["native", "grpcio"])
def picker(request) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    assert LOADGEN.exists(), "build the load generator first: make test does, or cargo build --release -p warmroute-loadgen"
    upstream = subprocess.Popen([LOADGEN, "upstream", "--servers", str(ENDPOINTS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    addresses = json.loads(upstream.stdout.readline())["addresses"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "warmroute",
            "epp",
            f"--host={request.param}",
            "--secure-serving=false",
            "--bind-address=127.0.0.1",
            "--grpc-port=0",
            "--grpc-health-port=0",
            "--metrics-port=0",
            "--print-ready",
            "--die-with-parent",
            *(f"--endpoint=http://{address.removeprefix('http://')}" for address in addresses),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    yield psutil.Process(process.pid), json.loads(process.stdout.readline())
    process.kill()
    upstream.kill()
    process.wait()
    upstream.wait()


def load(address: str, out: Path, seconds: float, *options: str) -> dict:
    command = [LOADGEN, "extproc", "--target", address, "--require-destination", "--warmup", "0", "--duration", str(seconds), "--json", out, *options]
    # 64 streams on two busy cores may wait long; what never answers still counts as an error.
    subprocess.run([*command, "--timeout", "30"], check=True, capture_output=True, timeout=seconds + 60)
    return json.loads(out.read_text())


def endpoints(metrics: str) -> list[dict]:
    with urllib.request.urlopen(f"http://{metrics}/debug/endpoints", timeout=10) as answer:
        return json.load(answer)


def metric(metrics: str, name: str) -> float:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def test_ten_seconds_of_load_leave_nothing_behind(picker, tmp_path):
    process, ready = picker
    out = tmp_path / "load.json"
    load(ready["grpc"], out, 3, "--streams", "64", "--body-bytes", "8192", "--response=body")
    before = process.memory_info().rss, process.num_threads(), process.num_fds()
    results = [
        load(ready["grpc"], out, 4, "--streams", "64", "--body-bytes", "8192", "--response=body"),
        load(ready["grpc"], out, 2, "--streams", "16", "--body-bytes", "65536"),
        load(ready["grpc"], out, 2, "--streams", "32", "--body-bytes", "8192", "--mode", "buffered", "--response=headers"),
        load(ready["grpc"], out, 2, "--rate", "300", "--body-bytes", "400000"),
    ]
    assert [result["errors"] for result in results] == [{}] * 4
    assert all(result["requests"] > 100 for result in results)

    deadline = time.monotonic() + 10
    while any(row["inflight_requests"] or row["inflight_tokens"] or row["prefill_tokens"] for row in endpoints(ready["metrics"])):
        assert time.monotonic() < deadline, endpoints(ready["metrics"])
        time.sleep(0.05)
    assert metric(ready["metrics"], "llm_d_epp_request_running") == 0
    rows = endpoints(ready["metrics"])
    assert len(rows) == ENDPOINTS
    assert all(row["picks"] > 0 for row in rows)

    after = process.memory_info().rss, process.num_threads(), process.num_fds()
    assert after[0] - before[0] < ALLOWED_GROWTH_BYTES
    assert after[1] - before[1] <= 1
    assert after[2] - before[2] <= 8
