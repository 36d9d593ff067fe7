"""What the tests of `warmroute replay` share."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from warmroute import _core
from warmroute.cli.app import app

from . import simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """As in a terminal: who starts the tests in the background may have Ctrl-C ignored in all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator whose results are known, in place of the engine's."""
    for name in ("Trace", "Progress", "simulate"):
        monkeypatch.setattr(_core, name, getattr(simulator, name), raising=False)


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `warmroute replay` in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("WARMROUTE_TRACES", raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["replay", *arguments])

    return run
