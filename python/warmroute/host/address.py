"""Where listeners bind: an address, every interface, or a Unix socket."""

import ipaddress
import socket

from warmroute.config.errors import UsageError

UNIX = "unix:"


def listen_address(host: str, port: int) -> str:
    """`host:port` to bind; an empty host is every interface, over IPv6 and IPv4 where the machine has both. `unix:/path` stays as it is.

    Raises UsageError for a host that is no IP address (`localhost` stands for 127.0.0.1).
    """
    if host.startswith(UNIX):
        if not host.removeprefix(UNIX).startswith("/"):
            message = f"{host!r}: a Unix socket needs an absolute path, such as unix:/run/warmroute.sock"
            raise UsageError(message)
        return host
    if not host:
        return f"[::]:{port}" if socket.has_dualstack_ipv6() else f"0.0.0.0:{port}"
    literal = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address = ipaddress.ip_address(literal)
    except ValueError as error:
        message = f"{host!r} is no IP address to listen on"
        raise UsageError(message) from error
    return join_address(str(address), port)


def join_address(host: str, port: int) -> str:
    """`host:port`, IPv6 bracketed."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """The host (without brackets) and the port of `host:port`; ValueError when there is no port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def parse_address(address: str) -> str:
    """`HOST:PORT` or `unix:/path` as given by a user, normalised as by listen_address. Raises UsageError."""
    if address.startswith(UNIX):
        return listen_address(address, 0)
    try:
        host, port = split_address(address)
    except ValueError as error:
        message = f"{address!r}: expected HOST:PORT or unix:/path"
        raise UsageError(message) from error
    return listen_address(host, port)


class ListenError(Exception):
    """An address that cannot be listened on; names it and the flag that moves it."""

    def __init__(self, address: str, flag: str, reason: str) -> None:
        """`flag`: the flag (with hyphens) that chooses the address or port."""
        super().__init__(f"cannot listen on {address} ({flag}): {reason}")
