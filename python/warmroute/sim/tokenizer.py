"""The simulated tokenizer: four bytes of UTF-8 are one token, whose id is those bytes read as a little-endian u32.

It agrees with the gateway's own estimate (four bytes of text count as one token), costs one copy, and is reversible:
a text that ends within a token is padded with zero bytes, which decoding drops. A prompt is held as the packed
bytes of its ids, so text, token ids from a client and hashed blocks are all the same thing.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN_BYTES = 4
"""Bytes of text in a token, and bytes of a packed id."""

MAX_TOKEN_ID = 2**32 - 1


def encode(text: str) -> bytes:
    """Packed ids of a text: `len(result) // 4` tokens. Lone surrogates (legal in JSON) are kept."""
    return pad(text.encode("utf-8", "surrogatepass"))


def pad(data: bytes) -> bytes:
    """Fill the last token with zero bytes."""
    missing = -len(data) % TOKEN_BYTES
    return data + bytes(missing) if missing else data


def count(packed: bytes) -> int:
    """Tokens in packed ids."""
    return len(packed) // TOKEN_BYTES


def pack(token_ids: Iterable[int]) -> bytes:
    """Packed form of a client's token ids.

    Raises:
        ValueError: an id is no integer between 0 and 2^32 - 1.
    """
    try:
        ids = array("I", token_ids)
    except (TypeError, OverflowError) as error:
        message = f"token ids must be integers between 0 and {MAX_TOKEN_ID}"
        raise ValueError(message) from error
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tobytes()


def unpack(packed: bytes) -> list[int]:
    """Token ids of packed bytes."""
    ids = array("I")
    ids.frombytes(packed)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def decode(packed: bytes) -> str:
    """Text of packed ids; bytes that are no UTF-8 become U+FFFD."""
    return packed.rstrip(b"\0").decode("utf-8", "replace")
