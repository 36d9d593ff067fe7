"""What a plugin returned, as the engine takes it; what it does not take is said in words."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT64 = np.dtype(np.float64)
_BOOL = np.dtype(np.bool_)
# Kinds of numpy types that are numbers: booleans, integers with and without sign, floats.
_NUMBERS = "biuf"


class BadAnswerError(ValueError):
    """A result that is not one value an endpoint."""


def scores(result: Any, rows: int) -> NDArray[np.float64]:
    """One float64 a row. NaN stays: the profile counts it 0, as of every scorer.

    Raises:
        BadAnswerError: None, another shape, or values that are no numbers.

    """
    array = _array(result, rows, "a scorer returns one number an endpoint")
    if array.dtype.kind not in _NUMBERS:
        raise BadAnswerError(f"a scorer returns numbers, not {array.dtype}")
    # The engine reads the array through the buffer protocol, also one that is a view with gaps.
    return array if array.dtype is _FLOAT64 else array.astype(np.float64)


def verdict(result: Any, rows: int) -> NDArray[np.float64]:
    """1 for each row to keep, 0 for each to drop.

    Raises:
        BadAnswerError: None, another shape, or values that are no booleans.

    """
    array = _array(result, rows, "a filter returns one boolean an endpoint")
    if array.dtype != _BOOL:
        raise BadAnswerError(f"a filter returns booleans, not {array.dtype}")
    return array.astype(np.float64)


def _array(result: Any, rows: int, expected: str) -> NDArray[Any]:
    if result is None:
        raise BadAnswerError(f"{expected}; this one returned nothing")
    if type(result) is np.ndarray:
        array = result
    else:
        try:
            array = np.asarray(result)
        except ValueError as error:
            raise BadAnswerError(f"{expected}, not {type(result).__name__}: {error}") from error
    if array.shape != (rows,):
        raise BadAnswerError(f"{expected}: an array of shape ({rows},), not {array.shape}")
    return array
