"""gRPC health (grpc.health.v1): which services answer, and when they are SERVING.

`readiness`, the ext_proc service, `inference-extension` and the server as a whole ("") are SERVING once discovery has delivered and until the
picker drains. `liveness` is SERVING while the process lives: a picker that waits for its endpoints must not be restarted for it. Unknown
services get what the protocol says: NOT_FOUND from Check, SERVICE_UNKNOWN from Watch (the reference answers any name and refuses Watch).
"""

from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from warmroute.host.base import SERVICE
from warmroute.host.bind import bind

LIVENESS = "liveness"
READINESS_SERVICES = ("", SERVICE, "readiness", "inference-extension")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]  # grpcio-health-checking carries no types
    """Check and Watch of the library, and List."""

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the protocol's name and arguments
        statuses = {service: health_pb2.HealthCheckResponse(status=status) for service, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=statuses)


class HealthServer:
    """The health listener on its own port."""

    def __init__(self) -> None:
        """Not listening before `start`."""
        self._servicer = _Servicer()
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.address = ""

    async def start(self, address: str, flag: str = "--grpc-health-port") -> None:
        """Serve: `liveness` at once, the others NOT_SERVING until `set_ready`. Raises ListenError, naming `flag`."""
        await self.set_ready(ready=False)
        await self._servicer.set(LIVENESS, _SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        self.address = bind(self._server, address, flag)
        await self._server.start()

    async def set_ready(self, *, ready: bool) -> None:
        """Everything but liveness; watchers are told."""
        for service in READINESS_SERVICES:
            await self._servicer.set(service, _SERVING if ready else _NOT_SERVING)

    async def stop(self) -> None:
        """Close the listener; watchers are cut."""
        await self._server.stop(0)


async def add_always_serving(server: grpc.aio.Server) -> None:
    """Health on the ext_proc port (`--health-checking`): SERVING for the ext_proc service while the port answers, as the reference."""
    servicer = _Servicer()
    for service in ("", SERVICE):
        await servicer.set(service, _SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
