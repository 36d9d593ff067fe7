"""Plugins in Python behind both hosts, over real gRPC: they decide, and whatever goes wrong in them costs no request."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydantic import BaseModel

from e2e.harness import eventually
from plugins.conftest import plugin, policy
from warmroute.plugins import filter, scorer  # noqa: A004


def test_a_scorer_decides_by_labels_headers_and_parameters(serve):
    class Parameters(BaseModel):
        header: str = "x-zone"

    @scorer("zone")
    def zone(endpoints, request, parameters: Parameters):
        return endpoints.label("zone") == request.headers.get(parameters.header)

    picker = serve("zone", plugin("zone", header="x-want"))
    assert [picker.pick(x_want="b"), picker.pick(x_want="a"), picker.pick(x_zone="b")] == ["pod-1", "pod-0", "pod-0"]
    assert picker.failures() == {}


def test_a_filter_drops(serve):
    @filter("only")
    def only(endpoints, request):
        return np.array(endpoints.names) == request.headers.get("x-pod")

    picker = serve("only", plugin("only"), None, pods=3)
    assert [picker.pick(x_pod="pod-2"), picker.pick(x_pod="pod-1"), picker.pick(x_pod="none")] == ["pod-2", "pod-1", "429"]


def test_later_plugins_see_only_what_a_filter_left(serve):
    seen = []

    @filter("without-first")
    def without_first(endpoints, request):
        seen.append(tuple(endpoints.names))
        return endpoints.queue > 0

    @scorer("witness")
    def witness(endpoints, request):
        seen.append((tuple(endpoints.names), tuple(endpoints.label("zone")), endpoints.queue.tolist()))
        return endpoints.queue * 0

    picker = serve("without-first", plugin("without-first"), None, pods=3)
    both = (
        policy("without-first", None)
        .replace('"plugins": [{"plugin": "queue', '"plugins": [{"plugin": "witness"}, {"plugin": "queue')
        .replace('"plugins": [{"type"', '"plugins": [{"type": "witness"}, {"type"', 1)
    )
    picker.engine.reload(both, {"mine": plugin("without-first"), "witness": plugin("witness")})
    assert picker.pick() == "pod-1"
    assert seen == [("pod-0", "pod-1", "pod-2"), (("pod-1", "pod-2"), ("b", "a"), [1.0, 2.0])]


def test_a_filter_sees_what_the_filters_before_it_left(serve):
    seen = []

    @filter("keeps-half")
    def keeps_half(endpoints, request):
        seen.append(tuple(endpoints.names))
        return endpoints.queue >= np.median(endpoints.queue)

    picker = serve("keeps-half", plugin("keeps-half"), None, pods=8)
    twice = json.loads(policy("keeps-half", None))
    twice["plugins"].append({"type": "keeps-half", "name": "again"})
    twice["profiles"][0]["plugins"].append({"plugin": "again"})
    picker.engine.reload(json.dumps(twice), {"mine": plugin("keeps-half"), "again": plugin("keeps-half")})
    assert picker.pick() == "pod-6"
    assert seen == [tuple(f"pod-{number}" for number in range(8)), ("pod-4", "pod-5", "pod-6", "pod-7")]
    assert picker.failures() == {}


def test_scores_subset_and_explanation_with_a_plugin(serve):
    seen = []

    @scorer("last")
    def last(endpoints, request):
        seen.append(tuple(endpoints.names))
        if request.headers.get("x-fail"):
            raise RuntimeError
        return endpoints.queue / 10

    picker = serve("last", plugin("last"), pods=4, subset_filter=True, emit_endpoint_scores=True, explain=True)

    def asked(**headers):
        replies = picker.exchange("192.168.1.1", "192.168.1.3", x_warmroute_explain="1", **headers)
        fields = replies[0].dynamic_metadata.fields["envoy.lb"].struct_value.fields
        scores = fields["x-gateway-destination-endpoint-scores"].struct_value.fields
        answer = replies[-1].response_headers.response.header_mutation.set_headers
        decision = next(json.loads(option.header.raw_value) for option in answer if option.header.key == "x-warmroute-decision")
        return {name: value.number_value for name, value in scores.items()}, decision["explanation"]

    scores, explanation = asked()
    # The queue scorer gives the shortest queue of the two 1 and the longest 0; the plugin's part counts ten times.
    assert scores == {"192.168.1.1:8000": 1, "192.168.1.3:8000": 2}
    assert explanation["scorers"][1] == {"name": "mine", "type": "last", "weight": 10}
    assert [candidate["scores"][1] for candidate in explanation["candidates"]] == [{"raw": 0.2, "weighted": 2}, {"raw": 0, "weighted": 0}]
    scores, explanation = asked(x_fail="1")
    assert scores == {"192.168.1.1:8000": 1, "192.168.1.3:8000": 0}
    assert explanation["scorers"][1] == {"name": "mine", "type": "last", "weight": 10, "skipped": "exception"}
    assert [candidate["scores"][1] for candidate in explanation["candidates"]] == [{"raw": None, "weighted": 0}] * 2
    assert seen == [("pod-0", "pod-2")] * 2


def test_an_exception_skips_the_plugin_and_is_told_with_its_line(serve):
    @scorer("raises")
    def raises(endpoints, request):
        return 1 / (len(endpoints) - 2)

    picker = serve("raises", plugin("raises"))
    assert picker.pick() == "pod-0"
    assert picker.failures() == {"exception": 1}
    (failure,) = picker.engine.plugin_failures()
    assert (failure["plugin_type"], failure["plugin_name"]) == ("raises", "mine")
    head, *trace = failure["last"].splitlines()
    assert head == "ZeroDivisionError: division by zero"
    assert any(__file__ in line and "in raises" in line for line in trace)


def test_an_exception_whose_text_is_no_unicode_or_whose_trace_is_endless_ends_one_call_only(serve):
    @scorer("odd")
    def odd(endpoints, request):
        kind = request.headers.get("x-kind")
        if kind == "text":
            raise OSError("no such file: \ud800" + "x" * 100_000)
        return odd(endpoints, request) if kind == "trace" else endpoints.queue

    picker = serve("odd", plugin("odd"))
    assert picker.pick(x_kind="text") == "pod-0"
    (failure,) = picker.engine.plugin_failures()
    assert failure["last"].startswith("OSError: no such file: \\ud800xxx")
    assert picker.pick(x_kind="trace") == "pod-0"
    (failure,) = picker.engine.plugin_failures()
    assert failure["last"].startswith("RecursionError: ")
    assert len(failure["last"]) < 3000
    assert picker.pick() == "pod-1", "its thread goes on"
    assert picker.failures() == {"exception": 2}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_exceptions_that_end_programs_end_one_call_only(serve, error):
    @scorer("exits")
    def exits(endpoints, request):
        if request.headers.get("x-exit"):
            raise error
        return endpoints.queue

    picker = serve("exits", plugin("exits"))
    assert [picker.pick(x_exit="1"), picker.pick()] == ["pod-0", "pod-1"]
    assert picker.failures() == {"exception": 1}


def test_a_plugin_that_blocks_is_left_behind_and_taken_up_again(serve):
    release = threading.Event()

    @scorer("blocks")
    def blocks(endpoints, request):
        if not release.is_set():
            release.wait()
        return endpoints.queue

    picker = serve("blocks", plugin("blocks", budget_seconds=0.2))
    try:
        assert [picker.pick() for _ in range(3)] == ["pod-0"] * 3
        # One waits for the budget, the others do not wait at all.
        assert picker.failures() == {"timeout": 1, "busy": 2}
    finally:
        release.set()
    eventually(lambda: picker.pick() == "pod-1", "the plugin decides again")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda n: np.zeros(n + 1), "a scorer returns one number an endpoint: an array of shape (2,), not (3,)"),
        (lambda n: np.zeros((n, 1)), "a scorer returns one number an endpoint: an array of shape (2,), not (2, 1)"),
        (lambda _: 0.5, "a scorer returns one number an endpoint: an array of shape (2,), not ()"),
        (lambda _: None, "a scorer returns one number an endpoint; this one returned nothing"),
        (lambda n: np.array(["1"] * n), "a scorer returns numbers, not <U1"),
        (lambda n: np.ones(n, dtype=complex), "a scorer returns numbers, not complex128"),
        (lambda n: np.array([object()] * n), "a scorer returns numbers, not object"),
        (lambda _: [[1], [2, 3]], "a scorer returns one number an endpoint, not list: "),
    ],
)
def test_a_scorer_whose_answer_is_not_one_number_a_row_is_skipped(serve, result, said):
    @scorer("bad")
    def bad(endpoints, request):
        return result(len(endpoints))

    picker = serve("bad", plugin("bad"))
    assert picker.pick() == "pod-0"
    assert picker.failures() == {"bad_result": 1}
    assert picker.engine.plugin_failures()[0]["last"].startswith(said)


def test_a_filter_answers_with_booleans(serve):
    @filter("numbers")
    def numbers(endpoints, request):
        return endpoints.queue

    picker = serve("numbers", plugin("numbers"), None)
    assert picker.pick() == "pod-0"
    assert [failure["last"] for failure in picker.engine.plugin_failures()] == ["a filter returns booleans, not float64"]


@pytest.mark.parametrize("result", [[0, 1], [False, True], (0.0, 1.0), np.array([0, 1], dtype=np.int8), np.array([0, 9, 5.0, 9])[::3], [np.nan, 0.5]])
def test_what_numpy_reads_as_numbers_is_an_answer_and_nan_counts_nothing(serve, result):
    @scorer("lists")
    def lists(endpoints, request):
        return result

    picker = serve("lists", plugin("lists"))
    assert picker.pick() == "pod-1"
    assert picker.failures() == {}


def test_many_streams_at_once_each_get_their_own_answer(serve):
    @scorer("wanted")
    def wanted(endpoints, request):
        return np.array(endpoints.names) == request.headers["x-pod"]

    picker = serve("wanted", plugin("wanted"), pods=16)
    pods = [f"pod-{number % 16}" for number in range(400)]
    with ThreadPoolExecutor(16) as threads:
        picked = list(threads.map(lambda pod: picker.pick(x_pod=pod), pods))
    assert picked == pods
    assert picker.failures() == {}


def test_a_reload_swaps_a_plugin_while_it_is_called(serve):
    called, release = threading.Event(), threading.Event()

    @scorer("old")
    def old(endpoints, request):
        called.set()
        release.wait()
        return endpoints.queue / 2

    @scorer("new")
    def new(endpoints, request):
        return endpoints.queue == 1

    picker = serve("old", plugin("old"), pods=3)
    try:
        first = picker.send()
        assert called.wait(30)
        picker.engine.reload(policy("new"), {"mine": plugin("new")})
    finally:
        release.set()
    assert [picker.destination(first), picker.pick()] == ["pod-2", "pod-1"]
    assert picker.failures() == {}


@pytest.mark.parametrize(("kind", "point"), [(scorer, "Scorer"), (filter, "Filter")])
def test_the_time_of_a_call_is_in_the_plugins_durations(serve, kind, point):
    took = []

    @kind("works")
    def works(endpoints, request):
        begun = time.perf_counter()
        while time.perf_counter() - begun < 0.005:
            pass
        took.append(time.perf_counter() - begun)
        return endpoints.queue >= 0

    picker = serve("works", plugin("works"), None if kind is filter else 1)
    assert picker.pick() == "pod-0"
    family = next(family for family in picker.engine.stats() if family["name"] == "plugin_duration_seconds")
    sums = {tuple(labels): total for labels, _, total in family["samples"]}
    assert sums[point, "works", "mine"] >= took[0]
