"""Live messages reach the right publisher of the engine, whatever publishers and pool do."""

import socket
import time
from contextlib import closing

import pytest

from warmroute.kv_events import session as session_module
from warmroute.kv_events import subscriber as subscriber_module
from warmroute.kv_events.following import KvEvents
from warmroute.kv_events.settings import KvEventsError, KvEventsSettings
from warmroute.kv_events.subscriber import KvEventsSubscriber

from .conftest import Publish, Subscribe
from .support import POD, RecordingSink, eventually, row, stored


@pytest.mark.parametrize("form", ["map", "array"])
def test_messages_come_with_topic_number_and_payload(subscribe: Subscribe, publish: Publish, form: str) -> None:
    publisher = publish()
    sink = RecordingSink([row(3, publisher, port=7997)])
    subscriber = subscribe(sink)
    publisher.subscribed()
    payloads = [stored(number, form=form) for number in range(1, 4)]
    for payload in payloads:
        publisher.publish(payload)
    eventually(lambda: sink.payloads[0] == payloads, "three messages")
    assert sink.opened == [(3, 1, POD, 0, "vllm")]
    assert sink.topics[0] == f"kv@{POD}@tiny".encode()
    state = eventually(lambda: [state for state in subscriber.states() if state["messages"] == 3], "state of the debug page")[0]
    assert (state["endpoint"], state["address"], state["connected"]) == (POD, publisher.address, True)


def test_address_comes_from_the_template(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish(replay=None)
    port = int(publisher.address.rpartition(":")[2])
    sink = RecordingSink([row()])
    subscribe(sink, socket_port=port)
    publisher.subscribed().publish(stored(1))
    eventually(lambda: sink.applied[0] == [0], "a message")


@pytest.mark.parametrize(("topic_filter", "topic"), [("", ""), ("kv@", "kv@1@m"), ("", "other")])
def test_filter_passes_topics_that_begin_with_it(subscribe: Subscribe, publish: Publish, topic_filter: str, topic: str) -> None:
    publisher = publish(topic=topic, replay=None)
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink, topic_filter=topic_filter)
    publisher.subscribed().publish(stored(1))
    eventually(lambda: sink.applied[0] == [0], "a message")


def test_topics_that_begin_otherwise_are_not_asked_for(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish(replay=None)
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink, topic_filter="kv@")
    publisher.subscribed()
    publisher.send(b"", bytes(8), stored(1))
    publisher.publish(stored(2))
    eventually(lambda: sink.payloads[0] == [publisher.kept[0][1]], "only the message that was asked for")


def test_publisher_that_is_killed_and_started_again_is_heard_again(subscribe: Subscribe, publish: Publish) -> None:
    first = publish(replay=None)
    sink = RecordingSink([row(0, first)])
    subscribe(sink)
    first.subscribed().publish(stored(1))
    eventually(lambda: sink.applied[0] == [0], "a message")
    first.close()
    eventually(lambda: sink.is_connected[0] is False, "disconnected")
    assert sink.closed == [], "a lost connection loses no entries"
    second = publish(first.address, replay=None, first=1)
    second.subscribed().publish(stored(2))
    eventually(lambda: sink.applied[0] == [0, 1], "a message of the new one")
    assert (sink.is_connected[0], sink.reconnections[0]) == (True, 1)


def test_endpoint_that_joins_or_leaves_is_followed_within_a_second(subscribe: Subscribe, publish: Publish) -> None:
    first, second = publish(), publish()
    sink = RecordingSink([row(0, first)])
    subscribe(sink)
    first.subscribed()
    changed = time.monotonic()
    sink.set_pool(row(1, second))
    second.subscribed()
    assert time.monotonic() - changed < 1.0
    second.publish(stored(1))
    eventually(lambda: sink.applied[1] == [0], "a message of the one that joined")
    assert sink.closed == [0]


@pytest.mark.parametrize("same_name", [True, False])
def test_slot_taken_over_gets_nothing_of_the_one_before(subscribe: Subscribe, publish: Publish, same_name: bool) -> None:
    old, new = publish(replay=None), publish(replay=None)
    sink = RecordingSink([row(0, old)])
    subscribe(sink)
    old.subscribed().publish(stored(1))
    eventually(lambda: sink.applied[0] == [0], "a message of the first")
    replacement = row(0, old if same_name else new, incarnation=2, name="" if same_name else "other")
    sink.set_pool(replacement)
    current = old if same_name else new
    current.subscribed()
    assert sink.closed == [0]
    old.publish(stored(2))
    if not same_name:
        new.publish(stored(3))
    eventually(lambda: sink.order[-1:] == [1], "a message of the second")
    # The fake fails on messages for a publisher that is closed; what was published meanwhile went to the new one or nowhere.
    assert sink.order.count(0) == 1
    assert [entry[:2] for entry in sink.opened] == [(0, 1), (0, 2)]


def test_flood_of_one_does_not_hold_another_up(subscribe: Subscribe, publish: Publish) -> None:
    loud, quiet = publish(replay=None), publish(replay=None)
    sink = RecordingSink([row(0, loud), row(1, quiet)])
    subscribe(sink)
    loud.subscribed()
    quiet.subscribed()
    flood = 5_000
    for number in range(flood):
        loud.publish(stored(number))
        if number == flood // 2:
            quiet.publish(stored(1))
    eventually(lambda: sink.applied[1] == [0] and len(sink.applied[0]) == flood, "all messages of both")
    slots = [sink.opened[publisher][0] for publisher in sink.order]
    assert slots.index(1) < len(slots) - 1, "the quiet one waited for the whole flood"


