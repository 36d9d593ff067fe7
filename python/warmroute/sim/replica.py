"""One simulated model server: a listener, an engine, and the way of a request between them."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .adapters import Adapters
from .call import Call, ConnectionCut, cut_connection
from .driver import EngineDriver
from .engine import SimulatedEngine
from .errors import ApiError, bad_request
from .exposition import CONTENT_TYPE
from .faults import RESTART
from .generation import Limits
from .metrics import Metrics
from .requests_log import MAX_BODY_BYTES, ReceivedRequest
from .routes import ADMIN, INFERENCE, OTHER, PATHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import SimConfig
    from .faults import Fault
    from .kv_events import KvEventPublisher

_LOG = logging.getLogger(__name__)

MAX_BODY = 256 * 1024 * 1024
BACKLOG = 4096
SHUTDOWN_SECONDS = 0.2
"""What a handler gets to end when its replica stops."""


class AddressError(OSError):
    """A replica cannot listen where it was told to; the message names the address and what to do."""


class Replica:
    """One replica. `siblings`: all replicas of its pool, itself included."""

    def __init__(self, index: int, config: SimConfig, siblings: Sequence[Replica] = ()) -> None:
        """A replica that does not listen yet."""
        self.index = index
        self.config = config
        self.siblings = siblings
        self.engine = SimulatedEngine(config.engine_settings())
        self.adapters = Adapters(config.loras)
        self.limits = Limits(self.engine.settings.max_model_len, config.output_length)
        self.metrics = Metrics(config, self.engine, config.rank_of(index))
        self.requests: deque[ReceivedRequest] = deque(maxlen=config.request_log)
        self.publisher: KvEventPublisher | None = None
        self.fault: Fault | None = None
        self.open_requests = 0
        """Inference requests in the server."""
        self.held = 0
        """Requests that a `hang` fault holds."""
        self.host = ""
        self.port = 0
        self.address = ""
        self._fault_cleared = asyncio.Event()
        self._fault_timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Server | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._server: web.Server | None = None

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._listener is not None

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            AddressError: the address cannot be used.
            KvEventError: nor can the one for KV events.
        """
        self.loop = asyncio.get_running_loop()
        after_step = None
        if self.config.kv_events is not None:
            after_step = self._publish
        self.driver = EngineDriver(self.engine, self.loop, after_step)
        self._server = web.Server(self._handle, request_factory=self._make_request, access_log=None, handler_cancellation=True)
        self.host, self.port = host, port
        await self._listen()
        if self.config.kv_events is not None:
            self._start_events(self.config.kv_events)
        self.set_fault(self.config.fault_of(self.index))

    async def stop(self) -> None:
        """Stop listening, cut what is open, end the engine."""
        if self._fault_timer is not None:
            self._fault_timer.cancel()
        if self._reopening is not None:
            self._reopening.cancel()
        self._close_listener()
        if self._server is not None:
            for connection in list(self._server.connections):
                if connection.transport is not None:
                    connection.transport.close()
            # Their handlers end when the loop has told them; aiohttp takes 0 for "wait without limit".
            await self._server.shutdown(SHUTDOWN_SECONDS)
            self.driver.stop()
        if self.publisher is not None:
            self.publisher.close()

    def set_fault(self, fault: Fault | None, spare: Any = None) -> None:
        """Have this fault from now on, or none. `spare`: a connection that `refuse` leaves open.

        Raises:
            ApiError: a fault of KV events, and none are published.
        """
        if fault is not None and fault.of_events and self.publisher is None:
            raise bad_request(f"{fault.kind} is a fault of KV events, and this replica publishes none: start it with --kv-events", "kind")
        if fault is not None and fault.kind == RESTART:
            self._restart_events()
            fault = None
        if self.publisher is not None:
            self.publisher.set_fault(fault if fault is not None and fault.of_events else None)
        self.fault = fault
        self._fault_cleared.set()
        self._fault_cleared = asyncio.Event()
        if self._fault_timer is not None:
            self._fault_timer.cancel()
            self._fault_timer = None
        if fault is not None and fault.duration_seconds is not None:
            self._fault_timer = self.loop.call_later(fault.duration_seconds, self.set_fault, None)
        if fault is not None and fault.kind == "refuse":
            self._cut_connections(spare)
        if self._closed_by_fault:
            self._close_listener()
        elif self._listener is None and self._reopening is None:
            self._reopening = self.loop.create_task(self._reopen())

    def reset_prefix_cache(self, *, running: bool = False, external: bool = False) -> bool:
        """Forget the content of the KV cache, and say so; whether it could (see the engine)."""
        done = self.engine.reset_prefix_cache(running=running, external=external)
        self._publish()
        return done

    async def _reopen(self) -> None:
        try:
            await self._listen()
        except AddressError:
            # The replica stays unreachable, as it was; whoever cleared the fault sees that in `listening`.
            _LOG.exception("replica %d cannot listen again", self.index)
            return
        finally:
            self._reopening = None
        if self._closed_by_fault:
            self._close_listener()

    @property
    def _closed_by_fault(self) -> bool:
        return self.fault is not None and self.fault.kind == "refuse" and self.fault.probability >= 1

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _listen(self) -> None:
        try:
            self._listener = await self.loop.create_server(self._make_protocol, self.host, self.port, backlog=BACKLOG, reuse_address=True)
        except OSError as error:
            raise AddressError(error.errno, _address_problem(self.host, self.port, error)) from error
        bound = self._listener.sockets[0].getsockname()
        self.port = bound[1]
        self.address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _make_protocol(self) -> asyncio.BaseProtocol:
        if self.fault is not None and self.fault.kind == "refuse" and self.fault.strikes(inference=True):
            return _CutOnArrival()
        if self._server is None:
            return _CutOnArrival()
        return self._server()

    def _make_request(self, *arguments: Any) -> web.BaseRequest:
        message, payload, protocol, writer, task = arguments
        return web.BaseRequest(message, payload, protocol, writer, task, self.loop, client_max_size=MAX_BODY)

    def _cut_connections(self, spare: Any) -> None:
        for connection in list(self._server.connections if self._server is not None else ()):
            if connection.transport is not spare:
                cut_connection(connection.transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        route = (request.method, path)
        if route in ADMIN:
            return await self._run(Call(self, request, None), ADMIN[route])
        inference = path in INFERENCE and request.method == "POST"
        fault = self.fault
        if fault is not None and (fault.kind == "refuse" or not fault.strikes(inference=inference)):
            fault = None
        if fault is not None and not await self._suffer(fault, request):
            return _internal(fault) if fault.kind in ("500", "503") else web.Response()
        if path in self.metrics.paths and request.method == "GET":
            names = request.query.getall("name[]", ())
            return web.Response(body=self.metrics.answer(path, list(names)), headers={"content-type": CONTENT_TYPE})
        call = Call(self, request, fault)
        if not inference:
            return await self._run(call, OTHER.get(route, _unknown))
        self.open_requests += 1
        try:
            return await self._run(call, INFERENCE[path])
        finally:
            self.open_requests -= 1

    async def _run(self, call: Call, handler: Any) -> web.StreamResponse:
        request = call.request
        try:
            if request.body_exists:
                call.body = await request.read()
            if request.path in INFERENCE and self.requests.maxlen:
                self._remember(request, call.body)
            answer: web.StreamResponse = await handler(call)
        except ApiError as error:
            anthropic = request.path.startswith("/v1/messages")
            return await call.answer(error.anthropic_document() if anthropic else error.document(), error.status)
        except web.HTTPRequestEntityTooLarge:
            return await call.answer(ApiError(413, "Request Entity Too Large", "body too large").document(), 413)
        except (ConnectionCut, ConnectionError):
            # The peer is gone or was cut: whatever is returned goes nowhere.
            return call.started or web.Response()
        return answer

    async def _suffer(self, fault: Fault, request: web.BaseRequest) -> bool:
        """Let a fault act before the handler; whether the request still goes on."""
        if fault.kind in ("500", "503"):
            return False
        if fault.kind == "reset":
            cut_connection(request.transport)
            return False
        if fault.kind == "slow":
            await asyncio.sleep(fault.delay)
        if fault.kind == "hang":
            self.held += 1
            try:
                async with asyncio.timeout(fault.seconds):
                    await self._fault_cleared.wait()
            except TimeoutError:
                return True
            finally:
                self.held -= 1
        return True

    def _remember(self, request: web.BaseRequest, body: bytes) -> None:
        self.requests.append(
            ReceivedRequest(
                request.method,
                request.path_qs,
                {name.lower(): value for name, value in request.headers.items()},
                body if len(body) <= MAX_BODY_BYTES else None,
                len(body),
                time.time(),
            )
        )

    def _start_events(self, template: str) -> None:
        # Imported here: ZMQ costs start-up time that most runs need not pay.
        from .kv_event_forms import EventWriter  # noqa: PLC0415
        from .kv_events import KvEventPublisher, endpoint_of  # noqa: PLC0415

        config = self.config
        writer = EventWriter(config.event_form, self.engine.settings.block_size, self._adapter_number, config.rank_of(self.index))
        topic = f"kv@{self.address}@{config.models[0]}"
        self.publisher = KvEventPublisher(endpoint_of(template, self.index), topic, writer, config.kv_events_buffer)
        if config.kv_events_replay is not None:
            self.publisher.serve_replay(endpoint_of(config.kv_events_replay, self.index), self.loop)

    def _restart_events(self) -> None:
        if self.publisher is not None:
            self.engine.cache.forget()
            self.publisher.restart(self.loop)

    def _adapter_number(self, name: str) -> int | None:
        adapter = self.adapters.get(name)
        return None if adapter is None else adapter.number

    def _publish(self) -> None:
        if self.publisher is not None:
            self.publisher.publish(self.engine.cache.take_events())


class _CutOnArrival(asyncio.Protocol):
    """Resets a connection as soon as it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cut_connection(transport)


async def _unknown(call: Call) -> web.StreamResponse:
    known = call.request.path in PATHS
    status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
    raise ApiError(status, status.phrase, status.phrase)


def _internal(fault: Fault) -> web.Response:
    status = HTTPStatus(int(fault.kind))
    error = ApiError(status, status.phrase.replace(" ", ""), f"Simulated fault {fault.kind}.")
    return web.json_response(error.document(), status=status)


def _address_problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is already in use. Stop the process that listens there "
            f"(`ss -ltnp 'sport = :{port}'` shows it), choose another with --port, or --port 0 for a free one."
        )
    if error.errno == errno.EACCES:
        return f"no permission to listen on port {port} of {host}: choose one above 1023 with --port."
    return f"cannot listen on {host}:{port}: {error.strerror or error}. Check --host and --port."
