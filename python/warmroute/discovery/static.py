"""Endpoints named on the command line."""

import ipaddress
import logging
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from warmroute.config.errors import UsageError
from warmroute.discovery.endpoints import EndpointRecord
from warmroute.logging import fields

logger = logging.getLogger(__name__)

_DEFAULT_PORT = 80


def static_endpoints(urls: Sequence[str], namespace: str) -> list[EndpointRecord]:
    """The endpoints of `--endpoint URL` flags, named `endpoint-0`, `endpoint-1`, … Host names are resolved once, here.

    Raises UsageError for what is no `http://host[:port]`, for a host that does not resolve, and for the same address twice.
    """
    records: list[EndpointRecord] = []
    seen: dict[tuple[str, int], str] = {}
    for index, url in enumerate(urls):
        host, port = _split(url)
        address = _resolve(url, host, port)
        if (address, port) in seen:
            message = f"--endpoint {url}: the same address as --endpoint {seen[address, port]}"
            raise UsageError(message)
        seen[address, port] = url
        records.append(EndpointRecord(namespace, f"endpoint-{index}", address, port))
    return records


def _split(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        message = f"--endpoint {url}: {error}"
        raise UsageError(message) from error
    if parts.scheme == "https":
        message = f"--endpoint {url}: model servers are reached over plain http; https is not supported by this version"
        raise UsageError(message)
    if parts.scheme != "http" or not host:
        message = f"--endpoint {url}: expected http://HOST:PORT, such as http://10.0.0.5:8000"
        raise UsageError(message)
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        message = f"--endpoint {url}: only a host and a port are expected; the request's own path is sent to the model server"
        raise UsageError(message)
    if port == 0:
        message = f"--endpoint {url}: port 0 cannot be reached"
        raise UsageError(message)
    return host, _DEFAULT_PORT if port is None else port


def _resolve(url: str, host: str, port: int) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        message = f"--endpoint {url}: the host name does not resolve: {error.strerror}"
        raise UsageError(message) from error
    # IPv4 first: model servers commonly listen on 0.0.0.0 alone.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    address = str(found[0][4][0])
    logger.info("resolved endpoint, once", extra=fields(url=url, address=address))
    return address
