"""The log lines of refused requests."""

import logging

from warmroute.host.refusal_log import RefusalLog


class Source:
    def __init__(self, refusals, dropped):
        self.batches = [(refusals, dropped)]

    def take_refusals(self):
        return self.batches.pop() if self.batches else ([], 0)


REFUSAL = {
    "age_ms": 3.14159,
    "request_id": "id-1",
    "status": 503,
    "code": "ServiceUnavailable",
    "dropped_reason": "rejected-no-endpoints",
    "message": "none",
}


def test_each_refusal_is_a_line_at_default_verbosity(caplog):
    with caplog.at_level(logging.INFO, "warmroute"):
        log = RefusalLog(Source([REFUSAL, REFUSAL | {"dropped_reason": None, "request_id": ""}], 0))
        log.look()
        log.look()
    first, second = (record.fields for record in caplog.records)
    assert (first["x-request-id"], first["status"], first["code"], first["reason"]) == ("id-1", 503, "ServiceUnavailable", "rejected-no-endpoints")
    assert (second["x-request-id"], second["reason"]) == ("", "none")
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_what_is_not_logged_is_told(caplog):
    with caplog.at_level(logging.INFO, "warmroute"):
        RefusalLog(Source([REFUSAL], 41)).look()
    assert caplog.records[-1].fields == {"logged": 1, "not-logged": 41}
    assert caplog.records[-1].levelno == logging.WARNING
