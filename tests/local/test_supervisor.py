"""Processes that live, die and are started again."""

import asyncio
import sys
from pathlib import Path

import pytest

from warmroute.local import child as child_module
from warmroute.local.child import BoundedLog, Child, ChildSpec
from warmroute.local.errors import ChildDiedError, GatewayError
from warmroute.local.supervisor import Supervisor

_SERVE = 'import sys, time; print(\'{"event": "serving"}\', flush=True); time.sleep(60)'


def python(code: str, *, restart: bool = False) -> ChildSpec:
    return ChildSpec("worker", [sys.executable, "-c", code], restart=restart)


def ignore(child: Child, status: str) -> None:
    del child, status


async def test_first_json_line_is_the_announcement(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ignore)
    child = await supervisor.start(python(f"print('hello')\n{_SERVE}"))
    assert await asyncio.wait_for(child.announced, 20) == {"event": "serving"}
    await supervisor.stop()
    assert not child.is_running
    assert b"hello" in child.log_path.read_bytes()


async def test_death_ends_the_work_with_the_last_lines(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ignore)
    await supervisor.start(python("import sys; sys.exit('out of memory')"))
    with pytest.raises(ChildDiedError, match="worker ended with status 1") as caught:
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 20)
    assert caught.value.tail == ["out of memory"]
    await supervisor.stop()


async def test_child_that_never_served_is_not_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ignore)
    await supervisor.start(python("import sys; sys.exit('unknown flag')", restart=True))
    with pytest.raises(ChildDiedError, match="unknown flag"):
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 20)
    await supervisor.stop()


async def test_child_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    restarts: list[str] = []
    supervisor = Supervisor(tmp_path, lambda _, status: restarts.append(status))
    await supervisor.start(python("print('{}', flush=True); raise SystemExit(3)", restart=True))
    with pytest.raises(ChildDiedError, match="ended with status 3 5 times within 30 s"):
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 30)
    assert restarts == ["ended with status 3"] * 4
    await supervisor.stop()


async def test_child_whose_file_has_become_unusable_tells_why_with_each_restart(tmp_path: Path) -> None:
    once = tmp_path / "once"
    restarts: list[str] = []
    supervisor = Supervisor(tmp_path, lambda _, status: restarts.append(status))
    code = f"""\
import os, pathlib, signal, sys
once = pathlib.Path({str(once)!r})
if once.exists():
    sys.stderr.write('c.yaml:6: no such type\\n')
    sys.exit(2)
once.touch()
print('{{}}', flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    await supervisor.start(python(code, restart=True))
    with pytest.raises(ChildDiedError, match="worker ended 5 times within 30 s, at last it ended with status 2"):
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 30)
    assert restarts == ["was killed by SIGKILL", *["ended with status 2 (c.yaml:6: no such type)"] * 3]
    await supervisor.stop()


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmroute.local.supervisor.STOP_GRACE", 0.2)
    supervisor = Supervisor(tmp_path, ignore)
    child = await supervisor.start(python(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{_SERVE}"))
    await asyncio.wait_for(child.announced, 20)
    await asyncio.wait_for(supervisor.stop(), 20)
    assert not child.is_running


async def test_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ignore)
    with pytest.raises(GatewayError, match="no-such-program"):
        await supervisor.start(ChildSpec("worker", ["no-such-program"]))


async def test_output_without_line_ends_is_kept_in_pieces(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ignore)
    child = await supervisor.start(python("print('x' * 1_000_000, flush=True)"))
    with pytest.raises(ChildDiedError):
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 20)
    assert all(len(line) <= 16_384 for line in child.tail)
    await supervisor.stop()


async def test_restart_that_cannot_be_told_ends_the_work(tmp_path: Path) -> None:
    def tell(child: Child, status: str) -> None:
        raise BrokenPipeError

    supervisor = Supervisor(tmp_path, tell)
    await supervisor.start(python("print('{}', flush=True)", restart=True))
    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 20)
    await supervisor.stop()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
async def test_full_disk_does_not_block_the_child(tmp_path: Path) -> None:
    (tmp_path / "worker.log").symlink_to("/dev/full")
    supervisor = Supervisor(tmp_path, ignore)
    # Far more than a pipe holds.
    child = await supervisor.start(python("print('x\\n' * 1_000_000, flush=True); print('{}', flush=True); import sys; sys.exit('done')"))
    with pytest.raises(ChildDiedError):
        await asyncio.wait_for(supervisor.unless_failed(asyncio.Event().wait()), 30)
    assert child.tail[-1] == "done"
    await supervisor.stop()


def test_log_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_MAX_LOG", 1_000)
    log = BoundedLog(tmp_path / "worker.log")
    for _ in range(100):
        log.write(b"x" * 100)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_500
