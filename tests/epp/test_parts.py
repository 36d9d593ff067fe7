"""Logs, the scrape monitor, the decision log, and the command line as a whole."""

import asyncio
import json
import logging
import subprocess
import sys

import pytest

from warmroute import logging as warmroute_logging
from warmroute.host import picker
from warmroute.host.decision_log import DecisionLog
from warmroute.logging import fields, log_at
from warmroute.scrape.monitor import ScrapeMonitor


@pytest.fixture
def log_lines(capsys):
    """Logs as they go to stderr, with the logger's state put back afterwards."""
    package, root = logging.getLogger("warmroute"), logging.getLogger()
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in (package, root)]
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("verbosity", "zap_log_level", "shown"),
    [
        (2, "", ["info", "warn"]),
        (3, "", ["info", "info", "warn"]),
        (4, "", ["info", "info", "debug", "warn"]),
        (5, "", ["info", "info", "debug", "trace", "warn"]),
        (0, "", ["warn"]),
        (5, "info", ["info", "warn"]),
        (2, "debug", ["info", "info", "debug", "warn"]),
        (2, "error", []),
        (2, "5", ["info", "info", "debug", "trace", "warn"]),
    ],
)
def test_verbosity_decides_what_is_logged_and_how_it_is_called(log_lines, verbosity, zap_log_level, shown):
    warmroute_logging.configure(verbosity, zap_log_level)
    logger = logging.getLogger("warmroute.test")
    for at in (2, 3, 4, 5):
        log_at(logger, at, "x")
    logger.warning("y")
    assert [line["level"] for line in log_lines()] == shown


def test_log_line_carries_caller_fields_and_error(log_lines):
    warmroute_logging.configure(2)
    try:
        raise OSError("broken")  # noqa: TRY301 - what is logged needs a trace
    except OSError:
        logging.getLogger("warmroute.test").exception("it failed", extra=fields(x_request_id="abc", path=__file__))
    (line,) = log_lines()
    assert line["ts"].endswith("Z")
    assert line["caller"].startswith("test_parts.py:")
    assert (line["level"], line["msg"], line["x-request-id"], line["error"]) == ("error", "it failed", "abc", "OSError: broken")
    assert "Traceback" in line["stacktrace"]


def state(address="a", ok=True, failures=0, filtered=True, error=""):
    told = {"address": address, "ok": ok, "error": error, "filtered": filtered, "failures": failures, "scrapes": 1}
    return told | {"source": "metrics-data-source", "source_type": "metrics-data-source", "filter_wanted": True, "tls_error": "", "extractors": []}


def test_scrape_failures_are_counted_without_going_back():
    rows = []
    monitor = ScrapeMonitor(lambda: rows)
    for rows[:], total in (
        ([state(failures=3)], 3),
        ([state(failures=5), state("b", failures=1)], 6),
        ([state("b", failures=1)], 6),
        ([state("a", failures=2)], 8),
    ):
        monitor.look()
        assert monitor.families()[0].samples[0].value == total


def test_scrape_troubles_are_logged_once_per_change(caplog):
    caplog.set_level("INFO", logger="warmroute")
    logging.getLogger("warmroute").propagate = True
    rows = [state()]
    monitor = ScrapeMonitor(lambda: rows)
    for rows[:] in (
        [state()],
        [state(ok=False, error="refused")],
        [state(ok=False, error="refused")],
        [state(filtered=False)],
        [state(filtered=False)],
    ):
        monitor.look()
    assert [record.message for record in caplog.records] == [
        "metrics page cannot be read",
        "metrics page is read again",
        "model server does not filter its metrics page; reading all of it",
    ]


def test_certificate_files_that_cannot_be_used_are_told_once_a_source(caplog):
    caplog.set_level("INFO", logger="warmroute")
    logging.getLogger("warmroute").propagate = True
    rows = []
    monitor = ScrapeMonitor(lambda: rows)
    for error in ("", "caCertPath: x", "caCertPath: x", "", "caCertPath: y"):
        rows[:] = [state("a") | {"tls_error": error}, state("b") | {"tls_error": error}]
        monitor.look()
    assert [record.fields["error"] for record in caplog.records] == ["caCertPath: x", "caCertPath: y"]


class Decisions:
    """An engine that keeps its last three decisions."""

    def __init__(self):
        self.made = []

    def decide(self, *names):
        self.made += [{"request_id": name, "model": "m", "prompt_tokens": 1, "destination": "d"} for name in names]

    def decisions(self, limit=20):
        return self.made[::-1][:limit]


def test_each_decision_is_logged_once_with_its_request_id(caplog):
    caplog.set_level("DEBUG", logger="warmroute")
    logging.getLogger("warmroute").propagate = True
    engine = Decisions()
    log = DecisionLog(engine, 3)
    engine.decide("a", "b")
    log.look()
    log.look()
    engine.decide("c")
    log.look()
    assert [record.fields["x-request-id"] for record in caplog.records] == ["a", "b", "c"]
    engine.decide("d", "e", "f", "g")
    log.look()
    assert [record.levelname for record in caplog.records[3:]] == ["WARNING", "DEBUG", "DEBUG", "DEBUG"]


async def test_background_work_that_fails_starts_again(caplog, monkeypatch):
    monkeypatch.setattr(picker, "_RESTART_SECONDS", 0)
    logging.getLogger("warmroute").propagate = True
    runs = []
    again = asyncio.Event()

    async def work():
        runs.append(None)
        if len(runs) == 1:
            raise KeyError("missing")
        again.set()

    task = asyncio.create_task(picker._keep_running("test", work))
    await asyncio.wait_for(again.wait(), 10)
    task.cancel()
    assert [record.message for record in caplog.records] == ["background work failed; starting it again"]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "warmroute", *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_overview_names_every_command():
    answer = run("--help")
    assert answer.returncode == 0
    assert all(name in answer.stdout for name in ("up", "epp", "check", "sim", "bench"))


def test_mistyped_command_gets_a_suggestion():
    answer = run("epq")
    assert answer.returncode == 2
    assert "'epp'" in answer.stderr


def test_mistyped_flag_gets_a_suggestion_and_status_2():
    answer = run("epp", "--grpc-prot=1")
    assert answer.returncode == 2
    assert answer.stderr == 'warmroute epp: unknown flag --grpc-prot (did you mean "--grpc-port"?)\n'


def test_overview_and_mistakes_import_neither_grpc_nor_pydantic():
    script = "import sys; import warmroute.cli, warmroute.cli.app; print([name for name in ('grpc', 'pydantic', 'cryptography', 'aiohttp') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize("host_name", ["native", "grpcio"])
def test_bench_echo_prints_its_address_and_ends_on_sigterm(host_name):
    command = [sys.executable, "-m", "warmroute", "bench", "echo", "--host", host_name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "serving"
        assert ready["grpc"].startswith("127.0.0.1:")
        process.terminate()
        assert process.wait(20) == 0
