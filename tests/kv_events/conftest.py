"""What the tests of KV events share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from warmroute.kv_events.settings import KvEventsSettings
from warmroute.kv_events.sink import EventSink
from warmroute.kv_events.subscriber import KvEventsSubscriber

from .support import Publisher

Subscribe = Callable[..., KvEventsSubscriber]
Publish = Callable[..., Publisher]


@pytest.fixture
def subscribe() -> Iterator[Subscribe]:
    """Start subscribers that end with the test."""
    started: list[KvEventsSubscriber] = []

    def start(sink: EventSink, **settings: Any) -> KvEventsSubscriber:
        subscriber = KvEventsSubscriber(KvEventsSettings(**settings), sink)
        subscriber.start()
        started.append(subscriber)
        return subscriber

    yield start
    for subscriber in started:
        subscriber.stop()


@pytest.fixture
def publish() -> Iterator[Publish]:
    """Start publishers that end with the test."""
    started: list[Publisher] = []

    def start(*arguments: Any, **settings: Any) -> Publisher:
        publisher = Publisher.at(*arguments, **settings) if arguments else Publisher(**settings)
        started.append(publisher)
        return publisher

    yield start
    for publisher in started:
        publisher.close()
