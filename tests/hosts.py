"""The two hosts, each in this process: for every suite that drives both over real gRPC."""

import asyncio
import threading
from typing import Any

from warmroute import _core
from warmroute.host.grpcio_host import GrpcioHost


class Native:
    """The native host."""

    def __init__(self, engine: _core.Engine) -> None:
        self._server = _core.NativeServer(engine, "127.0.0.1:0", threads=1)
        self.address = self._server.address

    def stop(self) -> None:
        self._server.stop(0)


class Grpcio:
    """The grpcio host on a loop in a thread."""

    def __init__(self, engine: _core.Engine) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._host = GrpcioHost(lambda: _core.Exchange(engine), "127.0.0.1:0")
        # grpc.aio binds a server to the loop on which it is made.
        self._run(self._host.start())
        self.address = self._host.address

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def stop(self) -> None:
        self._run(self._host.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
