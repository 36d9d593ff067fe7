"""Hands the set of endpoints to Envoy and to the picker, in the order in which no request goes astray."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from warmroute.discovery.endpoints import EndpointRecord
from warmroute.local import bootstrap, probe
from warmroute.local.endpoints import ParsedFile, host_port, read_file, render_document
from warmroute.local.errors import UsageError
from warmroute.local.probe import Address, ProbeError

#: Seconds to wait until Envoy has checked a new endpoint, or the picker has dropped an old one, before going on without.
_SETTLE = 5.0
_POLL = 0.02
#: Milliseconds without a further change of a file before it is read.
_QUIET = 50

#: Milliseconds after which a file is read again although nothing told of a change.
_LOOK_AGAIN = 1_000

#: What Envoy (healthy ones) or the picker knows now, as `ip:port`.
KnownEndpoints = Callable[[], Awaitable[Collection[str]]]


class EndpointPublisher:
    """Writes two files: EDS for Envoy, an endpoints file for the picker. Both are replaced by rename, never written in place."""

    def __init__(self, directory: Path, known_to_envoy: KnownEndpoints, known_to_picker: KnownEndpoints) -> None:
        """Write into `directory`, which must exist."""
        self.envoy_directory = directory / "eds"
        self.envoy_directory.mkdir()
        # Folders of their own: each side watches its folder, and wakes for its own file only.
        picker_directory = directory / "endpoints"
        picker_directory.mkdir()
        self.envoy_file = self.envoy_directory / "endpoints.json"
        self.picker_file = picker_directory / "endpoints.json"
        self._known_to_envoy = known_to_envoy
        self._known_to_picker = known_to_picker
        self._current: tuple[EndpointRecord, ...] = ()
        self._down: frozenset[str] = frozenset()
        # One change at a time: the file and the health of its endpoints change independently.
        self._lock = asyncio.Lock()

    @property
    def current(self) -> tuple[EndpointRecord, ...]:
        """The set published last, with those that are down."""
        return self._current

    @property
    def down(self) -> tuple[EndpointRecord, ...]:
        """Endpoints of the set that fail their health check."""
        return tuple(endpoint for endpoint in self._current if host_port(endpoint) in self._down)

    def write_initial(self, endpoints: Sequence[EndpointRecord], *, for_envoy: bool) -> None:
        """Write both files before the processes start.

        Without `for_envoy` Envoy starts with none: an endpoint that is not up yet would fail its first health check and wait for the second.
        """
        self._current = tuple(endpoints)
        _replace(self.picker_file, render_document(endpoints))
        self.write_envoy(endpoints if for_envoy else ())

    def write_envoy(self, endpoints: Sequence[EndpointRecord]) -> None:
        """Replace Envoy's file."""
        _replace(self.envoy_file, bootstrap.render_endpoints(endpoints))

    async def publish(self, endpoints: Sequence[EndpointRecord]) -> None:
        """Change the set at run time.

        Envoy learns of new ones first and of removed ones last: an address that its cluster does not know would silently be
        replaced by its fallback policy.
        """
        new = tuple(endpoints)
        async with self._lock:
            before = {host_port(endpoint): endpoint for endpoint in self._current}
            after = {host_port(endpoint): endpoint for endpoint in new}
            if added := after.keys() - before.keys():
                self.write_envoy(tuple((before | after).values()))
                await _until(self._known_to_envoy, lambda known: added <= set(known))
            self._current = new
            chosen_from = self._write_picker()
            # Told as published only when requests go by it.
            await _until(self._known_to_picker, lambda known: set(known) == chosen_from)
            if before.keys() - after.keys():
                self.write_envoy(new)

    async def set_down(self, addresses: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Take those that fail their health check from the picker, and give back those that recovered; return (newly down, newly up).

        Envoy alone does not do it: a destination that the picker names is tried also when its health check fails.
        """
        async with self._lock:
            known = {host_port(endpoint) for endpoint in self._current}
            before, after = self._down & known, frozenset(addresses) & known
            if before != after:
                self._down = after
                self._write_picker()
            return after - before, before - after

    def _write_picker(self) -> set[str]:
        """Write the picker's file; return the addresses in it.

        With none healthy they all stay: an overloaded pool answers checks late, and its answers are better than none.
        """
        up = [endpoint for endpoint in self._current if host_port(endpoint) not in self._down]
        chosen_from = up or list(self._current)
        _replace(self.picker_file, render_document(chosen_from))
        return {host_port(endpoint) for endpoint in chosen_from}


async def envoy_endpoints(admin: Address) -> set[str]:
    """Endpoints of Envoy's cluster that may take requests now (health check passed, or none configured).

    Raises:
        ProbeError: the admin page does not answer.

    """
    document = (await probe.get(admin, "/clusters?format=json")).json()
    healthy = set()
    for cluster in document.get("cluster_statuses", []):
        if cluster.get("name") != bootstrap.MODELS_CLUSTER:
            continue
        for host in cluster.get("host_statuses", []):
            status = host.get("health_status", {})
            if not status.get("failed_active_health_check") and not status.get("pending_dynamic_removal"):
                where = host["address"]["socket_address"]
                healthy.add(str(Address(where["address"], where["port_value"])))
    return healthy


async def picker_endpoints(metrics: Address) -> set[str]:
    """Endpoints that the picker chooses from.

    Raises:
        ProbeError: its debug page does not answer.

    """
    return {str(endpoint.get("address")) for endpoint in await probe.get_json_list(metrics, "/debug/endpoints")}


async def watch_file(path: Path, stop: asyncio.Event) -> AsyncIterator[ParsedFile | UsageError]:
    """Give the content of an endpoints file at once and each time that it changes; an error where it cannot be used (the caller keeps the old set)."""
    import watchfiles  # noqa: PLC0415 -- costs start-up time, and only files need it

    last: ParsedFile | str | None = None
    # The folder, not the file: editors and Kubernetes replace the file, or a link above it. And once a second in any case: a change before the
    # watch began must not be missed.
    changes = watchfiles.awatch(
        path.parent, watch_filter=None, recursive=False, debounce=1_000, step=_QUIET, stop_event=stop, rust_timeout=_LOOK_AGAIN, yield_on_timeout=True
    )
    async for _ in changes:
        try:
            content = await asyncio.to_thread(read_file, path)
        except UsageError as error:
            if str(error) != last:
                last = str(error)
                yield error
            continue
        if content != last:
            last = content
            yield content


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


async def _until(known: KnownEndpoints, condition: Callable[[Collection[str]], bool]) -> None:
    """Poll until the condition holds, `_SETTLE` seconds at most; a process that does not answer is asked again."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE
    while loop.time() < deadline:
        with suppress(ProbeError):
            if condition(await known()):
                return
        await asyncio.sleep(_POLL)
