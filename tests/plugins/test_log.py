"""What the log says of plugins that were skipped."""

import logging

import pytest

from warmroute.config.errors import UsageError
from warmroute.config.flags import parse_flags
from warmroute.host.plugin_log import PluginLog


class Failures:
    def __init__(self):
        self.rows = []

    def plugin_failures(self):
        return self.rows


def row(count, reason="exception", last="ValueError: no\n  File x, line 3\n    return y"):
    return {"plugin_type": "type", "plugin_name": "mine", "reason": reason, "count": count, "last": last}


def test_one_line_a_look_for_each_reason_that_is_new(caplog):
    caplog.set_level(logging.WARNING)
    logging.getLogger("warmroute").propagate = True
    source = Failures()
    log = PluginLog(source)
    log.look()
    source.rows = [row(3), row(1, "timeout", "no answer within its budget")]
    log.look()
    log.look()
    source.rows = [row(5), row(1, "timeout", "no answer within its budget")]
    log.look()
    assert [record.fields for record in caplog.records] == [
        {
            "plugin": "mine",
            "type": "type",
            "reason": "exception",
            "requests": 3,
            "error": "ValueError: no",
            "trace": ["  File x, line 3", "    return y"],
        },
        {"plugin": "mine", "type": "type", "reason": "timeout", "requests": 1, "error": "no answer within its budget"},
        {
            "plugin": "mine",
            "type": "type",
            "reason": "exception",
            "requests": 2,
            "error": "ValueError: no",
            "trace": ["  File x, line 3", "    return y"],
        },
    ]


def test_flags():
    flags = parse_flags(["--plugin-module=a.b", "--plugin-module", "./c.py", "--plugin-timeout=250ms"])
    assert (flags.plugin_module, flags.plugin_timeout) == (("a.b", "./c.py"), 0.25)
    assert (parse_flags([]).plugin_module, parse_flags([]).plugin_timeout) == ((), 0.01)
    for wrong in ("0", "61s"):
        with pytest.raises(UsageError, match="must be above 0 and at most 60s"):
            parse_flags([f"--plugin-timeout={wrong}"])
