"""What a plain word of YAML means: as the reference's reader has it, whose values all go through JSON."""

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | None] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **{spelled: True for word in ("true", "yes", "on") for spelled in (word, word.capitalize(), word.upper())},
    **{spelled: False for word in ("false", "no", "off") for spelled in (word, word.capitalize(), word.upper())},
}
_NOT_FINITE = {
    **{sign + word: math.copysign(math.inf, -1 if sign == "-" else 1) for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_BASES = {"0b": 2, "0o": 8, "0x": 16}
# A leading zero alone means octal, as in YAML 1.1. Times such as 1:30 are text: only YAML 1.1 read them as numbers, in base 60.
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NUMBER_STARTS = frozenset("+-.0123456789")
# Above it not every whole number has a float of its own.
_LARGEST_EXACT = 2.0**53
# Far more digits than any number in a configuration has; Python refuses to read some thousands.
_LONGEST_NUMBER = 400


def plain(text: str) -> Any:
    """The value of a word without quotes and without a tag. Dates are text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER:
        return text
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    return _number(text) if _FLOAT.fullmatch(text) else text


def tagged(tag: str, text: str) -> Any:
    """The value of a word with a tag such as `!!str`. Raises ValueError for a tag that is not known, and for text that is no such value."""
    read = _TAGS.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
    if read is None:
        raise ValueError(unknown_tag(tag))
    try:
        return read(text)
    except ValueError as error:
        message = f"is no {_short(tag)}"
        raise ValueError(message) from error


def is_collection_tag(tag: str) -> bool:
    """Whether a list or a mapping may have this tag."""
    return tag in {"!", f"{_TAG}map", f"{_TAG}seq"}


def unknown_tag(tag: str) -> str:
    """What is said of a tag that is not known."""
    return f"the tag {_short(tag)} is not known"


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-")
    base = _BASES.get(digits[:2], 8 if len(digits) > 1 and digits[0] == "0" else 10)
    rest = digits[2:] if digits[:2] in _BASES else digits
    return sign * int(rest or "0", base)


def _number(text: str) -> float | int:
    """JSON knows one kind of number: 8000.0 and 8e3 are 8000."""
    value = float(text.replace("_", ""))
    return int(value) if value.is_integer() and abs(value) <= _LARGEST_EXACT else value


def _of_kind(*kinds: type | None) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = plain(text)
        if type(value) not in {kind or type(None) for kind in kinds}:
            raise ValueError
        return value

    return read


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except binascii.Error as error:
        raise ValueError from error


_TAGS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "timestamp": str,
    "binary": _binary,
    "null": _of_kind(None),
    "bool": _of_kind(bool),
    "int": _of_kind(int),
    "float": _of_kind(int, float),
}
