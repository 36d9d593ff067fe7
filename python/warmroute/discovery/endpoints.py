"""The set of endpoints, and the sink that gives its changes to the engine."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from warmroute.logging import fields

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointRecord:
    """One model server: `address` is an IP literal, `metrics_host` ("host:port") only where its metrics page is elsewhere."""

    namespace: str
    name: str
    address: str
    port: int
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metrics_host: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the endpoint across updates."""
        return self.namespace, self.name


class EndpointRegistry(Protocol):
    """The part of `_core.Engine` that discovery writes to."""

    def upsert_endpoint(  # noqa: PLR0917 - the engine's own signature
        self,
        namespace: str,
        name: str,
        address: str,
        port: int,
        labels: Mapping[str, str],
        metrics_host: str | None = None,
    ) -> None:
        """Add an endpoint or change it."""

    def remove_endpoint(self, namespace: str, name: str) -> bool:
        """Remove an endpoint; False when it was not there."""

    def set_synced(self, *, synced: bool) -> None:
        """Tell whether discovery has delivered its first full set."""


class EndpointSink:
    """Applies each full set to the engine as a difference, so that what stays keeps its load and its cached blocks."""

    def __init__(self, registry: EndpointRegistry) -> None:
        """The registry is taken to be empty."""
        self._registry = registry
        self._current: dict[tuple[str, str], EndpointRecord] = {}

    @property
    def current(self) -> list[EndpointRecord]:
        """The endpoints applied last."""
        return list(self._current.values())

    def replace(self, records: Iterable[EndpointRecord]) -> None:
        """Make `records` the whole set: new and changed ones first, then the removals. Marks the engine as synced."""
        wanted = {record.key: record for record in records}
        added = changed = 0
        for key, record in wanted.items():
            before = self._current.get(key)
            if before == record:
                continue
            self._upsert(record)
            added += before is None
            changed += before is not None
        removed = [key for key in self._current if key not in wanted]
        for namespace, name in removed:
            self._registry.remove_endpoint(namespace, name)
        self._current = wanted
        self._registry.set_synced(synced=True)
        if added or changed or removed:
            counts = fields(endpoints=len(wanted), added=added, changed=changed, removed=len(removed))
            logger.info("endpoints changed", extra=counts)

    def _upsert(self, record: EndpointRecord) -> None:
        self._registry.upsert_endpoint(record.namespace, record.name, record.address, record.port, dict(record.labels), record.metrics_host)
