"""What the picker learns of the model servers through a real Envoy, and what it says that it runs on."""

import random
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .harness import SOON, Gateway, eventually, running

#: What the simulated server of the preset h100-8b takes for a token of a prompt.
SECONDS_PER_TOKEN = 31.5e-6
TOKENS = 6
REQUESTS = 45
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def gauges(gateway: Gateway, name: str) -> dict[tuple[str, ...], float]:
    """A family of the picker's page, by its labels."""
    text = httpx.get(f"{gateway.ready['metrics']}/metrics", timeout=SOON).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {tuple(sample.labels.values()): sample.value for sample in families[f"llm_d_epp_{name}"].samples}


def signals(gateway: Gateway) -> dict[str, float]:
    """What the endpoints run on."""
    return {signal: count for (signal,), count in gauges(gateway, "policy_signal_endpoints").items() if count}


def prompts() -> list[str]:
    """Prompts from short to long with nothing in common, in no order."""
    chance = random.Random(7)
    return [" ".join(f"{chance.randrange(10**9):09}" for _ in range(chance.choice([20, 200, 600, 1200]))) for _ in range(REQUESTS)]


@pytest.mark.parametrize(
    ("share", "fields", "signal"),
    # Also with all streams watched it is a share of the answers: the gateway's own request at its start was not one of them.
    [("1", STREAM, "sampled"), ("0", STREAM, "counters"), ("1", {}, "counters")],
    ids=["watched streams", "streams", "plain answers"],
)
def test_rates_are_learnt_from_the_best_signal_there_is(share: str, fields: dict[str, Any], signal: str) -> None:
    with running("--sim", "1", "--sim-preset", "h100-8b", "--response-sample", share) as gateway:
        for prompt in prompts():
            answer = gateway.complete(prompt, max_tokens=TOKENS, **fields)
            assert answer.status_code == 200
            assert "data:" in answer.text or answer.json()["usage"]["completion_tokens"] == TOKENS
        eventually(lambda: signals(gateway) == {signal: 1.0}, f"the signal {signal}")
        (rate,) = gauges(gateway, "policy_prefill_tokens_per_second").values()
        # Before anything is learnt it is 10,000; attention makes the server a little slower than by its tokens alone.
        assert 0.7 < rate * SECONDS_PER_TOKEN < 1.45
        (token_seconds,) = gauges(gateway, "policy_decode_seconds_per_token").values()
        assert 0.004 < token_seconds < 0.012
        (output_tokens,) = gauges(gateway, "policy_output_tokens").values()
        assert output_tokens < 95.0
        assert sum(row["prefill_tokens"] + row["inflight_requests"] for row in gateway.picker_endpoints()) == 0
