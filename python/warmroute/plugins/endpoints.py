"""What a plugin sees of the candidates: numpy arrays, row `i` of each the same endpoint."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
_Value = TypeVar("_Value")

# In the order of rust/python/src/plugin/question.rs.
COLUMNS = (
    "queue",
    "running",
    "kv_usage",
    "inflight_requests",
    "inflight_tokens",
    "prefill_tokens",
    "matched_blocks",
    "matched_tokens",
    "uncached_tokens",
    "media_matched",
    "metrics_age",
)
_QUEUE, _RUNNING, _KV_USAGE, _REQUESTS, _TOKENS, _PREFILL, _BLOCKS, _MATCHED, _UNCACHED, _MEDIA, _AGE = range(len(COLUMNS))
# A plugin that asks for a label made of the request's own data must not fill the memory.
_MOST_LABEL_COLUMNS = 256


class Pool(Protocol):
    """The whole pool at one moment: `_core.PluginPool`."""

    def names(self) -> tuple[str, ...]:
        """Names of all endpoints."""

    def namespaces(self) -> tuple[str, ...]:
        """Their namespaces."""

    def addresses(self) -> tuple[str, ...]:
        """Their addresses, `ip:port`."""

    def labels(self) -> tuple[dict[str, str], ...]:
        """Their labels."""


class Candidates(Protocol):
    """The rows of a question: `_core.PluginQuestion`."""

    @property
    def rows(self) -> int:
        """How many."""

    def columns(self) -> bytes:
        """`COLUMNS` one after the other, float64 of this machine."""

    def positions(self) -> bytes | None:
        """Each row's position in the pool, uint32 of this machine; None: all of them in order."""

    def attribute(self, producer: str, key: str) -> bytes:
        """One attribute, float64 of this machine a row; NaN where an endpoint does not have it."""


class PoolView:
    """A pool's texts as Python objects, made once for as long as the pool does not change."""

    __slots__ = ("_label_columns", "_labels", "_texts", "pool")

    def __init__(self, pool: Pool) -> None:
        """Nothing is made before it is asked for."""
        self.pool = pool
        self._texts: dict[str, tuple[str, ...]] = {}
        self._labels: tuple[Mapping[str, str], ...] | None = None
        self._label_columns: dict[str, NDArray[np.object_]] = {}

    def texts(self, name: str) -> tuple[str, ...]:
        """`names`, `namespaces` or `addresses` of the pool."""
        known = self._texts.get(name)
        if known is None:
            known = self._texts[name] = getattr(self.pool, name)()
        return known

    @property
    def labels(self) -> tuple[Mapping[str, str], ...]:
        """Read-only labels of all endpoints."""
        if self._labels is None:
            self._labels = tuple(MappingProxyType(labels) for labels in self.pool.labels())
        return self._labels

    def label(self, key: str) -> NDArray[np.object_]:
        """Read-only column of one label; None where an endpoint does not have it."""
        column = self._label_columns.get(key)
        if column is None:
            column = np.array([labels.get(key) for labels in self.labels], dtype=object)
            column.flags.writeable = False
            if len(self._label_columns) < _MOST_LABEL_COLUMNS:
                self._label_columns[key] = column
        return column


