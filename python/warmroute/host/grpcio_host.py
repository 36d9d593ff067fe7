"""The grpcio host: ext_proc in `grpc.aio`, raw bytes in and out of one exchange a stream."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from warmroute.host.base import METHOD, CertificatePair
from warmroute.host.bind import bind
from warmroute.host.health import add_always_serving

# Framing and headers around the largest body, in one message when Envoy buffers it.
_MESSAGE_MARGIN = 1024 * 1024
_NO_LIMIT = -1
# What a message window needs to carry a 64 KB body without waiting for the reader.
_WINDOW_BYTES = 1024 * 1024


class StreamExchange(Protocol):
    """`_core.Exchange` and `_core.EchoExchange`."""

    def receive(self, message: bytes) -> tuple[list[bytes], bool]: ...  # noqa: D102 - as in _core.pyi
    def close(self) -> None: ...  # noqa: D102 - as in _core.pyi


class _ProcessHandler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    """Routes the one method to an exchange a stream; any other method is UNIMPLEMENTED."""

    def __init__(self, open_exchange: Callable[[], StreamExchange]) -> None:
        self.streams = 0
        self.stopping = False
        #: Streams cancelled while stopping.
        self.cut = 0
        self._open_exchange = open_exchange
        # Without serializers gRPC hands over the message's bytes as they are.
        self._method = grpc.stream_stream_rpc_method_handler(self._process)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._method if handler_call_details.method == METHOD else None

    async def _process(self, _requests: object, context: Any) -> None:  # noqa: ANN401 - grpcio carries no types
        exchange = self._open_exchange()
        self.streams += 1
        end_of_stream = grpc.aio.EOF
        try:
            while (message := await context.read()) is not end_of_stream:
                try:
                    replies, ended = exchange.receive(message)
                except ValueError as error:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                for reply in replies:
                    await context.write(reply)
                if ended:
                    return
        except asyncio.CancelledError:
            self.cut += self.stopping
            raise
        finally:
            # Also when the stream is cancelled or the peer is gone: what was reserved is released here, once.
            self.streams -= 1
            exchange.close()


class _Certificates:
    """The certificate that new handshakes get; asked for by gRPC's own threads."""

    def __init__(self, pair: CertificatePair) -> None:
        self._lock = threading.Lock()
        self._next: grpc.ServerCertificateConfiguration | None = None
        self.credentials = grpc.dynamic_ssl_server_credentials(_configuration(pair), self._fetch)

    def replace(self, pair: CertificatePair) -> None:
        configuration = _configuration(pair)
        with self._lock:
            self._next = configuration

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """None keeps the certificate in use."""
        with self._lock:
            configuration, self._next = self._next, None
            return configuration


def _configuration(pair: CertificatePair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)])


class GrpcioHost:
    """A running grpc.aio server."""

    def __init__(self, server: grpc.aio.Server, handler: _ProcessHandler, certificates: _Certificates | None, address: str) -> None:
        """Use `start`."""
        self._server = server
        self._handler = handler
        self._certificates = certificates
        self._address = address

    @classmethod
    async def start(  # noqa: PLR0913 - one argument a property of the listener
        cls,
        open_exchange: Callable[[], StreamExchange],
        address: str,
        *,
        tls: CertificatePair | None = None,
        max_receive_bytes: int | None = None,
        max_send_bytes: int | None = None,
        max_body_bytes: int = 64 * 1024 * 1024,
        health: bool = False,
        flag: str = "--grpc-port",
    ) -> "GrpcioHost":
        """Serve. `health`: gRPC health on the same port, always SERVING. Raises ListenError, naming `flag`."""
        receive = max_body_bytes + _MESSAGE_MARGIN if max_receive_bytes is None else max_receive_bytes
        server = grpc.aio.server(
            options=[
                # A second picker on the same port must fail, not share it.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", receive),
                ("grpc.max_send_message_length", _NO_LIMIT if max_send_bytes is None else max_send_bytes),
                ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
                # A gateway keeps one connection for all its streams; streams live as long as answers.
                ("grpc.max_concurrent_streams", 2**31 - 1),
                ("grpc.http2.max_ping_strikes", 0),
            ]
        )
        handler = _ProcessHandler(open_exchange)
        server.add_generic_rpc_handlers((handler,))
        if health:
            await add_always_serving(server)
        certificates = None if tls is None else _Certificates(tls)
        bound = bind(server, address, flag, None if certificates is None else certificates.credentials)
        await server.start()
        return cls(server, handler, certificates, bound)

    @property
    def address(self) -> str:
        """Where it listens, with the real port."""
        return self._address

    def streams(self) -> int:
        """Streams open now."""
        return self._handler.streams

    def replace_tls(self, pair: CertificatePair) -> None:
        """New connections use this certificate."""
        if self._certificates is not None:
            self._certificates.replace(pair)

    async def stop(self, drain_seconds: float) -> bool:
        """Stop accepting, wait, then cancel what is left."""
        self._handler.stopping = True
        await self._server.stop(drain_seconds)
        return self._handler.cut == 0
