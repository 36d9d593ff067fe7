"""Durations and quantities in the notations of Go and Kubernetes."""

import re
from decimal import Decimal, InvalidOperation

_DURATION_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(?:(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)|[eE](\d{1,2}))?", re.ASCII)
_QUANTITY_UNITS = {
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P"), start=1)},
}
# Longer than any sensible setting, and far below what a float or a timer can carry.
_LONGEST_SECONDS = 366 * 24 * 3600
_LARGEST_BYTES = 2**53


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as `30s`, `1m30s` or `250ms`; `0` needs no unit.

    Raises ValueError when the text is no duration, is negative, or is longer than a year.
    """
    if text == "0":
        return 0.0
    if text.startswith("-"):
        message = f"duration {text!r} is negative"
        raise ValueError(message)
    rest = text.removeprefix("+")
    seconds = Decimal(0)
    while rest:
        part = _DURATION_PART.match(rest)
        if part is None:
            break
        seconds += Decimal(part[1]) * _DURATION_UNITS[part[2]]
        rest = rest[part.end() :]
    if rest or not text.removeprefix("+"):
        message = f"{text!r} is no duration (examples: 250ms, 30s, 1m30s)"
        raise ValueError(message)
    if seconds > _LONGEST_SECONDS:
        message = f"duration {text!r} is longer than a year"
        raise ValueError(message)
    return float(seconds)


def parse_quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as `64Mi`, `25M` or `1e6`; a trailing `B` or `b` is dropped (`10MiB`).

    Raises ValueError when the text is no quantity or exceeds 2^53 bytes.
    """
    number = text[:-1] if text.endswith(("B", "b")) else text
    match = _QUANTITY.fullmatch(number)
    if match is None:
        message = f"{text!r} is no quantity (examples: 4194304, 10Mi, 10MiB, 25M)"
        raise ValueError(message)
    try:
        value = Decimal(match[1])
    except InvalidOperation as error:  # pragma: no cover - the pattern admits only decimals
        raise ValueError(text) from error
    value *= _QUANTITY_UNITS.get(match[2], 1) if match[2] else 10 ** int(match[3] or 0)
    if value > _LARGEST_BYTES:
        message = f"quantity {text!r} exceeds 2^53 bytes"
        raise ValueError(message)
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def parse_bool(text: str) -> bool:
    """The boolean words of Go's strconv.ParseBool; ValueError for anything else."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    message = f"{text!r} is no boolean (true or false)"
    raise ValueError(message)