class Endpoints:
    """The candidates of one decision. Columns are read-only float64 arrays of `len(endpoints)` numbers.

    Valid during the call only in the sense that nothing of it changes afterwards: it is a copy of that moment.
    """

    __slots__ = ("_candidates", "_columns", "_positions", "_view")

    def __init__(self, candidates: Candidates, view: PoolView) -> None:
        """`view` is of the pool that the candidates' positions refer to."""
        self._candidates = candidates
        self._view = view
        self._columns: NDArray[np.float64] | None = None
        self._positions: NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return self._candidates.rows

    def _column(self, number: int) -> Column:
        if self._columns is None:
            self._columns = np.frombuffer(self._candidates.columns()).reshape(len(COLUMNS), -1)
        column: Column = self._columns[number]
        return column

    @property
    def queue(self) -> Column:
        """Requests waiting in the engine; 0 where it did not tell."""
        return self._column(_QUEUE)

    @property
    def running(self) -> Column:
        """Requests running in the engine; 0 where it did not tell."""
        return self._column(_RUNNING)

    @property
    def kv_usage(self) -> Column:
        """KV cache in use, 0 to 1; 0 where the engine did not tell."""
        return self._column(_KV_USAGE)

    @property
    def inflight_requests(self) -> Column:
        """Requests that this picker sent and that have not ended."""
        return self._column(_REQUESTS)

    @property
    def inflight_tokens(self) -> Column:
        """Uncached prompt tokens of those without a first token; of all in flight, and with an estimate of their output, where so configured."""
        return self._column(_TOKENS)

    @property
    def prefill_tokens(self) -> Column:
        """Uncached prompt tokens that were sent and are not prefilled yet."""
        return self._column(_PREFILL)

    @property
    def matched_blocks(self) -> Column:
        """Blocks of this prompt, from its start, that the endpoint should hold; 0 where nothing configured uses the prefix index."""
        return self._column(_BLOCKS)

    @property
    def matched_tokens(self) -> Column:
        """The same in tokens, at most the prompt's."""
        return self._column(_MATCHED)

    @property
    def uncached_tokens(self) -> Column:
        """Prompt tokens that the endpoint would have to prefill; at least 1."""
        return self._column(_UNCACHED)

    @property
    def media_matched(self) -> Column:
        """Share of the prompt's pictures, films and sounds that the endpoint's encoder should hold, 0 to 1; 0 where no configured plugin tells."""
        return self._column(_MEDIA)

    @property
    def metrics_age(self) -> Column:
        """Seconds since the engine's metrics were read; NaN where they never were."""
        return self._column(_AGE)

    @property
    def names(self) -> Sequence[str]:
        """Names, as discovery gives them."""
        return self._rows_of(self._view.texts("names"))

    @property
    def namespaces(self) -> Sequence[str]:
        """Namespaces."""
        return self._rows_of(self._view.texts("namespaces"))

    @property
    def addresses(self) -> Sequence[str]:
        """`ip:port`, IPv6 in brackets."""
        return self._rows_of(self._view.texts("addresses"))

    @property
    def labels(self) -> Sequence[Mapping[str, str]]:
        """All labels of each endpoint, read-only."""
        return self._rows_of(self._view.labels)

    def label(self, key: str) -> NDArray[np.object_]:
        """One label of each endpoint: an array of str, None where an endpoint does not have it."""
        column = self._view.label(key)
        chosen = self._chosen()
        return column if chosen is None else column[chosen]

    def attribute(self, producer: str, key: str) -> Column:
        """A number that an extractor of the configuration publishes of each endpoint (`customMetrics` among them), as it is now; NaN where it has none.

        Args:
            producer: the extractor's name in the configuration, such as "core-metrics-extractor".
            key: the attribute's, such as "CacheNumBlocks".

        """
        return np.frombuffer(self._candidates.attribute(producer, key))

    def _chosen(self) -> NDArray[np.uint32] | None:
        if self._positions is None:
            positions = self._candidates.positions()
            if positions is None:
                return None
            self._positions = np.frombuffer(positions, dtype=np.uint32)
        return self._positions

    def _rows_of(self, values: tuple[_Value, ...]) -> Sequence[_Value]:
        chosen = self._chosen()
        return values if chosen is None else tuple(values[position] for position in chosen)

    def __repr__(self) -> str:
        """Names and numbers, for a debugger or a print."""
        columns: dict[str, Any] = {name: getattr(self, name).tolist() for name in COLUMNS}
        return f"Endpoints(names={list(self.names)}, {', '.join(f'{name}={values}' for name, values in columns.items())})"
