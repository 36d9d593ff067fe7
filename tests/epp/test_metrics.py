"""The metrics page: names, labels and buckets of the reference, its two formats, the pool's gauges, the debug pages."""

import json
import re
import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from warmroute._core import Engine
from warmroute.metrics.collector import MetricsPage
from warmroute.metrics.deprecated import TWINS
from warmroute.metrics.families import PREFIX, Family, Sample, aggregate, go_float
from warmroute.metrics.pool import pool_families
from warmroute.metrics.prefix import prefix_families

M = ("model_name", "target_model_name")
MF = (*M, "fairness_id", "priority")
LATENCY = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120),
    *(180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600),
)
TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536, 131072, 262144, 524288, 1048576)
SMALL = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
# Sections 8.1, 8.2 and 8.4 of the specification: kind, labels, buckets.
TABLE = {
    "request_total": ("counter", MF, ()),
    "request_error_total": ("counter", (*MF, "error_code"), ()),
    "request_duration_seconds": ("histogram", MF, LATENCY),
    "request_size_bytes": ("histogram", MF, tuple(64 * 2**k for k in range(25))),
    "response_size_bytes": ("histogram", MF, TOKENS[:15]),
    "request_input_tokens": ("histogram", MF, TOKENS),
    "request_output_tokens": ("histogram", MF, TOKENS[:12]),
    "request_cached_tokens": ("histogram", MF, TOKENS),
    "request_running": ("gauge", MF, ()),
    "request_ntpot_seconds": ("histogram", MF, (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)),
    "request_ttft_seconds": ("histogram", (*MF, "streaming"), LATENCY[:24]),
    "request_streaming_tpot_seconds": (
        "histogram",
        MF,
        (0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 2),
    ),
    "request_streaming_itl_seconds": ("histogram", MF, (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2)),
    "request_processing_duration_seconds": (
        "histogram",
        (),
        (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
    "response_processing_duration_seconds": (
        "histogram",
        (),
        (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    ),
    "scheduler_e2e_duration_seconds": ("histogram", (), SMALL),
    "scheduler_attempts_total": ("counter", ("status", "target_model_name", "endpoint_name", "namespace", "port"), ()),
    "prefix_indexer_size": ("gauge", ("plugin_name", "plugin_type"), ()),
    "prefix_indexer_hit_ratio": ("histogram", ("plugin_name", "plugin_type"), None),
    "prefix_indexer_hit_bytes": ("histogram", ("plugin_name", "plugin_type"), None),
}


def endpoint(name, waiting=0.0, running=0.0, kv_usage=0.0, age=0.1):
    return {"name": name, "waiting": waiting, "running": running, "kv_usage": kv_usage, "metrics_age": age}


def values(families):
    return {family.name.removeprefix(PREFIX): {sample.labels: sample.value for sample in family.samples} for family in families}


def test_drift_is_told_for_endpoints_that_tell():
    row = {
        "name": "a",
        "namespace": "n",
        "prompt_tokens": 900,
        "matched_tokens": 300,
        "queried_tokens": 1000.0,
        "cached_tokens": 250.0,
        "cache_drift": -0.08,
    }
    silent = {**row, "name": "b", "queried_tokens": None, "cached_tokens": None, "cache_drift": None}
    told = values(prefix_families([row, silent]))
    assert told["prefix_expected_tokens_total"] == {("a", "n"): 300.0, ("b", "n"): 300.0}
    assert told["prefix_cached_tokens_total"] == {("a", "n"): 250.0}
    assert told["prefix_cache_drift"] == {("a", "n"): -0.08}


class Stats:
    """An engine with one family of each kind."""

    def stats(self):
        return [
            {
                "name": "request_total",
                "kind": "counter",
                "help": "Requests.",
                "label_names": list(MF),
                "samples": [(["m", "t", "f", "0"], 3), (["m", "t", "g", "0"], 4)],
            },
            {
                "name": "request_running",
                "kind": "gauge",
                "help": "[ALPHA] Running.",
                "label_names": list(MF),
                "samples": [(["m", "t", "f", "0"], 1), (["m", "u", "f", "0"], 2)],
            },
            {
                "name": "request_size_bytes",
                "kind": "histogram",
                "help": "Sizes.",
                "label_names": list(MF),
                "buckets": [1.0, 0.00001, 1048576.0],
                "samples": [(["m", "t", "f", "0"], [1, 1, 2, 2], 65.0), (["m", "t", "g", "0"], [0, 1, 1, 3], 10.0)],
            },
        ]


class Empty:
    """An engine that has counted nothing."""

    def stats(self):
        return []


def page(*, deprecated=False):
    gauges = pool_families([endpoint("a", waiting=2)], "pool", 2.0)
    return MetricsPage(Stats(), [lambda: gauges], "1.2.3", deprecated=deprecated)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (0.005, "0.005"),
        (1048576, "1.048576e+06"),
        (262144, "262144"),
        (1e-5, "1e-05"),
        (0.00205, "0.00205"),
        (0, "0"),
        (2**30, "1.073741824e+09"),
        (-1.5, "-1.5"),
        (1e6, "1e+06"),
    ],
)
def test_bucket_bounds_are_written_as_go_writes_them(value, text):
    assert go_float(float(value)) == text


def test_text_format_has_exactly_the_given_names():
    body, content_type = page().render("text/plain;version=0.0.4")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    text = body.decode()
    assert 'llm_d_epp_request_total{fairness_id="f",model_name="m",priority="0",target_model_name="t"} 3.0' in text
    assert 'le="1.048576e+06"' in text
    assert "_created" not in text
    assert "_total_total" not in text
    assert re.findall("^# HELP llm_d_epp_request_total (.*)$", text, re.MULTILINE) == ["[ALPHA] Requests."]
    assert 'llm_d_epp_info{build_ref="1.2.3",commit="unknown"} 1.0' in text
    assert "inference_" not in text
    assert {family.type for family in parse_text(text)} == {"counter", "gauge", "histogram"}


def test_openmetrics_is_served_where_asked_for():
    body, content_type = page().render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    text = body.decode()
    assert text.endswith("# EOF\n")
    # The parser refuses what is not sorted by bound: the unsorted bounds above are the test's own.
    assert "# TYPE llm_d_epp_request counter" in text
    assert 'le="1.0"' in text
    gauges_only = MetricsPage(Empty(), [lambda: pool_families([endpoint("a")], "p", 2.0)], "1", deprecated=True)
    assert list(parse_openmetrics(gauges_only.render("application/openmetrics-text; version=1.0.0")[0].decode()))


def test_deprecated_twins_only_behind_the_flag_and_summed_over_dropped_labels():
    text = page(deprecated=True).render("")[0].decode()
    assert 'inference_objective_request_total{model_name="m",priority="0",target_model_name="t"} 7.0' in text
    assert 'inference_objective_running_requests{model_name="m"} 3.0' in text
    assert 'inference_objective_request_sizes_count{model_name="m",target_model_name="t"} 5.0' in text
    assert 'inference_objective_request_sizes_sum{model_name="m",target_model_name="t"} 75.0' in text
    assert 'inference_pool_per_pod_queue_size{model_server_pod="a",name="pool"} 2.0' in text
    assert 'inference_pool_ready_pods{name="pool"} 1.0' in text
    assert "[ALPHA] [Deprecated: Use llm_d_epp_request_total] Requests." in text


def test_twins_keep_only_labels_that_their_family_has():
    for name, twin in TWINS.items():
        labels = TABLE[name][1] if name in TABLE else None
        if labels is not None:
            assert set(twin.labels or ()) <= set(labels)
            assert set(twin.renamed or ()) <= set(labels)


def test_aggregate_sums_values_and_buckets():
    samples = [Sample(("a", "x"), 1.0, (1, 2)), Sample(("a", "y"), 2.0, (3, 4)), Sample(("b", "x"), 5.0, (0, 1))]
    assert list(aggregate(samples, [0])) == [Sample(("a",), 3.0, (4, 6)), Sample(("b",), 5.0, (0, 1))]


def test_pool_gauges_are_over_fresh_endpoints():
    families = pool_families(
        [
            endpoint("a", waiting=1, running=4, kv_usage=0.2),
            endpoint("b", waiting=3, running=None, kv_usage=0.4),
            endpoint("old", 100, age=3.0),
            endpoint("never", None, age=None),
        ],
        "pool",
        2.0,
    )
    found = values(families)
    pool = ("pool",)
    assert found["average_queue_size"] == {pool: 2.0}
    assert found["std_dev_queue_size"] == {pool: 1.0}
    assert found["average_running_requests"] == {pool: 4.0}
    assert found["average_kv_cache_utilization"][pool] == pytest.approx(0.3)
    assert found["std_dev_kv_cache_utilization"][pool] == pytest.approx(0.1)
    assert found["ready_endpoints"] == {pool: 2}
    assert found["per_endpoint_queue_size"] == {("pool", "a"): 1.0, ("pool", "b"): 3.0, ("pool", "old"): 100.0}
    assert {family.name: family.label_names for family in families}[f"{PREFIX}per_endpoint_queue_size"] == ("name", "model_server_endpoint")


def test_pool_gauges_of_an_empty_pool():
    found = values(pool_families([], "pool", 2.0))
    assert found["ready_endpoints"] == {("pool",): 0}
    assert found["average_queue_size"] == {}


def test_a_family_of_the_engine_wins_over_the_same_name_from_elsewhere():
    other = Family(f"{PREFIX}request_total", "counter", "Other.", (), [Sample((), 99.0)])
    names = [family.name for family in MetricsPage(Stats(), [lambda: [other]], "1", deprecated=False).families()]
    assert names.count(f"{PREFIX}request_total") == 1


def test_engine_families_are_the_references():
    families = {family["name"]: family for family in Engine("{}").stats()}
    assert set(TABLE) <= set(families)
    for name, (kind, labels, bounds) in TABLE.items():
        family = families[name]
        assert (name, family["kind"], tuple(family["label_names"])) == (name, kind, labels)
        assert family["help"].startswith("[ALPHA] ")
        if bounds is not None:
            assert tuple(family["buckets"] or ()) == pytest.approx(bounds), name


def test_running_picker_serves_its_pages(start_picker, host):
    picker = start_picker(f"--host={host}", "--pool-name=mypool", "--deprecated-metrics")
    text, content_type = picker.get("/metrics")
    assert content_type.startswith("text/plain; version=0.0.4")
    assert 'llm_d_epp_ready_endpoints{name="mypool"}' in text
    assert "inference_pool_ready_pods" in text
    assert picker.get("/metrics", "application/openmetrics-text; version=1.0.0")[0].endswith("# EOF\n")
    assert json.loads(picker.get("/healthz")[0]) == {"ready": True}
    assert [entry["name"] for entry in json.loads(picker.get("/debug/endpoints")[0])] == ["endpoint-0"]
    assert json.loads(picker.get("/debug/decisions?limit=5")[0]) == []
    assert isinstance(json.loads(picker.get("/debug/scraper")[0]), list)
    state = json.loads(picker.get("/debug/plugins/state")[0])
    assert set(state) == {"timestamp", "plugins"}
    index = state["plugins"]["approx-prefix-cache-producer"]
    assert (index["name"], index["type"], index["state"]["total"]) == ("approx-prefix-cache-producer", "approx-prefix-cache-producer", 1)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_are_read_only(start_picker, method):
    picker = start_picker()
    request = urllib.request.Request(f"http://{picker.metrics}/debug/plugins/state", method=method, data=b"x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 - always http
    assert refused.value.code == 405
    assert refused.value.headers["Allow"] == "GET, HEAD"


def test_unknown_page_names_the_known_ones(start_picker):
    with pytest.raises(urllib.error.HTTPError) as refused:
        start_picker().get("/debug")
    assert refused.value.code == 404
    assert "/metrics" in json.loads(refused.value.read())["pages"]
