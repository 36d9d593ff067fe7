"""Messages that were missed are asked for, within limits."""

import pytest

from warmroute.kv_events import replay as replay_module

from .conftest import Publish, Subscribe
from .support import Publisher, RecordingSink, eventually, row, stored


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between attempts."""
    monkeypatch.setattr(replay_module, "RETRY_SECONDS", 0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that stops is waited for only shortly."""
    monkeypatch.setattr(replay_module, "IDLE_SECONDS", 0.3)


def started(publisher: Publisher, count: int, *, lost: bool) -> None:
    for number in range(count):
        publisher.publish(stored(number), lost=lost)


@pytest.mark.parametrize("with_topic", [False, True])
def test_late_joiner_gets_what_was_sent_before(subscribe: Subscribe, publish: Publish, with_topic: bool) -> None:
    publisher = publish()
    publisher.with_topic = with_topic
    started(publisher, 5, lost=True)
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed().publish(stored(5))
    eventually(lambda: sink.applied[0] == list(range(6)), "what was sent before, and the live message")
    assert (publisher.asked, sink.ended[0]) == ([0], [True])


def test_publisher_that_says_nothing_is_asked_when_the_engine_wants_it(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    started(publisher, 3, lost=True)
    sink = RecordingSink([row(0, publisher)])
    sink.asks_at_once = True
    subscribe(sink)
    eventually(lambda: sink.applied[0] == [0, 1, 2], "what was sent before")


def test_gap_is_healed_by_what_the_publisher_still_has(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed()
    for lost in (False, True, True, False):
        publisher.publish(stored(publisher.sequence), lost=lost)
    eventually(lambda: sink.applied[0] == [0, 1, 2, 3], "all four")
    assert (publisher.asked, sink.drops[0]) == ([1], 0)


@pytest.mark.parametrize("keeps", [True, False])
def test_gap_that_cannot_be_healed_drops_what_was_known(subscribe: Subscribe, publish: Publish, keeps: bool) -> None:
    publisher = publish() if keeps else publish(replay=None)
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed()
    for lost in (False, True, False):
        publisher.publish(stored(publisher.sequence), lost=lost)
        publisher.kept.clear()
    if not keeps:
        publisher.publish(stored(3))
    eventually(lambda: sink.drops[0] == 1, "dropped")
    eventually(lambda: sink.applied[0] == ([2] if keeps else [2, 3]), "what came after")


def test_answer_that_stops_in_the_middle_is_continued(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    started(publisher, 8, lost=True)
    # As a ROUTER whose queue is full: number 3 is lost on its way, once.
    publisher.passes = lambda number: number != 3 or len(publisher.asked) > 1
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed().publish(stored(8))
    eventually(lambda: sink.applied[0] == list(range(9)), "all of them")
    assert publisher.asked == [0, 3]


@pytest.mark.usefixtures("impatient")
def test_answer_without_an_end_is_continued_while_there_is_progress(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    started(publisher, 4, lost=True)
    publisher.sends_end = False
    publisher.passes = lambda number: number < len(publisher.asked)
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed().publish(stored(4))
    eventually(lambda: sink.ended[0] == [False], "given up")
    # On from where it got to, until three attempts in a row were for nothing.
    assert list(dict.fromkeys(publisher.asked)) == [0, 1, 2, 3, 4, 5]
    assert publisher.asked[-3:] == [5, 5, 5]
    assert (0, "replay") in sink.errors
    assert sink.applied[0] == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("impatient")
def test_publisher_that_does_not_answer_is_given_up_and_left_alone_for_a_while(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    publisher.sends_end = False
    publisher.passes = lambda _: False
    sink = RecordingSink([row(0, publisher)])
    subscriber = subscribe(sink)
    publisher.subscribed()
    for lost in (True, False):
        publisher.publish(stored(1), lost=lost)
    eventually(lambda: sink.ended[0] == [False], "given up")
    assert publisher.asked == [0, 0, 0]
    for lost in (True, False):
        publisher.publish(stored(1), lost=lost)
    eventually(lambda: sink.ended[0] == [False, False], "the next gap is not asked for")
    assert publisher.asked == [0, 0, 0]
    assert subscriber.states()[0]["replaying"] is False


def test_malformed_answer_ends_a_replay(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    publisher.end = b"short"
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed()
    for lost in (True, False):
        publisher.publish(stored(1), lost=lost)
    eventually(lambda: sink.ended[0] == [False], "given up")
    assert (0, "replay") in sink.errors


def test_replays_beyond_the_limit_wait_for_their_turn(subscribe: Subscribe, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "AT_ONCE", 2)
    publishers = [publish() for _ in range(5)]
    sink = RecordingSink([row(slot, publisher) for slot, publisher in enumerate(publishers)])
    subscriber = subscribe(sink)
    for publisher in publishers:
        publisher.sends_end = False
        started(publisher, 1, lost=True)
        publisher.subscribed().publish(stored(1))
    eventually(lambda: sum(bool(publisher.asked) for publisher in publishers) == 2, "two are asked")
    eventually(lambda: sum(bool(state["replaying"]) for state in subscriber.states()) >= 2, "the others wait")
    for publisher in publishers:
        publisher.sends_end = True
    for index in range(5):
        eventually(lambda index=index: sink.applied[index] == [0, 1], f"replay {index}")  # type: ignore[misc]


def test_what_is_missing_goes_before_what_may_be_and_time_runs_from_the_question(
    subscribe: Subscribe, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "AT_ONCE", 1)
    monkeypatch.setattr(replay_module, "TOTAL_SECONDS", 0.5)
    silent, idle, behind = publishers = [publish() for _ in range(3)]
    silent.sends_end = False
    sink = RecordingSink([row(slot, publisher) for slot, publisher in enumerate(publishers)])
    # The third one is asked for what it was heard to have sent, the others for what they may have.
    joins = sink.join
    sink.asks_at_once = True
    monkeypatch.setattr(sink, "join", lambda publisher: None if publisher == 2 else joins(publisher))
    started(idle, 1, lost=True)
    healed: list[bool] = []
    idle.passes = lambda _: healed.append(sink.applied[2] == [0, 1]) or True  # type: ignore[func-returns-value]
    sink.set_pool(row(0, silent))
    subscribe(sink)
    eventually(lambda: silent.asked, "the silent one is asked")
    sink.set_pool(*(row(slot, publisher) for slot, publisher in enumerate(publishers)))
    for lost in (True, False):
        behind.publish(stored(1), lost=lost) if lost else behind.subscribed().publish(stored(1))
    eventually(lambda: sink.applied[1] == [0], "all had their turn")
    assert (healed, sink.ended[0], sink.ended[2]) == ([True], [False], [True])


def test_endpoint_that_leaves_during_its_replay_is_not_heard_again(subscribe: Subscribe, publish: Publish) -> None:
    publisher = publish()
    publisher.sends_end = False
    publisher.passes = lambda _: False
    sink = RecordingSink([row(0, publisher)])
    subscriber = subscribe(sink)
    publisher.subscribed()
    for lost in (True, False):
        publisher.publish(stored(1), lost=lost)
    eventually(lambda: publisher.asked, "asked")
    sink.set_pool()
    eventually(lambda: sink.closed == [0], "left")
    assert sink.ended[0] == []
    eventually(lambda: not subscriber.states(), "no state")


def test_total_time_of_a_replay_is_limited(subscribe: Subscribe, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "TOTAL_SECONDS", 0.3)
    monkeypatch.setattr(replay_module, "IDLE_SECONDS", 60.0)
    publisher = publish()
    publisher.sends_end = False
    sink = RecordingSink([row(0, publisher)])
    subscribe(sink)
    publisher.subscribed()
    for lost in (True, False):
        publisher.publish(stored(1), lost=lost)
    eventually(lambda: sink.ended[0] == [False], "given up")
    assert (0, "replay") in sink.errors
