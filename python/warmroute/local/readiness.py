"""Waits until the gateway really serves: its processes are up and a request passes."""

import asyncio
from collections.abc import Sequence

from warmroute.local import catalogue, fail_open, probe, publish
from warmroute.local.child import Child
from warmroute.local.errors import GatewayError
from warmroute.local.probe import Address, ProbeError

_POLL = 0.02
_REQUEST_TIMEOUT = 5.0
_OK = 200
_SERVER_ERROR = 500
_UNAVAILABLE = 503


class Readiness:
    """The checks at start, under one deadline."""

    def __init__(self, gateway: Address, admin: Address, timeout: float) -> None:
        """`timeout` in seconds from now for all checks together; must be called in a running event loop."""
        self._gateway = gateway
        self._admin = admin
        self._timeout = timeout
        self._deadline = asyncio.get_running_loop().time() + timeout

    async def announced(self, child: Child) -> None:
        """Wait until a child says that it serves. Its death is told by the supervisor.

        Raises:
            GatewayError: too late.

        """
        # A restart does not matter here: a child that never served is not started again.
        await asyncio.wait({child.announced}, timeout=self._left())
        if not child.announced.done():
            message = f"The {child.spec.name} did not become ready within {self._timeout:.0f} s. Its log: {child.log_path}"
            raise GatewayError(message)
        if child.announced.cancelled():
            # The supervisor ends this wait with the reason.
            await asyncio.Event().wait()

    async def request_passes(self, endpoints: Sequence[str]) -> tuple[str, ...]:
        """Wait until `GET /v1/models` through the gateway is answered by a model server; return the models.

        Without any endpoint the gateway's own refusal is all that can be had.

        Raises:
            GatewayError: too late.

        """
        last = "no answer"
        while self._left() > 0:
            try:
                passed_by = await fail_open.count(self._admin)
                answer = await probe.get(self._gateway, "/v1/models", _REQUEST_TIMEOUT)
                if answer.status < _SERVER_ERROR and await fail_open.count(self._admin) > passed_by:
                    # An answer, but the picker had no part in it.
                    last = "one that Envoy got without the picker, whose stream failed"
                    continue
                if answer.status == _OK:
                    return catalogue.names(answer.json())
                if not endpoints and answer.status == _UNAVAILABLE:
                    return ()
                if answer.status < _SERVER_ERROR:
                    # A server that has no such page is a server that answers.
                    return ()
                last = f"{answer.status} {answer.body[:300].decode(errors='replace').strip()}"
            except ProbeError as error:
                last = str(error)
            finally:
                await asyncio.sleep(_POLL)
        message = f"No request passed within {self._timeout:.0f} s (--ready-timeout). The last answer to GET /v1/models: {last}{await self._unhealthy(endpoints)}"
        raise GatewayError(message)

    async def completion_passes(self, model: str) -> None:
        """Wait until a completion of one token comes back.

        Raises:
            GatewayError: too late.

        """
        document = {"model": model, "prompt": "ready?", "max_tokens": 1}
        last = "no answer"
        while self._left() > 0:
            try:
                answer = await asyncio.to_thread(probe.exchange, self._gateway, "POST", "/v1/completions", document, _REQUEST_TIMEOUT)
                if answer.status == _OK:
                    return
                last = f"{answer.status} {answer.body[:300].decode(errors='replace')}"
            except ProbeError as error:
                last = str(error)
            await asyncio.sleep(_POLL)
        message = f"No completion passed within {self._timeout:.0f} s (--ready-timeout). The last answer: {last}"
        raise GatewayError(message)

    def _left(self) -> float:
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def _unhealthy(self, endpoints: Sequence[str]) -> str:
        """What to say about endpoints that Envoy holds for dead."""
        try:
            healthy = await publish.envoy_endpoints(self._admin)
        except ProbeError:
            return ""
        dead = [endpoint for endpoint in endpoints if endpoint not in healthy]
        return f"\nThese endpoints do not pass their health check (--health-path; is a server there?): {', '.join(dead)}" if dead else ""
