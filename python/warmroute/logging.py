"""Structured logs on stderr: one JSON object a line with level, ts, caller, msg and the record's fields.

Verbosity is the reference's: 2 default, 3 verbose (both level "info"), 4 debug, 5 and more trace.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

DEFAULT, VERBOSE, DEBUG, TRACE = 2, 3, 4, 5

# Records of verbosity V are logged at the level beside it; errors and warnings always pass.
_LEVELS = {DEFAULT: logging.INFO, VERBOSE: 15, DEBUG: logging.DEBUG, TRACE: 5}
_NAMED = {"error": logging.ERROR, "info": logging.INFO, "debug": logging.DEBUG}


def verbosity_level(verbosity: int) -> int:
    """The logging level of a verbosity: 0 and 1 show warnings and errors only."""
    if verbosity < DEFAULT:
        return logging.WARNING
    return _LEVELS[min(verbosity, TRACE)]


def configure(verbosity: int, zap_log_level: str = "", encoder: str = "json") -> None:
    """Send the package's logs to stderr. `zap_log_level` (debug, info, error, or a verbosity) wins over `verbosity`."""
    level = verbosity_level(verbosity)
    if zap_log_level:
        level = _NAMED[zap_log_level] if zap_log_level in _NAMED else verbosity_level(int(zap_log_level))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if encoder == "json" else ConsoleFormatter())
    root = logging.getLogger("warmroute")
    root.handlers = [handler]
    root.setLevel(level)
    root.propagate = False
    # Libraries (grpc, asyncio, watchfiles) speak through the same format, warnings and errors only.
    logging.getLogger().handlers = [handler]
    logging.getLogger().setLevel(logging.WARNING)


def fields(**values: Any) -> dict[str, Any]:
    """`extra=` of a log call: these go into the line beside the message; underscores become hyphens."""
    return {"fields": {name.replace("_", "-"): value for name, value in values.items()}}


def log_at(logger: logging.Logger, verbosity: int, message: str, **values: Any) -> None:
    """Log at one of the verbosities above."""
    logger.log(verbosity_level(verbosity), message, extra=fields(**values), stacklevel=2)


def _level_name(level: int) -> str:
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warn"
    if level > logging.DEBUG:
        return "info"
    return "debug" if level == logging.DEBUG else "trace"


def _entry(record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.created, UTC)
    entry: dict[str, Any] = {
        "level": _level_name(record.levelno),
        "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "logger": record.name,
        "caller": f"{record.module}.py:{record.lineno}",
        "msg": record.getMessage(),
    }
    entry |= {name: value for name, value in getattr(record, "fields", {}).items() if name not in entry}
    if record.exc_info is not None and record.exc_info[1] is not None:
        entry["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        entry["stacktrace"] = logging.Formatter().formatException(record.exc_info)
    return entry


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; values that JSON does not know are shown as text."""
        return json.dumps(_entry(record), default=str)


class ConsoleFormatter(logging.Formatter):
    """Tab-separated, for people: time, level, caller, message, fields as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The record on one line, a stack trace below it."""
        entry = _entry(record)
        trace = entry.pop("stacktrace", None)
        head = [entry.pop(name) for name in ("ts", "level", "caller", "msg")]
        line = "\t".join([*head, json.dumps(entry, default=str)])
        return line if trace is None else f"{line}\n{trace}"
