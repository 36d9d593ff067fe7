"""What `warmroute up` tells of model servers that should publish KV events and do not."""

import io
import json
from typing import Any

from warmroute.local.kv_watch import Silence
from warmroute.local.report import Reporter


def row(number: int, *, connected: bool) -> dict[str, Any]:
    return {"address": f"tcp://10.0.0.{number}:5557", "connected": connected}


def test_silence_is_told_once_and_so_is_its_end() -> None:
    output, now = io.StringIO(), 0.0
    silence = Silence(lambda: now)
    reporter = Reporter(print_json=True, output=output)

    def told(*rows: dict[str, Any]) -> list[tuple[str, list[str]]]:
        silence.look(rows, reporter)
        lines = [json.loads(line) for line in output.getvalue().splitlines()]
        output.seek(0)
        output.truncate()
        return [(line["event"], line["addresses"]) for line in lines]

    first, second, bound = row(1, connected=False), row(2, connected=True), {"address": None, "connected": False}
    assert told(first, second, bound) == []
    now = 10.0
    assert told(first, second, bound) == [("kv-events-silent", [first["address"]])]
    now = 60.0
    assert told(first, second, bound) == []
    assert told(row(1, connected=True), row(2, connected=False)) == [("kv-events-heard", [first["address"]])]
    # One that left and came back has its time again, and a picker that does not answer is no silence.
    assert told() == []
    now = 65.0
    assert told(row(2, connected=False)) == []
    now = 75.0
    assert told(row(2, connected=False)) == [("kv-events-silent", [second["address"]])]
