"""Watches the scraper: what it cannot read is told in the log once per change, and counted without ever going back."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from warmroute.logging import fields
from warmroute.metrics.families import PREFIX, Family, Sample

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
SOURCE_TYPE = "metrics-data-source"
# What a source of this type gives, for the log.
_CONTENT = {SOURCE_TYPE: "metrics page", "models-data-source": "list of models", "dcgm-data-source": "GPU metrics page"}

Key = tuple[str, ...]
Labels = tuple[str, ...]


class _Totals:
    """Sums of counters that come and go with their endpoints."""

    def __init__(self) -> None:
        self._last: dict[Key, int] = {}
        self.sums: dict[Labels, int] = defaultdict(int)

    def look(self, counters: Iterable[tuple[Key, Labels, int]]) -> None:
        """`counters`: whose, under which labels, how many now."""
        # An endpoint that goes takes its count with it, and one that comes back starts at zero: only increases are added.
        last: dict[Key, int] = {}
        for key, labels, now in counters:
            before = self._last.get(key, 0)
            self.sums[labels] += now - before if now >= before else now
            last[key] = now
        self._last = last

    def samples(self) -> list[Sample]:
        return [Sample(labels, float(total)) for labels, total in sorted(self.sums.items())]


class ScrapeMonitor:
    """Reads the scraper's states once a second."""

    def __init__(self, states: Callable[[], list[dict[str, Any]]]) -> None:
        """`states`: `_core.Scraper.states`."""
        self._states = states
        self._polls = _Totals()
        self._polls.sums[SOURCE_TYPE,] = 0
        self._extractions = _Totals()
        self._failing: set[Key] = set()
        self._unfiltered: set[Key] = set()
        self._lacking: dict[Key, str] = {}
        self._tls_errors: dict[str, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Log what has changed and count new failures."""
        tried = (state for state in self._states() if state["scrapes"] or state["failures"])
        states: dict[Key, dict[str, Any]] = {(state["address"], state["source"]): state for state in tried}
        self._tell_failures(states)
        self._tell_whole_pages(states)
        self._tell_extractors(states)
        self._tell_certificates(states)
        self._polls.look((key, (state["source_type"],), int(state["failures"])) for key, state in states.items())
        self._extractions.look(
            ((*key, extractor["name"]), (state["source_type"], extractor["type"]), int(extractor["failures"]))
            for key, state in states.items()
            for extractor in state["extractors"]
        )

    def _tell_failures(self, states: dict[Key, dict[str, Any]]) -> None:
        failing = {key for key, state in states.items() if not state["ok"]}
        for key in sorted(failing - self._failing):
            state = states[key]
            extra = fields(endpoint=state["address"], source=state["source"], error=state["error"])
            logger.warning("%s cannot be read", _CONTENT[state["source_type"]], extra=extra)
        for key in sorted((self._failing - failing) & states.keys()):
            state = states[key]
            logger.info("%s is read again", _CONTENT[state["source_type"]], extra=fields(endpoint=state["address"], source=state["source"]))
        self._failing = failing

    def _tell_whole_pages(self, states: dict[Key, dict[str, Any]]) -> None:
        unfiltered = {key for key, state in states.items() if state["ok"] and state["filter_wanted"] and not state["filtered"]}
        for key in sorted(unfiltered - self._unfiltered):
            logger.info("model server does not filter its metrics page; reading all of it", extra=fields(endpoint=states[key]["address"]))
        self._unfiltered = unfiltered

    def _tell_extractors(self, states: dict[Key, dict[str, Any]]) -> None:
        lacking: dict[Key, str] = {}
        for (address, source), state in states.items():
            for extractor in state["extractors"]:
                key = (address, source, extractor["name"])
                error = extractor["error"]
                if error:
                    lacking[key] = error
                if error == self._lacking.get(key, ""):
                    continue
                told = {"endpoint": address, "source": source, "extractor": extractor["name"]}
                if error:
                    logger.warning("extractor does not find all it looks for", extra=fields(**told, error=error))
                else:
                    logger.info("extractor finds all it looks for again", extra=fields(**told))
        self._lacking = lacking

    def _tell_certificates(self, states: dict[Key, dict[str, Any]]) -> None:
        errors = {state["source"]: state["tls_error"] for state in states.values() if state["tls_error"]}
        for source in sorted(errors):
            if errors[source] != self._tls_errors.get(source):
                logger.warning("new certificate files cannot be used", extra=fields(source=source, error=errors[source]))
        self._tls_errors = errors

    def families(self) -> list[Family]:
        """The counters of answers that could not be read, and of those that lacked something."""
        polls = "[ALPHA] The number of polls of a data source that failed: no answer, or not the kind of answer that the source gives."
        extractions = "[ALPHA] The number of answers in which an extractor did not find all it looks for."
        return [
            Family(f"{PREFIX}datalayer_poll_errors_total", "counter", polls, ("source_type",), self._polls.samples()),
            Family(f"{PREFIX}datalayer_extract_errors_total", "counter", extractions, ("source_type", "extractor_type"), self._extractions.samples()),
        ]
