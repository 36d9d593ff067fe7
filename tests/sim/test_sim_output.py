"""Tokens and pseudo-text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.sim import output, tokenizer
from warmroute.sim.statistics import Histogram, token_buckets


@given(st.text())
def test_text_survives_the_tokenizer(text: str) -> None:
    packed = tokenizer.encode(text)
    assert tokenizer.count(packed) == -(-len(text.encode()) // 4)
    assert tokenizer.decode(packed) == text.rstrip("\0")
    assert tokenizer.pack(tokenizer.unpack(packed)) == packed


@pytest.mark.parametrize("ids", [[-1], [2**32], ["a"], [None], [1.5]])
def test_ids_that_are_none_are_refused(ids: list[object]) -> None:
    with pytest.raises(ValueError, match="token ids must be integers"):
        tokenizer.pack(ids)  # type: ignore[arg-type]


@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(0, 50))
def test_an_answer_is_the_same_however_it_is_cut(seed: int, cut: int, more: int) -> None:
    whole = output.text(seed, 0, cut + more)
    assert whole == output.text(seed, 0, cut) + output.text(seed, cut, cut + more)
    assert len(whole) == 4 * (cut + more)


def test_answers_differ_by_prompt_and_by_choice() -> None:
    seeds = {output.seed_of(b"abcd"), output.seed_of(b"abce"), output.seed_of(b"abcd", 1)}
    assert len({output.text(seed, 0, 20) for seed in seeds}) == 3


@pytest.mark.parametrize(("value", "mean"), [("7", 7), ("uniform:10:20", 15), ("lognormal:100", 100), ("lognormal:50:1", 50)])
def test_lengths_have_the_mean_that_was_asked_for(value: str, mean: float) -> None:
    length = output.parse_output_length(value)
    samples = [length.sample(output.seed_of(index.to_bytes(4, "little"))) for index in range(20_000)]
    assert min(samples) >= 1
    assert sum(samples) / len(samples) == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize("value", ["", "0", "-3", "x", "uniform:5", "uniform:9:3", "lognormal:nan", "normal:3:1"])
def test_a_length_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(output.OutputLengthError, match="expected N"):
        output.parse_output_length(value)


def test_histogram_bounds_are_inclusive_and_grow_1_2_5() -> None:
    histogram = Histogram(token_buckets(2048))
    assert histogram.bounds[-3:] == (500.0, 1000.0, 2000.0)
    for value in (1, 2, 3, 5000):
        histogram.observe(value)
    assert histogram.counts[:3] == [1, 1, 1]
    assert (histogram.counts[-1], histogram.count, histogram.total) == (1, 4, 5006)
