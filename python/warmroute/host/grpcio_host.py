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
from warmroute.host.waiting import Work, WorkPool

# Framing and headers around the largest body, in one message when Envoy buffers it.
_MESSAGE_MARGIN = 1024 * 1024
_NO_LIMIT = -1
# What a message window needs to carry a 64 KB body without waiting for the reader.
_WINDOW_BYTES = 1024 * 1024


class StreamExchange(Protocol):
    """`_core.Exchange` and `_core.EchoExchange`."""

    def receive(self, message: bytes) -> tuple[list[bytes], bool | Work]:
        """Replies to send in order, and what follows; ValueError for bytes that are no message.

        True: end the stream; False: read on; or what to wait for before anything else is read.
        """

    def close(self, code: int | None = None) -> None:
        """Release what was reserved; `code`: gRPC status of a stream that the host ended, None where the peer is gone."""


class _ProcessHandler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    """Routes the one method to an exchange a stream; any other method is UNIMPLEMENTED."""

    def __init__(self, open_exchange: Callable[[], StreamExchange]) -> None:
        self.streams = 0
        self.stopping = False
        #: Streams cancelled while stopping.
        self.cut = 0
        self.work = WorkPool()
        self._open_exchange = open_exchange
        # Without serializers gRPC hands over the message's bytes as they are.
        self._method = grpc.stream_stream_rpc_method_handler(self._process)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._method if handler_call_details.method == METHOD else None

    async def _process(self, _requests: object, context: Any) -> None:
        exchange = self._open_exchange()
        self.streams += 1
        end_of_stream = grpc.aio.EOF
        code: int | None = None
        try:
            while (message := await context.read()) is not end_of_stream:
                try:
                    replies, then = exchange.receive(message)
                except ValueError as error:
                    code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                for reply in replies:
                    await context.write(reply)
                while not isinstance(then, bool):
                    replies, then = await self.work.done(then)
                    for reply in replies:
                        await context.write(reply)
                if then:
                    break
            # A stream that the peer has reset reads like one that it has ended, and gRPC may not know better yet: it then counts as OK.
            if not context.cancelled():
                code = grpc.StatusCode.OK.value[0]
        except asyncio.CancelledError:
            self.cut += self.stopping
            raise
        finally:
            # Also when the stream is cancelled or the peer is gone: what was reserved is released here, once.
            self.streams -= 1
            exchange.close(code)


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
    """A grpc.aio server, from `start` to `stop`."""

    def __init__(
        self,
        open_exchange: Callable[[], StreamExchange],
        listen: str,
        *,
        tls: CertificatePair | None = None,
        max_receive_bytes: int | None = None,
        max_send_bytes: int | None = None,
        max_body_bytes: int = 64 * 1024 * 1024,
        health: bool = False,
        flag: str = "--grpc-port",
    ) -> None:
        """`health`: gRPC health on the same port, always SERVING. `flag` is what an error about the address names."""
        self._handler = _ProcessHandler(open_exchange)
        self._listen = listen
        self._certificates = None if tls is None else _Certificates(tls)
        self._max_receive_bytes = max_body_bytes + _MESSAGE_MARGIN if max_receive_bytes is None else max_receive_bytes
        self._max_send_bytes = _NO_LIMIT if max_send_bytes is None else max_send_bytes
        self._health = health
        self._flag = flag
        self._address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve on the running loop. Raises ListenError."""
        server = grpc.aio.server(
            options=[
                # A second picker on the same port must fail, not share it.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._max_receive_bytes),
                ("grpc.max_send_message_length", self._max_send_bytes),
                ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
                # A gateway keeps one connection for all its streams, and a stream lives as long as its answer.
                ("grpc.max_concurrent_streams", 2**31 - 1),
            ]
        )
        server.add_generic_rpc_handlers((self._handler,))
        if self._health:
            await add_always_serving(server)
        self._address = bind(server, self._listen, self._flag, None if self._certificates is None else self._certificates.credentials)
        self._server = server
        await server.start()

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
        if self._server is not None:
            await self._server.stop(drain_seconds)
        # gRPC tells the streams that they are cut only after this: those that wait have not heard of it yet.
        cut = self._handler.cut + self._handler.work.waiting
        self._handler.work.close()
        return cut == 0
