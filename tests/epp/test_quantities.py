"""Durations and quantities."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.config.quantities import parse_bool, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("0", 0),
        ("0s", 0),
        ("1.5h", 5400),
        ("1h0m0.5s", 3600.5),
        ("100us", 1e-4),
        ("1µs", 1e-6),
        (".5s", 0.5),
    ],
)
def test_go_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "+", "-1s", "30", "s", "1 s", "1d", "1s1", "9999h1h9999999h", "\u0661s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("64Mi", 64 * 2**20),
        ("10MiB", 10 * 2**20),
        ("25MB", 25_000_000),
        ("4194304", 4194304),
        ("1e6", 10**6),
        ("1.5Gi", 3 * 2**29),
        ("1k", 1000),
        ("0", 0),
    ],
)
def test_kubernetes_quantities(text, number):
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "B", "-1", "1KiBB", "ten", "1e999", "1E99", "Mi"])
def test_what_is_no_quantity(text):
    with pytest.raises(ValueError):
        parse_quantity(text)


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_value_error(text):
    for parse in (parse_duration, parse_quantity, parse_bool):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
