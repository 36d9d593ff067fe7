"""The cost model gives the figures of the policy study."""

import pytest

from warmroute.sim.cost import PRESETS, StepWork


def test_a_prefill_step_costs_its_tokens_and_their_attention() -> None:
    work = StepWork()
    work.add_prefill(computed=0, tokens=1000)
    # 7 ms + 1000 x 31.5 us + 1000 x 500 x 1 ns
    assert PRESETS["h100-8b"].cost.step_seconds(work) == pytest.approx(0.007 + 0.0315 + 0.0005)


def test_a_cached_prefix_still_costs_attention() -> None:
    work = StepWork()
    work.add_prefill(computed=6000, tokens=1200)
    # 18 ms + 1200 x 80 us + 1200 x 6600 x 1.5 ns
    assert PRESETS["h100-70b"].cost.step_seconds(work) == pytest.approx(0.018 + 0.096 + 0.01188)


def test_decoding_costs_sequences_and_the_context_they_read() -> None:
    work = StepWork()
    for _ in range(10):
        work.add_decode(context=1000)
    # 7 ms + 10 x 20 us + 10,000 x 48 ns
    assert PRESETS["h100-8b"].cost.step_seconds(work) == pytest.approx(0.007 + 0.0002 + 0.00048)


def test_instant_takes_no_time_and_speed_divides() -> None:
    work = StepWork(prefill_tokens=8192, decode_sequences=255, decode_kv_tokens=10**6, prefill_context=1e9)
    assert PRESETS["instant"].cost.step_seconds(work) == 0
    cost = PRESETS["h100-8b"].cost
    assert cost.faster(10).step_seconds(work) == pytest.approx(cost.step_seconds(work) / 10)
