"""Small HTTP requests to the processes of this machine: the gateway itself, Envoy's admin page, the picker's debug pages.

The standard library's client in a thread: a start-up of under three seconds has no time to import more.
"""

import asyncio
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

#: Longest body that is read, in bytes.
MAX_BODY = 16 * 2**20


class ProbeError(Exception):
    """No usable answer: refused, timed out, cut, or not what was expected."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`."""
        return f"http://{self}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body.

        Raises:
            ProbeError: it is no JSON.

        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            message = f"answered {self.status} with something that is no JSON: {self.body[:100]!r}"
            raise ProbeError(message) from error


@contextmanager
def open_request(
    address: Address,
    method: str,
    path: str,
    document: object | None = None,
    timeout: float = 2.0,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request (with a JSON body when there is a document) and give the answer as it begins. Blocks; `timeout` in seconds for each wait.

    Raises:
        ProbeError: no answer, or the answer broke off.

    """
    body = None if document is None else json.dumps(document).encode()
    headers = {} if body is None else {"content-type": "application/json"}
    try:
        with closing(http.client.HTTPConnection(address.host, address.port, timeout=timeout)) as connection:
            connection.request(method, path, body, headers)
            yield connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        message = f"{address}{path}: {error or type(error).__name__}"
        raise ProbeError(message) from error


def exchange(address: Address, method: str, path: str, document: object | None = None, timeout: float = 2.0) -> Answer:
    """Send a request and read the whole answer. Blocks.

    Raises:
        ProbeError: no answer, or the answer broke off.

    """
    with open_request(address, method, path, document, timeout) as response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read(MAX_BODY))


async def get(address: Address, path: str, timeout: float = 2.0) -> Answer:  # noqa: ASYNC109 -- the socket's own timeout
    """GET in a thread.

    Raises:
        ProbeError: no answer.

    """
    return await asyncio.to_thread(exchange, address, "GET", path, None, timeout)


async def get_json_list(address: Address, path: str) -> list[dict[str, Any]]:
    """GET a JSON list of objects.

    Raises:
        ProbeError: no answer, or another one.

    """
    document = (await get(address, path)).json()
    if not isinstance(document, list):
        message = f"{address}{path}: expected a list"
        raise ProbeError(message)
    return [item for item in document if isinstance(item, dict)]
