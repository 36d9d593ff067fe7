"""The sockets with the real engine behind them."""

import json
from pathlib import Path
from typing import Any

import pytest

from warmroute._core import Engine
from warmroute.config.flags import parse_flags
from warmroute.config.read import Given, read_plan
from warmroute.config.settings import engine_settings, policy_settings
from warmroute.kv_events.sink import EventSink
from warmroute.metrics.families import from_engine

from .conftest import Publish, Subscribe
from .support import Publisher, eventually, stored


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine without endpoints, which tells of its exact index."""
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"kind": "EndpointPickerConfig", "apiVersion": "llm-d.ai/v1alpha1", "plugins": [{"type": "precise-prefix-cache-producer"}]})
    )
    return Engine(engine_settings(parse_flags(["--endpoint=http://127.0.0.1:1"])), policy_settings(read_plan(Given(file=file))))


def join(engine: Engine, name: str, publisher: Publisher, port: int = 8000, **labels: str) -> None:
    """Put an endpoint into the pool that publishes there."""
    replay = {"warmroute.dev/kv-events-replay": publisher.replay} if publisher.replay else {}
    engine.upsert_endpoint("default", name, "127.0.0.1", port, {"warmroute.dev/kv-events": publisher.address} | replay | labels)


def total(engine: Engine, name: str) -> float:
    """A counter over all labels; 0 where it is not told."""
    families = {family.name: family for family in map(from_engine, engine.stats())}
    family = families.get(f"llm_d_epp_{name}")
    return 0.0 if family is None else sum(sample.value for sample in family.samples)


def test_engine_is_an_event_sink(engine: Engine) -> None:
    sink: EventSink = engine.kv_events()
    assert sink.pool() == []
    engine.upsert_endpoint("default", "a", "127.0.0.1", 8000, {"zone": "x"})
    engine.upsert_endpoint("default", "b", "fd00::1", 8001, {})
    before = sink.pool_generation()
    rows = sorted(sink.pool())
    assert [row[2:] for row in rows] == [("default", "a", "127.0.0.1", 8000, {"zone": "x"}), ("default", "b", "fd00::1", 8001, {})]
    # New labels are the same server; one that left and came back into its slot is not.
    engine.upsert_endpoint("default", "a", "127.0.0.1", 8000, {"zone": "y"})
    assert sink.pool_generation() > before
    relabelled = sorted(sink.pool())
    assert [row[:2] for row in relabelled] == [row[:2] for row in rows]
    engine.remove_endpoint("default", "a")
    engine.upsert_endpoint("default", "a", "127.0.0.1", 8000, {"zone": "y"})
    returned = sorted(sink.pool())
    assert returned[0][0] == rows[0][0]
    assert returned[0][1] not in {row[1] for row in rows}
    assert sink.open(rows[0][0], rows[0][1], "127.0.0.1:8000", 0, "vllm") is None
    with pytest.raises(ValueError, match='engine "vlm" is not known'):
        sink.open(rows[0][0], returned[0][1], "127.0.0.1:8000", 0, "vlm")


def test_message_of_a_server_that_left_is_ignored_before_its_socket_is_closed(engine: Engine) -> None:
    sink = engine.kv_events()
    engine.upsert_endpoint("default", "a", "127.0.0.1", 8000, {})
    (row,) = sink.pool()
    publisher = sink.open(row[0], row[1], "127.0.0.1:8000", 0, "vllm")
    assert publisher is not None
    # Something is missing before it: the engine takes it, and wants the rest.
    assert sink.receive(publisher, b"", (4).to_bytes(8, "big"), stored(1)) == 0
    assert sink.replay_ended(publisher, complete=False) is None
    assert sink.receive(publisher, b"", (9).to_bytes(8, "big"), stored(1)) is not None
    engine.remove_endpoint("default", "a")
    engine.upsert_endpoint("default", "b", "127.0.0.1", 8001, {})
    assert sink.receive(publisher, b"", (12).to_bytes(8, "big"), stored(1)) is None
    assert sink.replay_ended(publisher, complete=True) is None
    sink.close(publisher)


@pytest.mark.parametrize("form", ["map", "array"])
def test_late_joiner_is_told_everything_without_a_live_message(engine: Engine, subscribe: Subscribe, publish: Publish, form: str) -> None:
    publisher = publish()
    for number in range(1, 4):
        publisher.publish(stored(number, form=form), lost=True)
    join(engine, "a", publisher)
    subscriber = subscribe(engine.kv_events())
    eventually(lambda: [state for state in subscriber.states() if state["replays"] == 1 and not state["replaying"]], "the replay")
    assert publisher.asked == [0]
    publisher.subscribed().publish(stored(4, form=form))
    eventually(lambda: subscriber.states()[0]["messages"] == 1, "the live message")
    assert (subscriber.states()[0]["replays"], publisher.asked) == (1, [0]), "nothing was missing"


def test_publisher_that_was_started_again_is_noticed_and_asked_from_its_beginning(engine: Engine, subscribe: Subscribe, publish: Publish) -> None:
    first = publish()
    join(engine, "a", first)
    subscriber = subscribe(engine.kv_events())
    first.subscribed()
    for number in range(1, 6):
        first.publish(stored(number))
    eventually(lambda: subscriber.states() and subscriber.states()[0]["messages"] == 5, "five messages")
    first.close()
    second = publish(first.address, replay=first.replay)
    second.publish(stored(7), lost=True)
    second.subscribed().publish(stored(8))
    eventually(lambda: second.asked and second.asked[-1] == 0, "asked from the beginning")


def test_counters_are_on_the_page_with_their_endpoint(engine: Engine, subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish(replay=None)
    join(engine, "a", publisher)
    subscribe(engine.kv_events())
    publisher.subscribed().publish(stored(1))
    eventually(lambda: total(engine, "kv_cache_events_messages_received_total") == 1, "the message is counted")
    family = next(stats for stats in engine.stats() if stats["name"] == "kv_cache_events_messages_received_total")
    sample: Any = family["samples"][0]
    assert json.dumps(sample[0]) == '["127.0.0.1:8000"]'
    assert total(engine, "kv_cache_events_active_subscribers") == 1
