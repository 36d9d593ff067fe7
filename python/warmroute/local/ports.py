"""TCP ports: is this one free, and which one is?"""

import errno
import ipaddress
import random
import socket
from contextlib import closing
from pathlib import Path

from warmroute.local.errors import GatewayError, PortInUseError, UsageError

_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_HIGHEST = 65_535
_ATTEMPTS = 200


def is_free(port: int, host: str) -> bool:
    """Whether a listener could be opened on `host`:`port` now.

    Envoy listens with SO_REUSEPORT, so that two gateways could share a port without noticing: that is why the port is tried here, without that option.

    Raises:
        UsageError: `host` is no address of this machine.

    """
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 -- the version of the protocol
    except ValueError as error:
        message = f"Cannot listen on {host!r}: it must be an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them."
        raise UsageError(message) from error
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        # Without it the port of a gateway that just ended would count as taken (TIME_WAIT).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except PermissionError as error:
            message = f"Port {port} on {host} needs more rights than this user has ({error}); choose one above 1023."
            raise UsageError(message) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            message = f"Cannot listen on {host}: {error.strerror or error}. It must be an IP address of this machine."
            raise UsageError(message) from error
    return True


def find_free(host: str, count: int = 1) -> int:
    """Return the first of `count` consecutive free ports.

    They lie below the range from which the kernel takes ports of outgoing connections, so that a process that is started again later
    still finds its port free.

    Raises:
        GatewayError: no such ports were found.

    """
    highest = min(_first_ephemeral_port() - 1, _HIGHEST) - count
    if highest <= _LOWEST:
        highest = _HIGHEST - count
    for _ in range(_ATTEMPTS):
        first = random.randint(_LOWEST, highest)
        if all(is_free(first + offset, host) for offset in range(count)):
            return first
    message = f"Found no {count} consecutive free TCP ports on {host} between {_LOWEST} and {highest}."
    raise GatewayError(message)


class PortBook:
    """The ports of one gateway: none is given out twice."""

    def __init__(self) -> None:
        """Start with no port taken."""
        self._taken: dict[int, str] = {}

    def claim(self, port: int, host: str, purpose: str, flag: str) -> int:
        """Return `port`, or a free one for 0.

        Raises:
            PortInUseError: another process listens there.
            UsageError: the same port was claimed for something else.

        """
        if port == 0:
            return self.find(host, purpose)
        if port in self._taken:
            message = f"Port {port} is wanted for {purpose} and for {self._taken[port]}. Choose another one with {flag} PORT."
            raise UsageError(message)
        if not is_free(port, host):
            raise PortInUseError(port, host, purpose, flag)
        self._taken[port] = purpose
        return port

    def find(self, host: str, purpose: str, count: int = 1) -> int:
        """Claim `count` consecutive free ports and return the first.

        Raises:
            GatewayError: no such ports were found.

        """
        for _ in range(_ATTEMPTS):
            first = find_free(host, count)
            wanted = range(first, first + count)
            if self._taken.keys().isdisjoint(wanted):
                self._taken.update(dict.fromkeys(wanted, purpose))
                return first
        message = f"Found no {count} free TCP ports for {purpose}."
        raise GatewayError(message)


def _first_ephemeral_port() -> int:
    try:
        return int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _HIGHEST + 1
