"""The HTTP listener for metrics and debug pages: a thread of its own, so that a page never waits for a stream or a stream for a page.

Built on the standard library: six read-only pages do not need a framework's fifth of a second of start-up.
"""

import http.server
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from warmroute.host.address import ListenError, join_address, split_address
from warmroute.logging import DEBUG, fields, log_at

logger = logging.getLogger(__name__)

# An idle or slow client holds its thread no longer than this, and no more clients than that are served at once.
_CLIENT_SECONDS = 15.0
_CLIENTS = 32
_STOP_SECONDS = 5.0
# Digits; anything longer is no sensible count.
_LONGEST_NUMBER = 9

JSON = "application/json"


class Page:
    """An answer: status, content type and body."""

    def __init__(self, body: bytes, content_type: str, status: int = HTTPStatus.OK) -> None:
        """`status`: HTTP status code."""
        self.body = body
        self.content_type = content_type
        self.status = status

    @classmethod
    def json(cls, value: Any, status: int = HTTPStatus.OK) -> "Page":
        """`value` as JSON."""
        return cls(json.dumps(value, default=str).encode(), JSON, status)


class Request:
    """What a page may read of a request."""

    def __init__(self, query: dict[str, list[str]], accept: str) -> None:
        """`query`: parsed query string; `accept`: the Accept header."""
        self.query = query
        self.accept = accept

    def number(self, name: str, default: int, highest: int) -> int:
        """A whole number from the query, kept within 0 to `highest`; `default` where there is none."""
        text = self.query.get(name, [""])[0]
        return min(int(text), highest) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else default


Route = Callable[[Request], Page]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, routes: dict[str, Route]) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.routes = routes
        self.places = threading.BoundedSemaphore(_CLIENTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """A client that hangs up is no error of ours; anything else is told with its trace at debug verbosity."""
        logger.debug("metrics client failed", exc_info=sys.exc_info(), extra=fields(client=str(client_address)))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        route = self.server.routes.get(parts.path)
        if route is None:
            self._send(Page.json({"error": "not found", "pages": sorted(self.server.routes)}, HTTPStatus.NOT_FOUND))
            return
        try:
            page = route(Request(parse_qs(parts.query), self.headers.get("Accept", "")))
        except Exception as error:  # the page must say that it failed; the picker goes on
            logger.exception("page failed", extra=fields(path=parts.path))
            page = Page.json({"error": f"{type(error).__name__}: {error}"}, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(page)

    do_HEAD = do_GET  # noqa: N815 - the base class's names

    def _refuse(self) -> None:
        # The body, if any, is not read: the connection cannot be used again.
        self.close_connection = True
        self._send(Page.json({"error": "only GET"}, HTTPStatus.METHOD_NOT_ALLOWED), {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def _send(self, page: Page, headers: dict[str, str] | None = None) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def version_string(self) -> str:
        return "warmroute"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log_at(logger, DEBUG, "metrics page", client=self.client_address[0], request=format % args)


class MetricsServer:
    """The listener and its thread."""

    def __init__(self, address: str, routes: dict[str, Route], flag: str = "--metrics-port") -> None:
        """Listen at once on `host:port`. Raises ListenError, naming `flag`."""
        host, port = split_address(address)
        everywhere = host == "::"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=_CLIENTS, dualstack_ipv6=everywhere and socket.has_dualstack_ipv6())
        except OSError as error:
            raise ListenError(address, flag, error.strerror or str(error)) from error
        self.address = join_address(host, listener.getsockname()[1])
        self._server = _Server(listener, routes)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the listener; pages being written are given a few seconds."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_STOP_SECONDS)
