"""The least that a scorer in Python does: reads one column and makes one array of it. What a call costs beyond that is the picker's."""

import numpy as np

from warmroute.plugins import Endpoints, Request, scorer


@scorer("bench-scorer")
def bench_scorer(endpoints: Endpoints, request: Request) -> np.ndarray:  # noqa: ARG001 -- every scorer is given it
    """Prefers short queues."""
    return 1.0 / (1.0 + endpoints.queue)
