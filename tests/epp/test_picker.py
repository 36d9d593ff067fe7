"""The picker as a process: starting, serving, draining, ending."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .conftest import DEADLINE_SECONDS, METHOD, eventually

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Stream:
    """An open ext_proc stream on which nothing has been said yet."""

    def __init__(self, channel):
        self._end = threading.Event()
        # Without serializers gRPC carries bytes.
        self.call = channel.stream_stream(METHOD)(self._requests(), timeout=DEADLINE_SECONDS)

    def _requests(self):
        self._end.wait()
        yield from ()

    def finish(self):
        """Half-close; the picker ends the stream with OK."""
        self._end.set()
        with contextlib.suppress(grpc.RpcError):
            list(self.call)
        return self.call.code()


@pytest.fixture
def channel_to():
    with contextlib.ExitStack() as stack:
        # Over a Unix socket gRPC clients take the path for the authority, which HTTP/2 servers in Rust refuse; Envoy names its cluster.
        options = [("grpc.default_authority", "picker")]
        yield lambda address: stack.enter_context(grpc.insecure_channel(address, options=options))


def open_stream(channel, picker):
    """A stream that the picker has seen: it answers initial metadata only once a handler runs, so its count is looked at in the drain."""
    stream = Stream(channel)
    grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
    return stream


def status_of(channel, service):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def test_garbage_ends_the_stream_with_invalid_argument(start_picker, channel_to, host):
    picker = start_picker(f"--host={host}")
    with pytest.raises(grpc.RpcError) as refused:
        list(channel_to(picker.grpc).stream_stream(METHOD)(iter([b"\xff\xff\xff"]), timeout=DEADLINE_SECONDS))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_other_methods_are_unimplemented(start_picker, channel_to, host):
    picker = start_picker(f"--host={host}")
    with pytest.raises(grpc.RpcError) as refused:
        list(channel_to(picker.grpc).stream_stream(f"{METHOD}More")(iter([b""]), timeout=DEADLINE_SECONDS))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_stream_that_says_nothing_ends_with_ok(start_picker, channel_to, host):
    channel = channel_to(start_picker(f"--host={host}").grpc)
    assert open_stream(channel, None).finish() is grpc.StatusCode.OK


def test_unix_socket_is_served(start_picker, channel_to, host, tmp_path):
    path = tmp_path / "picker.sock"
    picker = start_picker(f"--host={host}", f"--grpc-address=unix:{path}")
    assert picker.grpc == f"unix:{path}"
    channel = channel_to(f"unix:{path}")
    assert open_stream(channel, picker).finish() is grpc.StatusCode.OK


def test_unix_socket_left_by_a_killed_picker_is_taken_over(start_picker, channel_to, host, tmp_path):
    path = tmp_path / "picker.sock"
    first = start_picker(f"--host={host}", f"--grpc-address=unix:{path}")
    first.signal(signal.SIGKILL)
    first.wait()
    assert path.exists()
    second = start_picker(f"--host={host}", f"--grpc-address=unix:{path}")
    assert open_stream(channel_to(second.grpc), second).finish() is grpc.StatusCode.OK


def test_drain_serves_open_and_new_streams_for_its_whole_window(start_picker, channel_to, host):
    picker = start_picker(f"--host={host}", "--drain-timeout=3s")
    channel, health = channel_to(picker.grpc), channel_to(picker.health)
    first = open_stream(channel, picker)
    assert status_of(health, "readiness") == SERVING
    picker.signal(signal.SIGTERM)
    eventually(lambda: status_of(health, "readiness") == NOT_SERVING)
    assert status_of(health, "liveness") == SERVING
    assert eventually(lambda: picker.logged("draining"))["streams"] == 1
    second = open_stream(channel, picker)
    assert second.finish() is grpc.StatusCode.OK
    assert first.finish() is grpc.StatusCode.OK
    # No stream is open, and one more is still served: the gateway may not have asked for health yet.
    assert picker.process.poll() is None
    assert open_stream(channel, picker).finish() is grpc.StatusCode.OK
    assert picker.wait() == 0
    assert picker.logged("drained")["seconds"] >= 3.0


def test_drain_ends_at_its_timeout_with_streams_open(start_picker, channel_to, host):
    picker = start_picker(f"--host={host}", "--drain-timeout=300ms")
    stream = open_stream(channel_to(picker.grpc), picker)
    started = time.monotonic()
    picker.signal()
    assert picker.wait() == 0
    assert time.monotonic() - started >= 0.3
    assert picker.logged("stopped with open streams")
    assert stream.finish() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}


def test_second_signal_stops_at_once(start_picker, channel_to, host):
    picker = start_picker(f"--host={host}", "--drain-timeout=1h")
    stream = open_stream(channel_to(picker.grpc), picker)
    picker.signal(signal.SIGINT)
    eventually(lambda: picker.logged("draining"))
    picker.signal(signal.SIGTERM)
    assert picker.wait() == 0
    stream.finish()


def test_drain_timeout_zero_stops_at_once(start_picker, channel_to, host):
    picker = start_picker(f"--host={host}", "--drain-timeout=0s")
    stream = open_stream(channel_to(picker.grpc), picker)
    picker.signal()
    assert picker.wait() == 0
    stream.finish()


@pytest.mark.parametrize("flag", ["--grpc-port", "--grpc-health-port", "--metrics-port"])
def test_port_in_use_is_named_with_its_flag(start_picker, start_process, host, flag):
    picker = start_picker()
    taken = {"--grpc-port": picker.grpc, "--grpc-health-port": picker.health, "--metrics-port": picker.metrics}[flag]
    port = taken.rpartition(":")[2]
    process = start_process(f"--host={host}", "--secure-serving=false", "--endpoint=http://127.0.0.1:9", f"{flag}={port}")
    assert process.wait() == 1
    message = "".join(process.errors)
    assert f"cannot listen on 127.0.0.1:{port} ({flag})" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no endpoints: give --endpoint URL"),
        (("--pool-name=p",), "discovery from Kubernetes by --pool-name is not supported by this version"),
        (("--endpoint=http://10.0.0.1:1", "--grpc-address=unix:relative"), "a Unix socket needs an absolute path"),
        (("--endpoint=http://10.0.0.1:1", "--grpc-address=example.org"), "is no IP address to listen on"),
        (("--endpoint=http://10.0.0.1:1", "--config-text=kind: X"), "--config-text:1: apiVersion: required and missing"),
        (("--endpoint=http://10.0.0.1:1", "--config-file=/no/such"), "/no/such: cannot be read: No such file or directory"),
    ],
)
def test_start_that_cannot_work_says_why_and_ends_with_2(start_process, arguments, message):
    process = start_process(*arguments)
    assert process.wait() == 2
    assert message in "".join(process.errors)
    assert "Traceback" not in "".join(process.errors)


def test_short_refresh_interval_is_raised_with_a_warning(start_picker):
    picker = start_picker("--refresh-metrics-interval=10ms")
    entry = eventually(lambda: picker.logged("--refresh-metrics-interval is too short"))
    assert (entry["level"], entry["used-seconds"]) == ("warn", 0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_picker_ends_with_its_parent():
    script = (
        "import subprocess, sys\n"
        "picker = subprocess.Popen([sys.executable, '-m', 'warmroute', 'epp', '--print-ready', '--die-with-parent', '--bind-address=127.0.0.1', '--grpc-port=0',"
        " '--grpc-health-port=0', '--metrics-port=0', '--secure-serving=false', '--endpoint=http://127.0.0.1:9'], stdout=subprocess.PIPE)\n"
        "picker.stdout.readline()\n"
        "print(picker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait(DEADLINE_SECONDS)
    parent.stdin.close()
    parent.stdout.close()
    eventually(lambda: not _runs(pid))


def _runs(pid):
    """Whether the process is there and no zombie that waits for a parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
