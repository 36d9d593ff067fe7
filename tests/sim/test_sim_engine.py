"""The scheduler: budgets, order, prefix hits, preemption, adapters, aborts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.sim.cost import PRESETS, CostModel
from warmroute.sim.engine import EngineLimitError, EngineSettings, SimulatedEngine
from warmroute.sim.sequence import Sequence

INSTANT = PRESETS["instant"].cost
UNIT = CostModel(1.0, 0.0, 0.0, 0.0, 0.0)


def prompt(seed: int, tokens: int) -> bytes:
    return b"".join((seed * 100_000 + index).to_bytes(4, "little") for index in range(tokens))


def run(engine: SimulatedEngine, now: float = 0.0, limit: int = 100_000) -> float:
    for _ in range(limit):
        seconds = engine.begin_step(now)
        if seconds is None:
            return now
        now += seconds
        engine.finish_step(now)
    raise AssertionError("the engine never became idle")


def engine_with(**sizes: int) -> SimulatedEngine:
    values: dict[str, Any] = {"max_model_len": 4096, **sizes}
    return SimulatedEngine(EngineSettings(UNIT, **values))


def test_a_prompt_that_fits_a_step_gets_a_token_each_step() -> None:
    engine = engine_with()
    sequence = Sequence(prompt(1, 100), 5, 5)
    engine.add(sequence, 0.0)
    assert run(engine) == 5
    assert (sequence.generated, sequence.finished, sequence.first_token) == (5, "length", 1.0)
    assert engine.cache.used_blocks == 0


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    engine = engine_with(max_num_batched_tokens=1000)
    engine.add(Sequence(prompt(1, 2500), 1, 1), 0.0)
    assert run(engine) == 3
    histogram = engine.statistics.step_tokens
    assert (histogram.count, histogram.total) == (3, 2500)


def test_decodes_come_before_new_prompts_within_the_budget() -> None:
    engine = engine_with(max_num_batched_tokens=100)
    first = Sequence(prompt(1, 50), 10, 10)
    engine.add(first, 0.0)
    engine.begin_step(0.0)
    engine.finish_step(1.0)
    second = Sequence(prompt(2, 100), 1, 1)
    engine.add(second, 1.0)
    engine.begin_step(1.0)
    engine.finish_step(2.0)
    assert first.generated == 2
    assert second.computed == 99


def test_only_so_many_sequences_run_at_once() -> None:
    engine = engine_with(max_num_seqs=2)
    for index in range(3):
        engine.add(Sequence(prompt(index, 16), 4, 4), 0.0)
    engine.begin_step(0.0)
    assert (len(engine.running), len(engine.waiting)) == (2, 1)
    engine.finish_step(1.0)
    assert run(engine, 1.0) == 8


def test_a_second_equal_prompt_hits_whole_blocks_and_computes_the_last_token() -> None:
    engine = engine_with()
    for tokens, cached in ((100, 96), (96, 80), (97, 96), (16, 0)):
        first, second = Sequence(prompt(tokens, tokens), 1, 1), Sequence(prompt(tokens, tokens), 1, 1)
        engine.add(first, 0.0)
        run(engine)
        engine.add(second, 0.0)
        run(engine)
        assert (first.cached_tokens, second.cached_tokens) == (0, cached)


def test_equal_prompts_in_one_step_share_blocks() -> None:
    engine = engine_with()
    engine.add(Sequence(prompt(1, 160), 1, 1), 0.0)
    second = Sequence(prompt(1, 160), 1, 1)
    engine.add(second, 0.0)
    run(engine)
    assert second.cached_tokens == 144


def test_an_answer_that_comes_back_as_prompt_is_cached_too() -> None:
    engine = engine_with()
    first = Sequence(prompt(1, 32), 33, 33, seed=5)
    engine.add(first, 0.0)
    run(engine)
    second = Sequence(first.tokens(0, 65), 1, 1)
    engine.add(second, 0.0)
    run(engine)
    assert second.cached_tokens == 64


@pytest.mark.parametrize(("change", "cached"), [({}, 96), ({"lora": "a1"}, 0), ({"salt": "s"}, 0)])
def test_blocks_are_shared_only_within_an_adapter_and_a_salt(change: dict[str, str], cached: int) -> None:
    engine = engine_with()
    engine.add(Sequence(prompt(1, 100), 1, 1), 0.0)
    run(engine)
    second = Sequence(prompt(1, 100), 1, 1, **change)  # type: ignore[arg-type]
    engine.add(second, 0.0)
    run(engine)
    assert second.cached_tokens == cached


def test_the_least_recently_used_prefix_is_evicted() -> None:
    engine = engine_with(num_gpu_blocks=21, max_model_len=320)
    for seed in (1, 2, 1, 3):  # three prompts of nine blocks, twenty blocks in all
        engine.add(Sequence(prompt(seed, 144), 1, 1), 0.0)
        run(engine)
    kept, lost = Sequence(prompt(1, 144), 1, 1), Sequence(prompt(2, 144), 1, 1)
    engine.add(kept, 0.0)
    run(engine)
    engine.add(lost, 0.0)
    run(engine)
    assert kept.cached_tokens == 128
    assert lost.cached_tokens < 128


def test_running_out_of_blocks_preempts_the_last_and_everything_still_ends() -> None:
    engine = engine_with(num_gpu_blocks=11, max_model_len=160)
    sequences = [Sequence(prompt(index, 60), 90, 90, seed=index) for index in range(2)]
    for sequence in sequences:
        engine.add(sequence, 0.0)
    run(engine)
    assert engine.statistics.preemptions > 0
    # The second look of a preempted sequence is not counted, as in vLLM.
    assert engine.statistics.prefix_cache_queries == 2 * 60
    assert [sequence.generated for sequence in sequences] == [90, 90]
    assert sequences[0].preemptions == 0
    assert engine.cache.used_blocks == 0


def test_a_request_beyond_the_adapter_slots_waits_and_others_pass_it() -> None:
    engine = engine_with(max_loras=1)
    for index, lora in enumerate(("a", "b", None)):
        engine.add(Sequence(prompt(index, 16), 2, 2, lora=lora), 0.0)
    engine.begin_step(0.0)
    assert engine.running_adapters() == ["a"]
    assert engine.waiting_adapters() == ["b"]
    assert (len(engine.running), engine.deferred) == (2, 1)
    engine.finish_step(1.0)
    assert run(engine, 1.0) == 4


@pytest.mark.parametrize("when", ["waiting", "in a step", "between steps"])
def test_an_abort_frees_everything(when: str) -> None:
    engine = engine_with(max_num_seqs=1)
    first, second = Sequence(prompt(1, 100), 50, 50), Sequence(prompt(2, 100), 3, 3)
    engine.add(first, 0.0)
    engine.add(second, 0.0)
    if when != "waiting":
        engine.begin_step(0.0)
    if when == "between steps":
        engine.finish_step(1.0)
    engine.abort(first, 1.0)
    engine.abort(first, 1.0)
    if when == "in a step":
        engine.finish_step(1.0)
    run(engine, 1.0)
    assert (first.finished, second.finished) == ("abort", "length")
    assert engine.cache.used_blocks == 0
    assert engine.statistics.finished["abort"] == 1


def test_a_prompt_without_output_is_only_computed() -> None:
    engine = engine_with()
    sequence = Sequence(prompt(1, 100), 0, 0)
    engine.add(sequence, 0.0)
    run(engine)
    assert (sequence.generated, sequence.finished) == (0, "stop")


def test_what_can_never_run_is_refused_with_its_reason() -> None:
    engine = engine_with(max_model_len=100)
    with pytest.raises(EngineLimitError, match="90 prompt tokens and 11 output tokens"):
        engine.add(Sequence(prompt(1, 90), 11, 11), 0.0)
    with pytest.raises(EngineLimitError, match="at least one prompt token"):
        engine.add(Sequence(b"", 1, 1), 0.0)
    with pytest.raises(EngineLimitError, match="more than the 16 tokens"):
        engine_with(num_gpu_blocks=2, max_model_len=17)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 120), st.integers(0, 40), st.sampled_from([None, "a", "b"])),
        min_size=1,
        max_size=25,
    ),
    st.sets(st.integers(0, 24)),
)
def test_every_sequence_ends_and_nothing_stays_held(asked: list[tuple[int, int, int, str | None]], aborted: set[int]) -> None:
    sizes = EngineSettings(INSTANT, num_gpu_blocks=14, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=200, max_loras=1)
    engine = SimulatedEngine(sizes)
    sequences = [Sequence(prompt(seed, tokens), out, out, seed, lora) for seed, tokens, out, lora in asked]
    for index, sequence in enumerate(sequences):
        engine.add(sequence, 0.0)
        if index % 3 == 0 and engine.begin_step(0.0) is not None:
            if index in aborted:
                engine.abort(sequence, 0.0)
            engine.finish_step(0.0)
    for index in aborted:
        if index < len(sequences):
            engine.abort(sequences[index], 0.0)
    run(engine)
    assert all(sequence.finished for sequence in sequences)
    for sequence in sequences:
        assert sequence.finished == "abort" or sequence.generated == sequence.output_tokens
    assert engine.cache.used_blocks == 0
    assert engine.cache.free_blocks == 13
    assert sum(engine.statistics.finished.values()) == len(sequences)


def test_a_host_that_runs_late_never_yields_negative_times() -> None:
    engine = engine_with()
    engine.add(Sequence(prompt(1, 16), 3, 3), 10.0)
    run(engine, 5.0)
    statistics = engine.statistics
    for histogram in (statistics.queue, statistics.time_to_first_token, statistics.prefill, statistics.end_to_end):
        assert histogram.total >= 0
