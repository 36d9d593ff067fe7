"""Fixtures of the tests of the whole gateway."""

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from .harness import Gateway, running

#: No test takes longer, in seconds.
_LIMIT = 90


@pytest.fixture(autouse=True)
def hard_timeout() -> Iterator[None]:
    """Fail a test that hangs."""

    def expire(number: int, frame: FrameType | None) -> None:
        del number, frame
        message = f"the test hung for {_LIMIT} s"
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(_LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Give a gateway on four simulated model servers that offer two models; one for all tests of a file."""
    with running("--sim", "4", "--sim-model", "alpha", "--sim-model", "beta") as started:
        yield started
