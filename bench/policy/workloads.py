"""The three workloads: what is asked and when, drawn from a seed. The same seed and rate give the same schedule, whoever picks.

Sizes are scaled down from the policy study's families (shared8, chat8, skew8) so that a run of some twenty seconds passes its cold start and two
cores carry four simulated replicas: fewer and shorter prompts, a smaller KV cache, shorter pauses. What matters is kept: all prefixes together are
more than one replica holds and less than the pool does; turns come after the answer to the one before; one request in ten is twenty times as long.
Text is made of four-byte words, each of which is one token to the simulator and to the picker's estimate.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, product

_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_WORDS = ["".join((" ", *letters)) for letters in product(_CONSONANTS, "aeiou", _CONSONANTS)]


@dataclass(frozen=True, slots=True)
class Hardware:
    """What each simulated replica is."""

    preset: str
    speed: float
    """How many times faster than the preset."""
    blocks: int
    """KV blocks of 16 tokens."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a session."""

    pause: float
    """Seconds after the answer before (of the first turn: after the start) until it is sent."""
    text: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Session:
    """Requests of one client, each after the answer to the one before. Start in seconds from the beginning of the run."""

    start: float
    turns: tuple[Turn, ...]
    system: str = ""
    """System prompt of a chat; empty: plain completions."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A family of traffic and the hardware it is for."""

    name: str
    title: str
    hardware: Hardware
    guess: float
    """Requests/s at which the search for the capacity of four replicas begins."""
    draw: Callable[[random.Random, float, float, float], list[Session]]
    """Sessions for a rate (requests/s), a duration and how much of it is quieter (seconds)."""

    def sessions(self, rate: float, seconds: float, seed: int, quiet: float = 0.0) -> list[Session]:
        """The schedule of one run, by start. In the first `quiet` seconds half as many come."""
        return sorted(self.draw(random.Random(f"{self.name} {seed}"), rate, seconds, quiet), key=lambda session: session.start)


def text(generator: random.Random, tokens: int) -> str:
    """Words that nobody has seen."""
    return "".join(generator.choices(_WORDS, k=tokens))


def lognormal(generator: random.Random, mean: float, sigma: float, low: int, high: int) -> int:
    """A length with this mean (before it is bounded)."""
    return round(min(high, max(low, generator.lognormvariate(math.log(mean) - sigma**2 / 2, sigma))))


# In a pool with empty caches every prefix is computed at least once. Near capacity the queue of that lasts longer than a run does, and would be what is measured.
QUIET_SHARE = 0.5


def poisson(generator: random.Random, rate: float, seconds: float, quiet: float = 0.0) -> list[float]:
    """Arrivals up to a time; in the first `quiet` seconds at a share of the rate."""
    arrivals = []
    now = generator.expovariate(rate)
    while now < seconds:
        if now >= quiet or generator.random() < QUIET_SHARE:
            arrivals.append(now)
        now += generator.expovariate(rate)
    return arrivals


SHARED_GROUPS = 40
SHARED_PREFIX = 6_000


def _shared(generator: random.Random, rate: float, seconds: float, quiet: float) -> list[Session]:
    prefixes = [text(random.Random(f"group {group}"), SHARED_PREFIX) for group in range(SHARED_GROUPS)]
    weights = list(accumulate(1 / (rank + 1) for rank in range(SHARED_GROUPS)))
    sessions = []
    for start in poisson(generator, rate, seconds, quiet):
        prefix = generator.choices(prefixes, cum_weights=weights)[0]
        own = text(generator, lognormal(generator, 400, 0.5, 50, 1_500))
        sessions.append(Session(start, (Turn(0.0, prefix + own, lognormal(generator, 120, 0.5, 16, 300)),)))
    return sessions


CHAT_SYSTEMS = 8
CHAT_SYSTEM_TOKENS = 1_024
CHAT_TURNS = 6
CHAT_LONGEST = 20
CHAT_PAUSE = 2.0
# Of a turn, roughly; only says how many sessions are under way when the run begins.
CHAT_ANSWER_SECONDS = 2.5


def _chat(generator: random.Random, rate: float, seconds: float, quiet: float) -> list[Session]:
    # The sessions that are under way begin within seconds, with short prompts: fewer new ones would only leave the pool emptier later.
    del quiet
    systems = [text(random.Random(f"system {number}"), CHAT_SYSTEM_TOKENS) for number in range(CHAT_SYSTEMS)]
    session_rate = rate / CHAT_TURNS
    # The run begins with as many sessions as it would have after a while: the number of turns has no memory, so theirs are drawn as any other's.
    under_way = round(rate * (CHAT_PAUSE + CHAT_ANSWER_SECONDS))
    starts = [generator.uniform(0, CHAT_PAUSE + CHAT_ANSWER_SECONDS) for _ in range(under_way)]
    starts += poisson(generator, session_rate, seconds)
    return [_conversation(generator, start, generator.choice(systems)) for start in starts]


def _conversation(generator: random.Random, start: float, system: str) -> Session:
    turns: list[Turn] = []
    while True:
        pause = generator.expovariate(1 / CHAT_PAUSE) if turns else 0.0
        tokens = lognormal(generator, 500, 0.8, 20, 3_000)
        turns.append(Turn(pause, text(generator, tokens), lognormal(generator, 120, 0.5, 16, 300)))
        if len(turns) == CHAT_LONGEST or generator.random() < 1 / CHAT_TURNS:
            return Session(start, tuple(turns), system)


SKEWED_SHORT, SKEWED_LONG, SKEWED_SHARE = 400, 8_000, 0.1


def _skewed(generator: random.Random, rate: float, seconds: float, quiet: float) -> list[Session]:
    sessions = []
    for start in poisson(generator, rate, seconds, quiet):
        mean = SKEWED_LONG if generator.random() < SKEWED_SHARE else SKEWED_SHORT
        prompt = text(generator, lognormal(generator, mean, 0.3, 50, 4 * mean))
        sessions.append(Session(start, (Turn(0.0, prompt, lognormal(generator, 120, 0.5, 16, 300)),)))
    return sessions


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("shared", "shared prefixes", Hardware("h100-70b", 2.0, 9_375), 80.0, _shared),
        Workload("chat", "multi-turn chat", Hardware("h100-70b", 2.0, 9_375), 80.0, _chat),
        Workload("skewed", "no reuse, skewed lengths", Hardware("h100-70b", 2.0, 9_375), 60.0, _skewed),
    )
}
