"""Settings are checked before a socket is opened, and endpoints get the addresses that they should."""

import re
from typing import Any

import pytest

from warmroute.kv_events.settings import KvEventsError, KvEventsSettings
from warmroute.kv_events.sink import PoolEndpoint
from warmroute.kv_events.targets import TargetBook

from .support import row


def endpoints(*rows: Any) -> list[PoolEndpoint]:
    return [PoolEndpoint(*given) for given in rows]


def addresses(book: TargetBook, *rows: Any) -> dict[int, tuple[int, str | None, str | None]]:
    return {slot + 100 * number: (target.rank, target.address, target.replay) for (slot, _, number), target in book.update(endpoints(*rows)).items()}


def test_parameters_left_out_have_the_reference_defaults() -> None:
    settings = KvEventsSettings.from_parameters({})
    assert (settings.discover, settings.topic_filter, settings.engine, settings.socket_port, settings.replay_port, settings.bind) == (
        True,
        "kv@",
        "vllm",
        5557,
        0,
        "",
    )
    given = KvEventsSettings.from_parameters(
        {
            "topicFilter": "",
            "engineType": "sglang",
            "discoverPods": False,
            "zmqEndpoint": "tcp://*:7000",
            "podDiscoveryConfig": {"replaySocketPort": 6000},
        }
    )
    assert (given.discover, given.topic_filter, given.engine, given.replay_port, given.bind) == (False, "", "sglang", 6000, "tcp://*:7000")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"template": "tcp://{adress}:{port}"}, r"addressTemplate.*\{adress\}.*did you mean \"address\""),
        ({"template": "tcp://{address:{port}"}, "addressTemplate"),
        ({"template": "{address}:{port}"}, "expected tcp://HOST:PORT"),
        ({"template": "tcp://{address}"}, "expected tcp://HOST:PORT"),
        ({"template": "tcp://{address}:0"}, "no port 0"),
        ({"template": "tcp://{address}:99999"}, "number from 1 to 65535"),
        ({"bind": "5557"}, "zmqEndpoint.*expected tcp"),
        ({"engine": "vlm"}, 'engineType.*did you mean "vllm"'),
        ({"socket_port": 0}, "socketPort.*from 1 to 65535"),
        ({"replay_port": 70_000}, "replaySocketPort.*from 0"),
        ({"discover": False}, "nothing to subscribe to.*discoverPods"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_change(given: dict[str, Any], told: str) -> None:
    with pytest.raises(KvEventsError, match=told):
        KvEventsSettings(**given)


def test_rank_is_the_label_or_the_place_among_the_ports_of_an_address() -> None:
    book = TargetBook(KvEventsSettings(replay_port=6000))
    first, second = row(1, port=8000, incarnation=7), row(2, port=8000, incarnation=7)
    labelled = row(3, port=8000, labels={"llm-d.ai/data-parallel-rank": "9"})
    assert addresses(book, second, first, labelled) == {
        1: (0, "tcp://127.0.0.1:5557", "tcp://127.0.0.1:6000"),
        2: (1, "tcp://127.0.0.1:5558", "tcp://127.0.0.1:6001"),
        3: (9, "tcp://127.0.0.1:5566", "tcp://127.0.0.1:6009"),
    }
    # The second keeps its rank without the first; one with a lower port that comes later takes what is free.
    assert addresses(book, second)[2][0] == 1
    assert addresses(book, row(0, port=7000), second) == {
        0: (0, "tcp://127.0.0.1:5557", "tcp://127.0.0.1:6000"),
        2: (1, "tcp://127.0.0.1:5558", "tcp://127.0.0.1:6001"),
    }


def test_addresses_of_ipv6_labels_and_templates() -> None:
    six = (0, 1, "default", "six", "fd00::1", 8000, {})
    assert addresses(TargetBook(KvEventsSettings(replay_port=6000)), six)[0][1:] == ("tcp://[fd00::1]:5557", "tcp://[fd00::1]:6000")
    by_name = KvEventsSettings(template="tcp://{name}.engines:{port}")
    assert addresses(TargetBook(by_name), six)[0][1] == "tcp://six.engines:5557"
    labels = {"warmroute.dev/kv-events": "7001", "warmroute.dev/kv-events-replay": "tcp://10.0.0.9:7002"}
    assert addresses(TargetBook(by_name), row(labels=labels))[0][1:] == ("tcp://127.0.0.1:7001", "tcp://10.0.0.9:7002")


def test_endpoint_with_several_engines_has_a_publisher_for_each() -> None:
    several = row(0, labels={"warmroute.dev/kv-events-ranks": "2"})
    assert addresses(TargetBook(KvEventsSettings(replay_port=6000)), several, row(1)) == {
        0: (0, "tcp://127.0.0.1:5557", "tcp://127.0.0.1:6000"),
        100: (1, "tcp://127.0.0.1:5558", "tcp://127.0.0.1:6001"),
        1: (2, "tcp://127.0.0.1:5559", "tcp://127.0.0.1:6002"),
    }


@pytest.mark.parametrize(
    ("settings", "rows", "told"),
    [
        (
            {},
            [row(0), row(1, labels={"warmroute.dev/kv-events": "ipc:///x", "warmroute.dev/kv-events-ranks": "2"})],
            "ipc:///x has no port to count from",
        ),
        ({}, [row(labels={"warmroute.dev/kv-events": "here"})], "warmroute.dev/kv-events.*expected tcp"),
        ({"socket_port": 65_535}, [row(0), row(1)], "socketPort plus the rank is 65536"),
        ({"template": "tcp://{address}:5557"}, [row(0), row(1)], "where 127.0.0.1:8000 publishes; put {port} or {rank}"),
    ],
)
def test_endpoint_whose_address_cannot_be_is_left_out_and_told_once(
    settings: dict[str, Any], rows: list[Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = TargetBook(KvEventsSettings(**settings))
    for _ in range(2):
        assert len(book.update(endpoints(*rows))) == len(rows) - 1
    (record,) = caplog.records
    assert re.search(told, record.__dict__["fields"]["error"])