def test_garbage_costs_only_itself(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish(replay=None)
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed()
    publisher.send(b"kv@only one frame")
    publisher.send(b"kv@", b"\0" * 8, b"", b"four")
    publisher.publish(stored(1))
    eventually(lambda: sink.applied[0] == [0], "the good message")
    assert sink.errors == [(0, "recv"), (0, "recv")]


def test_engines_that_connect_are_told_apart_by_their_topics(subscribe: Subscribe, publish: Publish, caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordingSink([row(0), row(1), (2, 1, "default", "lone", "127.0.0.2", 8000, {})])
    subscriber = subscribe(sink, discover=False, bind="tcp://127.0.0.1:*")
    names = ["127.0.0.1:8000", "pod-1", "127.0.0.2", "127.0.0.1", "nobody"]
    publishers = [publish(topic=f"kv@{name}@tiny", address=subscriber.address, replay=None) for name in names]
    for number, publisher in enumerate(publishers):
        publisher.subscribed().publish(stored(number))
    slots = {entry[0]: publisher for publisher, entry in enumerate(sink.opened)}
    for slot in range(3):
        eventually(lambda slot=slot: sink.payloads[slots[slot]] == [publishers[slot].kept[0][1]], f"the message of slot {slot}")  # type: ignore[misc]
    # One address of two endpoints, and one of none: ignored, counted and told.
    eventually(lambda: subscriber.counts()[1] == 2, "two strangers")
    told = {record.__dict__["fields"]["name"] for record in caplog.records if "ignored" in record.message}
    assert told == {"127.0.0.1", "nobody"}
    sink.set_pool(row(1))
    eventually(lambda: len(sink.closed) == 2, "two left")
    publishers[1].publish(stored(9))
    eventually(lambda: len(sink.applied[slots[1]]) == 2, "the one that stayed is heard")


def test_taken_port_is_told_with_what_to_do(subscribe: Subscribe) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(KvEventsError, match=r"zmqEndpoint: cannot listen at tcp://127.0.0.1:\d+: .*another port"):
            subscribe(RecordingSink(), discover=False, bind=address)


@pytest.mark.parametrize("fault", [RuntimeError("out of order"), SystemExit("as a panic: no Exception")])
def test_thread_that_fails_is_counted_and_starts_again(publish: Publish, monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    monkeypatch.setattr(subscriber_module, "_RESTART_SECONDS", 0.01)
    publisher = publish(replay=None)
    sink = RecordingSink([row(0, publisher)])
    events = KvEvents(sink)
    events.follow(KvEventsSettings())
    publisher.subscribed()
    sink.crash = fault
    publisher.subscribed()
    publisher.publish(stored(1))
    eventually(lambda: sink.applied[1] == [0], "a message after the fault")
    assert sink.closed == [0]
    restarts = next(family for family in events.families() if "restarts" in family.name)
    assert restarts.samples[0].value == 1
    events.follow(None)
    assert (restarts.samples, sink.closed, events.states()) == (next(iter(events.families())).samples, [0, 1], [])


def test_new_settings_take_the_place_of_the_old_and_bad_ones_do_not(publish: Publish) -> None:
    publisher = publish(replay=None)
    sink = RecordingSink([row(0, publisher)])
    events = KvEvents(sink)
    settings = KvEventsSettings()
    events.follow(settings)
    events.follow(KvEventsSettings())
    assert len(sink.opened) == 1, "settings that are the same change nothing"
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(KvEventsError):
            events.follow(KvEventsSettings(bind=f"tcp://127.0.0.1:{taken.getsockname()[1]}"))
    publisher.subscribed()
    events.follow(KvEventsSettings(topic_filter=""))
    assert (len(sink.opened), sink.closed) == (3, [0, 1])
    events.stop()


def test_stop_is_prompt_and_closes_everything(publish: Publish) -> None:
    publisher = publish(replay=None)
    sink = RecordingSink([row(slot, publisher if slot == 0 else None) for slot in range(20)])
    subscriber = KvEventsSubscriber(KvEventsSettings(socket_port=20_000), sink)
    subscriber.start()
    publisher.subscribed()
    began = time.monotonic()
    subscriber.stop()
    assert time.monotonic() - began < 1.0
    assert sorted(sink.closed) == list(range(20))


def test_endpoints_for_which_no_socket_is_left_wait_for_one(
    subscribe: Subscribe, publish: Publish, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_OPEN_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(session_module, "_MOST_SOCKETS", 10)
    first, last = publish(replay=None), publish(replay=None)
    rows = [row(0, first), *(row(slot) for slot in range(1, 20)), row(20, last)]
    sink = RecordingSink(rows)
    subscribe(sink, socket_port=20_000)
    first.subscribed().publish(stored(1))
    eventually(lambda: sink.applied[0] == [0], "a message of the first")
    fields = [record.__dict__["fields"] for record in caplog.records if "cannot be received" in record.message]
    assert fields[0]["endpoints"] > 10
    assert "raise the limit of open files" in fields[0]["first-error"]
    sink.set_pool(rows[0], rows[-1])
    last.subscribed().publish(stored(2))
    eventually(lambda: sink.payloads[len(sink.opened) - 1] == [last.kept[0][1]], "a message of the last")


def test_publishers_that_nobody_hears_of_are_told_once_in_one_line(
    subscribe: Subscribe, publish: Publish, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_SILENT_SECONDS", 0.2)
    publisher = publish(replay=None)
    rows = [row(0, publisher), *(row(slot) for slot in range(1, 8))]
    sink = RecordingSink(rows[:-1])

    def told() -> list[int]:
        return [record.__dict__["fields"]["publishers"] for record in caplog.records if "nobody answers" in record.message]

    subscribe(sink, socket_port=20_000)
    publisher.subscribed()
    eventually(lambda: told() == [6], "the line")
    sink.set_pool(*rows)
    eventually(lambda: told() == [6, 1], "a line for the one that came later")
