"""Candidates and requests made by hand, to try a plugin in a notebook or a test without a picker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from warmroute.plugins.endpoints import COLUMNS, Endpoints, PoolView
from warmroute.plugins.request import Request


def endpoints(
    *,
    names: Sequence[str] = (),
    namespaces: Sequence[str] = (),
    addresses: Sequence[str] = (),
    labels: Sequence[Mapping[str, str]] = (),
    attributes: Mapping[tuple[str, str], ArrayLike] | None = None,
    **columns: ArrayLike,
) -> Endpoints:
    """Candidates with these columns, such as `endpoints(queue=[0, 3], labels=[{"zone": "a"}, {}])`; what is not given is 0, or a made-up text.

    Args:
        names: endpoint-0, endpoint-1, … when not given.
        namespaces: default.
        addresses: 10.0.0.1:8000, 10.0.0.2:8000, …
        labels: none.
        attributes: a column for (producer, key).
        columns: by their names in Endpoints; one value each, or one number for all.

    Raises:
        ValueError: no such column, or columns of different lengths.

    """
    unknown = sorted(columns.keys() - set(COLUMNS))
    if unknown:
        raise ValueError(f"there is no column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    lengths = {len(array) for array in arrays.values() if array.ndim} | {len(texts) for texts in (names, namespaces, addresses, labels) if texts}
    if len(lengths) != 1:
        raise ValueError(f"one value for each endpoint is needed; given are {', '.join(map(str, sorted(lengths))) or 'none'}")
    (rows,) = lengths
    table = np.zeros((len(COLUMNS), rows))
    for name, array in arrays.items():
        table[COLUMNS.index(name)] = array
    pool = _Pool(
        tuple(names) or tuple(f"endpoint-{row}" for row in range(rows)),
        tuple(namespaces) or ("default",) * rows,
        tuple(addresses) or tuple(f"10.0.{(row + 1) // 256}.{(row + 1) % 256}:8000" for row in range(rows)),
        tuple(dict(one) for one in labels) or tuple({} for _ in range(rows)),
    )
    given = {key: np.asarray(values, dtype=np.float64) for key, values in (attributes or {}).items()}
    return Endpoints(_Candidates(rows, table, given), PoolView(pool))


def request(
    *,
    model: str = "model",
    prompt_tokens: int = 100,
    total_blocks: int = 0,
    block_tokens: int = 64,
    max_tokens: int | None = None,
    priority: int = 0,
    fairness_id: str = "",
    request_id: str = "",
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Request:
    """A request with these facts; names of headers are put in lower case."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    return Request(
        _Facts(model, prompt_tokens, total_blocks, block_tokens, max_tokens, priority, fairness_id, request_id, lower, dict(attributes or {}))
    )


@dataclass(frozen=True, slots=True)
class _Pool:
    _names: tuple[str, ...]
    _namespaces: tuple[str, ...]
    _addresses: tuple[str, ...]
    _labels: tuple[dict[str, str], ...]

    def names(self) -> tuple[str, ...]:
        return self._names

    def namespaces(self) -> tuple[str, ...]:
        return self._namespaces

    def addresses(self) -> tuple[str, ...]:
        return self._addresses

    def labels(self) -> tuple[dict[str, str], ...]:
        return self._labels


@dataclass(frozen=True, slots=True)
class _Candidates:
    rows: int
    _table: np.ndarray
    _attributes: dict[tuple[str, str], np.ndarray]

    def columns(self) -> bytes:
        return self._table.tobytes()

    def positions(self) -> bytes | None:
        return None

    def attribute(self, producer: str, key: str) -> bytes:
        return np.broadcast_to(self._attributes.get((producer, key), np.full((), np.nan)), self.rows).tobytes()


@dataclass(frozen=True, slots=True)
class _Facts:
    model: str
    prompt_tokens: int
    total_blocks: int
    block_tokens: int
    max_tokens: int | None
    priority: int
    fairness_id: str
    request_id: str
    _headers: dict[str, str] = field(default_factory=dict)
    _attributes: dict[str, str] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        return self._headers

    def request_attribute(self, key: str) -> str | None:
        return self._attributes.get(key)
