"""The sources of the data layer, from the scraper's settings to the pool, the counters and the log."""

import http.server
import json
import logging
import ssl
import threading

import pytest

from warmroute._core import Engine, Scraper
from warmroute.host.tls import self_signed
from warmroute.scrape.monitor import ScrapeMonitor

from .conftest import eventually

METRICS = """\
vllm:num_requests_waiting 3
vllm:num_requests_running 1
vllm:kv_cache_usage_perc 0.5
vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1
app:depth{queue="high"} 7
"""
PAGES = {
    "/metrics": METRICS,
    "/v1/models": json.dumps({"object": "list", "data": [{"id": "base"}, {"id": "adapter"}]}),
    "/gpu": 'DCGM_FI_DEV_GPU_UTIL{gpu="0",pod="one"} 20\nDCGM_FI_DEV_GPU_UTIL{gpu="1",pod="one"} 80\nDCGM_FI_DEV_GPU_UTIL{pod="two"} 90\n',
}
VLLM_AND_MORE = {
    "name": "vllm",
    "queuedRequestsSpec": "vllm:num_requests_waiting",
    "customMetrics": [{"attributeKey": "depth", "metricSpec": "app:depth{queue=high}"}],
}


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        body = self.server.pages.get(path.rstrip("/"))
        self.send_response(200 if body is not None else 404)
        body = (body or "").encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def serve():
    """Starts servers of pages; the answers can be changed while they run."""
    servers = []

    def start(pages, pair=None, directory=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        server.daemon_threads = True
        server.pages = dict(pages)
        if pair is not None:
            (directory / "server.pem").write_bytes(pair.certificate + pair.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(directory / "server.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def scrape():
    """An engine with one endpoint, `one`, and its scraper."""
    scrapers = []

    def start(port, *sources):
        engine = Engine("{}")
        engine.upsert_endpoint("default", "one", "127.0.0.1", port, {})
        scraper = Scraper(engine, settings(*sources))
        scrapers.append(scraper)
        eventually(scraper.states)
        return engine, scraper

    yield start
    for scraper in scrapers:
        scraper.stop()


def settings(*sources):
    return json.dumps({"interval_seconds": 0.01, "idle_backoff_seconds": 0, "sources": sources})


def source(kind, *extractors, **fields):
    return {"type": kind, "extractors": [extractor if isinstance(extractor, dict) else {"type": extractor} for extractor in extractors]} | fields


def read(scraper, count=1):
    eventually(lambda: all(row["scrapes"] >= count for row in scraper.states()))
    return scraper.states()


def test_sources_fill_metrics_attributes_and_models(serve, scrape):
    port = serve(PAGES).server_address[1]
    engine, scraper = scrape(
        port,
        source("metrics-data-source", {"type": "core-metrics-extractor", "name": "core", "engines": [VLLM_AND_MORE]}),
        source("models-data-source", "models-data-extractor"),
        source("dcgm-data-source", "dcgm-extractor", path="/gpu", port=port),
    )
    states = read(scraper)
    assert [row["source"] for row in states] == ["metrics-data-source", "models-data-source", "dcgm-data-source"]
    assert all(row["ok"] and row["extractors"][0]["failures"] == 0 for row in states), states
    (endpoint,) = engine.endpoints()
    assert endpoint["waiting"] == 3
    assert endpoint["models"] == ["base", "adapter"]
    assert endpoint["attributes"] == {"core/depth": 7.0, "dcgm-extractor/GPUUtilization": 0.8}


def counters(monitor):
    monitor.look()
    return {
        family.name.removeprefix("llm_d_epp_datalayer_"): {sample.labels: sample.value for sample in family.samples} for family in monitor.families()
    }


def test_failed_polls_and_extractions_are_counted_apart(serve, scrape):
    server = serve(PAGES | {"/metrics": "vllm:num_requests_waiting 3\n"})
    pages = server.pages
    del pages["/v1/models"]
    _engine, scraper = scrape(
        server.server_address[1],
        source("metrics-data-source", "dcgm-extractor", "core-metrics-extractor"),
        source("models-data-source", "models-data-extractor"),
    )
    eventually(lambda: all(row["scrapes"] + row["failures"] >= 2 for row in scraper.states()))
    now = counters(ScrapeMonitor(scraper.states))
    assert now["poll_errors_total"]["models-data-source",] >= 1
    assert now["poll_errors_total"]["metrics-data-source",] == 0
    extractions = now["extract_errors_total"]
    assert extractions["models-data-source", "models-data-extractor"] == 0
    assert extractions["metrics-data-source", "dcgm-extractor"] >= 1
    assert extractions["metrics-data-source", "core-metrics-extractor"] >= 1


def test_an_endpoint_that_goes_takes_its_rows_and_not_its_counts(serve, scrape):
    engine, scraper = scrape(serve({}).server_address[1], source("metrics-data-source"))
    eventually(lambda: scraper.states()[0]["failures"])
    monitor = ScrapeMonitor(scraper.states)
    before = counters(monitor)["poll_errors_total"]["metrics-data-source",]
    assert before >= 1
    engine.remove_endpoint("default", "one")
    eventually(lambda: not scraper.states())
    assert counters(monitor)["poll_errors_total"]["metrics-data-source",] >= before


def test_what_an_extractor_misses_is_logged_once_per_change(serve, scrape, caplog):
    caplog.set_level("INFO", logger="warmroute")
    logging.getLogger("warmroute").propagate = True
    server = serve({"/metrics": "vllm:num_requests_waiting 3\n"})
    _engine, scraper = scrape(server.server_address[1], source("metrics-data-source", "core-metrics-extractor", filter=False))
    monitor = ScrapeMonitor(scraper.states)
    scrapes = read(scraper)[0]["scrapes"]
    monitor.look()
    read(scraper, scrapes + 2)
    monitor.look()
    server.pages["/metrics"] = METRICS
    eventually(lambda: not scraper.states()[0]["extractors"][0]["error"])
    monitor.look()
    assert [record.message for record in caplog.records] == [
        "extractor does not find all it looks for",
        "extractor finds all it looks for again",
    ]
    lacking = caplog.records[0].fields
    assert lacking["error"] == 'the page of engine "vllm" lacks vllm:num_requests_running, vllm:kv_cache_usage_perc, vllm:cache_config_info'
    assert (lacking["source"], lacking["extractor"]) == ("metrics-data-source", "core-metrics-extractor")


@pytest.mark.parametrize("verified", [False, True])
def test_metrics_over_https(serve, scrape, tmp_path, verified):
    pair = self_signed()
    server = serve(PAGES, pair, tmp_path)
    (tmp_path / "ca.pem").write_bytes(pair.certificate)
    tls = {"insecure_skip_verify": not verified, "ca_cert_path": str(tmp_path / "ca.pem") if verified else None}
    engine, scraper = scrape(server.server_address[1], source("metrics-data-source", "core-metrics-extractor", scheme="https", **tls))
    (state,) = read(scraper, 3)
    assert (state["ok"], state["error"]) == (True, "")
    assert engine.endpoints()[0]["waiting"] == 3


ENGINE = {"name": "mine", "queuedRequestsSpec": "queue"}


def core(**fields):
    return source("metrics-data-source", {"type": "core-metrics-extractor"} | fields)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (source("k8s-notification-source"), 'type: "k8s-notification-source" is none of metrics-data-source, models-data-source, dcgm-data-source'),
        (source("metrics-data-source", scheme="ftp"), 'scheme: "ftp" is none of http, https'),
        (source("metrics-data-source", port=70000), "port: 70000 is no port"),
        (source("metrics-data-source", interval_seconds=0.015), "interval: 15ms is no multiple of the base interval, 10ms"),
        (source("metrics-data-source", interval_seconds=-1), "interval: "),
        (source("metrics-data-source", path="x"), 'path: "x" is no absolute path'),
        (source("metrics-data-source", pth="/x"), "unknown field `pth`"),
        (source("dcgm-data-source", use_node_address=True), "useNodeAddress: the node of an endpoint is known from Kubernetes only"),
        (source("metrics-data-source", scheme="https", client_cert_path="/nowhere"), "clientKeyPath: clientCertPath needs its key"),
        (
            source("metrics-data-source", scheme="https", insecure_skip_verify=False, ca_cert_path="/nowhere"),
            "caCertPath: /nowhere: No such file or directory",
        ),
        (source("metrics-data-source", "models-data-extractor"), "extractors: .*cannot read what a metrics-data-source fetches"),
        (source("models-data-source", "topology-extractor"), 'extractor "topology-extractor": type: .* is none of core-metrics-extractor'),
        (source("models-data-source", {"type": "models-data-extractor", "engines": []}), "only a core-metrics-extractor has engines"),
        (core(default_engine="mine"), 'extractors: "core-metrics-extractor": defaultEngine "mine" is neither built in nor configured'),
        (core(engines=[ENGINE | {"kvUsageSpec": "9x"}]), 'engine "mine": kvUsageSpec "9x": not a metric name'),
        (core(engines=[ENGINE | {"customMetrics": [{"attributeKey": "", "metricSpec": "x"}]}]), r"customMetrics\[\]\.attributeKey .*needs a key"),
        (core(engines=[ENGINE | {"customMetrics": [{"attributeKey": "a", "metricSpec": "x{"}]}]), r"customMetrics\[\]\.metricSpec .*closing brace"),
    ],
)
def test_settings_that_cannot_work_name_source_and_field(given, message):
    with pytest.raises(ValueError, match=message) as refused:
        Scraper(Engine("{}"), settings(given))
    assert str(refused.value).startswith(f'scraper settings: source "{given["type"]}": ')


def test_port_0_means_the_endpoints_own(serve, scrape):
    port = serve(PAGES).server_address[1]
    _engine, scraper = scrape(port, source("dcgm-data-source", "dcgm-extractor", path="/gpu", port=0))
    assert read(scraper)[0]["address"] == f"127.0.0.1:{port}"
