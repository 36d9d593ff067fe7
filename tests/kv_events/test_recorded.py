"""What a real vLLM published, over a real socket."""

import base64
import json
from pathlib import Path

import msgpack
import pytest

from policies import policy
from warmroute._core import Engine
from warmroute.config.flags import parse_flags
from warmroute.config.settings import engine_settings
from warmroute.metrics.families import from_engine

from .conftest import Publish, Subscribe
from .support import eventually

RECORDED = Path(__file__).parents[1] / "data/vllm-0.32/kv-events.jsonl"
MESSAGES = [[base64.b64decode(frame) for frame in json.loads(line)] for line in RECORDED.read_text().splitlines()]
BLOCKS = sum(len(event["block_hashes"]) for _, _, payload in MESSAGES for event in msgpack.unpackb(payload)[1])


def indexed(engine: Engine) -> float:
    engine.maintain()
    families = {family.name: family for family in map(from_engine, engine.stats())}
    return families["llm_d_epp_kv_cache_index_pairs"].samples[0].value


@pytest.mark.parametrize("joining", ["from the start", "late, with a replay"])
def test_recorded_events_fill_the_index(subscribe: Subscribe, publish: Publish, joining: str) -> None:
    engine = Engine(engine_settings(parse_flags(["--endpoint=http://127.0.0.1:1"])), policy({"type": "precise-prefix-cache-scorer", "weight": 1}))
    late = joining != "from the start"
    publisher = publish(topic=MESSAGES[0][0].decode())
    if late:
        for *_, payload in MESSAGES:
            publisher.publish(payload, lost=True)
    labels = {"warmroute.dev/kv-events": publisher.address, "warmroute.dev/kv-events-replay": publisher.replay}
    engine.upsert_endpoint("default", "a", "127.0.0.1", 8200, labels)
    subscribe(engine.kv_events())
    if not late:
        publisher.subscribed()
        for *_, payload in MESSAGES:
            publisher.publish(payload)
    eventually(lambda: indexed(engine) == BLOCKS, f"all {BLOCKS} blocks are in the index")
    engine.remove_endpoint("default", "a")
    assert indexed(engine) == 0
