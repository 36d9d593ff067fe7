"""Model servers that fail their health check: taken from the picker, and told."""

import asyncio

from warmroute.local import publish
from warmroute.local.endpoints import host_port
from warmroute.local.probe import Address, ProbeError
from warmroute.local.publish import EndpointPublisher
from warmroute.local.report import Reporter

#: Seconds between two looks at what Envoy found.
_INTERVAL = 1.0


async def watch(admin: Address, publisher: EndpointPublisher, reporter: Reporter, health_path: str) -> None:
    """Follow Envoy's health checks until cancelled."""
    failing: set[str] = set()
    while True:
        try:
            healthy = await publish.envoy_endpoints(admin)
        except ProbeError:
            # An Envoy that has gone is told by the supervisor.
            pass
        else:
            now_failing = {host_port(endpoint) for endpoint in publisher.current} - healthy
            # Seen twice: a new endpoint counts as failing until its first check.
            down, up = await publisher.set_down(now_failing & failing)
            failing = now_failing
            _tell(down, up, publisher, reporter, health_path)
        await asyncio.sleep(_INTERVAL)


def _tell(down: frozenset[str], up: frozenset[str], publisher: EndpointPublisher, reporter: Reporter, health_path: str) -> None:
    if up:
        reporter.event("endpoints-up", f"Healthy again: {_listed(up)}.", endpoints=sorted(up))
    if not down:
        return
    text = f"Health check fails (GET {health_path} is not answered with 200): {_listed(down)}."
    if len(publisher.down) == len(publisher.current):
        text += " No endpoint is left, so the picker goes on with all of them. If that page is not there: --health-path PATH, or '' for no checks."
    else:
        text += " The picker goes on without."
    reporter.event("endpoints-down", text, endpoints=sorted(down))


def _listed(addresses: frozenset[str]) -> str:
    return ", ".join(sorted(addresses))
