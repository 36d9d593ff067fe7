"""Named policies: files that are ordinary configurations, and what each decides on a pool of three pods."""

import subprocess
import sys

import pytest

from hermetic import messages
from hermetic.conftest import pb
from warmroute import _core, policies
from warmroute.config.defaults import default_plan
from warmroute.config.errors import UsageError
from warmroute.config.flags import parse_flags
from warmroute.config.read import Given, read_plan
from warmroute.config.settings import engine_settings, policy_settings
from warmroute.config.trial import try_plan

__all__ = ["pb"]

ALL = ("marginal-latency", "bounded-hash", "cache-aware", "least-request", "lmetric", "random", "reference", "round-robin")


class Pool:
    """An engine with a named policy and three idle pods."""

    def __init__(self, pb, name):
        self._pb = pb
        self._engine = _core.Engine(engine_settings(parse_flags([])), policy_settings(default_plan(name)))
        for index in range(3):
            self._engine.upsert_endpoint("default", f"pod-{index}", f"10.0.0.{index}", 8000, {})
        self._engine.set_synced(synced=True)
        self._held = []

    def send(self, prompt="a", *, hold=False):
        """Number of the pod that a prompt of 1,024 tokens, all this letter, goes to; it ends at once unless it is held."""
        exchange = _core.Exchange(self._engine)
        replies = []
        for message in (messages.headers(self._pb, x_request_id="id"), messages.body(self._pb, messages.completion("m", prompt * 4096))):
            replies += map(self._pb.ProcessingResponse.FromString, exchange.receive(message.SerializeToString())[0])
        if hold:
            self._held.append(exchange)
        else:
            exchange.close()
        options = [
            option.header
            for reply in replies
            for part in (reply.request_headers, reply.request_body)
            for option in part.response.header_mutation.set_headers
        ]
        (address,) = {option.raw_value.decode() or option.value for option in options if option.key == "x-gateway-destination-endpoint"}
        return int(address.removesuffix(":8000").rpartition(".")[2])

    def release(self):
        """End what is held."""
        while self._held:
            self._held.pop().close()


@pytest.fixture
def pool(pb):
    """Make a pool: `pool(name)`."""
    return lambda name: Pool(pb, name)


def test_there_are_these_policies():
    assert policies.names() == ALL
    with pytest.raises(UsageError, match=r"^'lmetrik' is no policy \(did you mean \"lmetric\"\?\); there are marginal-latency, bounded-hash,"):
        policies.document("lmetrik")
    with pytest.raises(UsageError, match="is no policy"):
        policies.document("../policies/lmetric")


@pytest.mark.parametrize("name", ALL)
def test_a_policys_file_is_a_configuration_that_comes_to_the_same(name, tmp_path):
    assert policies.text(name).startswith("# "), "it says what it is"
    document = policies.document(name)
    assert (document.source, document.lines["apiVersion",]) == (
        f"{name}.yaml",
        policies.text(name).splitlines().index("apiVersion: llm-d.ai/v1alpha1") + 1,
    )
    plan = default_plan(name)
    try_plan(plan, parse_flags([]))
    copied = tmp_path / "mine.yaml"
    copied.write_text(policies.text(name))
    mine = read_plan(Given(file=copied))
    assert mine.effective.data == plan.effective.data
    assert policy_settings(mine) == policy_settings(plan)
    assert mine.notices == plan.notices == ()


@pytest.mark.parametrize("name", ["marginal-latency", "reference", "lmetric", "cache-aware", "bounded-hash"])
def test_a_warm_prompt_goes_where_it_was_before(pool, name):
    pods = pool(name)
    for prompt in "abcdef":
        first = pods.send(prompt)
        assert [pods.send(prompt) for _ in range(8)] == [first] * 8, prompt


@pytest.mark.parametrize("name", ["marginal-latency", "lmetric", "least-request", "cache-aware"])
def test_cold_prompts_are_spread_over_what_is_in_flight(pool, name):
    for _ in range(5):
        pods = pool(name)
        assert {pods.send(prompt, hold=True) for prompt in "abc"} == {0, 1, 2}


def test_random_and_round_robin_look_at_nothing(pool):
    pods = pool("round-robin")
    assert [pods.send(hold=number < 3) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    pods = pool("random")
    # 200 expected each, standard deviation 12.
    counts = [0, 0, 0]
    for _ in range(600):
        counts[pods.send()] += 1
    assert all(abs(count - 200) < 70 for count in counts), counts


def test_least_request_follows_what_ends(pool):
    pods = pool("least-request")
    held = [pods.send(hold=True) for _ in range(5)]
    assert sorted(held[:3]) == [0, 1, 2]
    (free,) = {0, 1, 2} - set(held[3:])
    assert pods.send() == free
    pods.release()
    assert {pods.send(hold=True) for _ in range(3)} == {0, 1, 2}


def test_cache_aware_lets_the_load_decide_where_it_is_uneven(pool):
    pods = pool("cache-aware")
    warm = pods.send()
    # As far apart as allowed, and one more.
    assert {pods.send(hold=True) for _ in range(33)} == {warm}
    also_warm = pods.send()
    assert also_warm != warm
    pods.release()
    assert {pods.send() for _ in range(40)} == {warm, also_warm}


def test_bounded_hash_agrees_between_pickers_and_has_a_bound(pool):
    left, right = pool("bounded-hash"), pool("bounded-hash")
    prompts = "abcdefghijklmnopqrstuvwxyz"
    homes = [left.send(prompt) for prompt in prompts]
    assert [right.send(prompt) for prompt in reversed(prompts)] == homes[::-1]
    assert set(homes) == {0, 1, 2}
    picks = [left.send(hold=True) for _ in range(12)]
    # At most a quarter above the mean of four, rounded up, however often the same prompt comes.
    assert max(map(picks.count, range(3))) == 5
    assert (picks[0], set(picks)) == (homes[0], {0, 1, 2})


def test_check_shows_any_policy_and_what_is_meant_by_one_that_is_not_there():
    def check(name):
        command = [sys.executable, "-m", "warmroute", "check", "--policy", name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    shown = check("round-robin")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "no configuration is given (--policy round-robin)" in shown.stdout
    refused = check("round-robbin")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("warmroute check: 'round-robbin' is no policy (did you mean \"round-robin\"?)")
