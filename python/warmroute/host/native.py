"""Life cycle of the native host: gRPC in Rust threads, no Python on the way of a request."""

import asyncio

from warmroute._core import Engine, NativeServer
from warmroute.host.address import ListenError
from warmroute.host.base import CertificatePair


class NativeHost:
    """A running `_core.NativeServer`."""

    def __init__(self, server: NativeServer) -> None:
        """Use `start`."""
        self._server = server

    @classmethod
    async def start(  # noqa: PLR0913 - one argument a property of the listener
        cls,
        engine: Engine | None,
        address: str,
        *,
        tls: CertificatePair | None = None,
        threads: int = 0,
        max_message_bytes: int = 0,
        tls_min_version: str = "",
        flag: str = "--grpc-port",
    ) -> "NativeHost":
        """Serve; `engine` None echoes. Raises ListenError (naming `flag`) and ValueError for a bad certificate."""
        try:
            server = NativeServer(
                engine,
                address,
                tls=None if tls is None else (tls.certificate, tls.key),
                threads=threads,
                max_message_bytes=max_message_bytes,
                tls_min_version=tls_min_version,
            )
        except OSError as error:
            raise ListenError(address, flag, error.strerror or str(error)) from error
        return cls(server)

    @property
    def address(self) -> str:
        """Where it listens, with the real port."""
        return self._server.address

    def streams(self) -> int:
        """Streams open now."""
        return self._server.streams()

    def replace_tls(self, pair: CertificatePair) -> None:
        """New connections use this certificate; ValueError when it cannot be used (the old one stays)."""
        self._server.replace_tls(pair.certificate, pair.key)

    async def stop(self, drain_seconds: float) -> bool:
        """Stop, in a thread: the call waits for open streams."""
        return await asyncio.to_thread(self._server.stop, drain_seconds)
