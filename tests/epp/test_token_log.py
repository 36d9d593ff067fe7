"""What the log says of a tokenizer that gives no tokens."""

import logging

import pytest

from warmroute.host.token_log import TokenLog


class Outcomes:
    """Counts requests by outcome, as the engine does."""

    def __init__(self):
        self.rows = {}
        self.now = 0.0

    def token_outcomes(self):
        return list(self.rows.values())

    def add(self, outcome, count=1, last=""):
        count += self.rows.get(outcome, {}).get("count", 0)
        self.rows[outcome] = {"outcome": outcome, "count": count, "last": last}


@pytest.fixture
def told(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("warmroute"), "propagate", True)

    def take():
        lines = [(record.levelname, record.getMessage(), record.fields) for record in caplog.records]
        caplog.clear()
        return lines

    return take


DOWN = "no tokens for prompts; they are matched by what was sent before"
REFUSED = "no tokens for some requests; they are matched by what was sent before"


def test_an_outage_is_told_once_and_once_more_when_it_is_over(told):
    source = Outcomes()
    log = TokenLog(source, lambda: source.now)
    source.add("ok", 5)
    log.look()
    assert told() == []
    for second in range(100):
        source.now = float(second)
        source.add("unavailable", 10, "render:8000: connection refused")
        source.add("busy", 1, "too many")
        log.look()
    error = {"reason": "unavailable", "error": "render:8000: connection refused", "requests": 11, "requests-with-tokens": 0}
    assert told() == [("WARNING", DOWN, error)]
    source.now = 100.0
    log.look()
    assert told() == [], "nothing was asked, so nothing is known"
    source.add("ok")
    log.look()
    assert told() == [("INFO", "tokens for prompts again", {"after-seconds": 100.0, "requests-without-tokens": 1100})]


def test_a_tokenizer_that_comes_and_goes_gets_a_line_a_minute(told):
    source = Outcomes()
    log = TokenLog(source, lambda: source.now)
    for second in range(120):
        source.now = float(second)
        source.add("ok" if second % 2 else "unavailable", 1, "" if second % 2 else "timeout")
        log.look()
    assert [message for _, message, _ in told()] == [DOWN, "tokens for prompts again"] * 2


def test_requests_that_no_tokenizer_can_read_are_told_as_a_number_each_minute(told):
    source = Outcomes()
    log = TokenLog(source, lambda: source.now)
    source.add("bad_request", 1, "the chat template: roles must alternate")
    log.look()
    # Not one request became tokens: that is hardly the requests' fault.
    assert told() == [("WARNING", REFUSED, {"reason": "bad_request", "error": "the chat template: roles must alternate", "requests": 1})]
    source.add("ok", 100)
    for second in range(61):
        source.now = float(second)
        source.add("bad_request", 1, "no messages")
        log.look()
    assert told() == [("INFO", REFUSED, {"reason": "bad_request", "error": "no messages", "requests": 61})]
