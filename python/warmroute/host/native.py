"""Life cycle of the native host: gRPC in Rust threads, no Python on the way of a request."""

import asyncio
from collections.abc import Sequence

from warmroute._core import Engine, NativeServer
from warmroute.host.address import ListenError
from warmroute.host.base import CertificatePair


class NativeHost:
    """A `_core.NativeServer`, from `start` to `stop`."""

    def __init__(
        self,
        engine: Engine | None,
        listen: str,
        *,
        tls: CertificatePair | None = None,
        threads: int = 0,
        max_message_bytes: int = 0,
        tls_min_version: str = "",
        flag: str = "--grpc-port",
        echo_destinations: Sequence[str] = (),
    ) -> None:
        """`engine` None echoes, naming `echo_destinations` in turn; `flag` is what an error about the address names."""
        self._engine = engine
        self._listen = listen
        self._tls = tls
        self._threads = threads
        self._max_message_bytes = max_message_bytes
        self._tls_min_version = tls_min_version
        self._flag = flag
        self._echo_destinations = list(echo_destinations)
        self._server: NativeServer | None = None

    async def start(self) -> None:
        """Serve. Raises ListenError, and ValueError for a bad certificate."""
        try:
            self._server = NativeServer(
                self._engine,
                self._listen,
                tls=None if self._tls is None else (self._tls.certificate, self._tls.key),
                threads=self._threads,
                max_message_bytes=self._max_message_bytes,
                tls_min_version=self._tls_min_version,
                echo_destinations=self._echo_destinations,
            )
        except OSError as error:
            raise ListenError(self._listen, self._flag, error.strerror or str(error)) from error

    @property
    def address(self) -> str:
        """Where it listens, with the real port; empty before `start`."""
        return "" if self._server is None else self._server.address

    def streams(self) -> int:
        """Streams open now."""
        return 0 if self._server is None else self._server.streams()

    def replace_tls(self, pair: CertificatePair) -> None:
        """New connections use this certificate; ValueError when it cannot be used (the old one stays)."""
        if self._server is not None:
            self._server.replace_tls(pair.certificate, pair.key)

    async def stop(self, drain_seconds: float) -> bool:
        """Stop, in a thread: the call waits for open streams."""
        return self._server is None or await asyncio.to_thread(self._server.stop, drain_seconds)
