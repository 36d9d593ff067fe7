//! Several sources with several extractors: what each publishes, and that none stops another.

use std::sync::Arc;
use std::time::Duration;

use warmroute_core::pool::{CustomMetric, EngineDefinition, EngineSpec, Pool};
use warmroute_scrape::{
    CoreMetricsSettings, ExtractorKind, ExtractorSettings, ScrapeSettings, ScrapeState, Scraper,
    SourceKind, SourceSettings,
};

use crate::server::{Answer, Server, json, page};
use crate::support::{add, eventually, settings, start, state_of};

const PAGE: &str = "vllm:num_requests_waiting 3\nvllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.5\n\
    vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100\"} 1\n";
const MODELS: &str = r#"{"object":"list","data":[{"id":"base"},{"id":"adapter","parent":"base"}]}"#;

fn with(sources: Vec<SourceSettings>) -> ScrapeSettings {
    ScrapeSettings {
        sources,
        ..settings()
    }
}

fn source(kind: SourceKind, extractors: Vec<ExtractorKind>) -> SourceSettings {
    SourceSettings {
        port: None,
        extractors: extractors.into_iter().map(ExtractorSettings::new).collect(),
        ..SourceSettings::new(kind)
    }
}

fn models() -> SourceSettings {
    source(SourceKind::Models, vec![ExtractorKind::Models])
}

/// An extractor of core metrics with one engine, whose queue is `queue` and whose one custom metric is `custom{kind=a}` under `my-key`.
fn custom(name: &str) -> ExtractorSettings {
    let engine = EngineSpec::new(&EngineDefinition {
        name: "mine".into(),
        queued_requests_spec: "queue".into(),
        custom_metrics: vec![CustomMetric {
            attribute_key: "my-key".into(),
            metric_spec: "custom{kind=a}".into(),
        }],
        ..EngineDefinition::default()
    });
    ExtractorSettings {
        name: name.into(),
        kind: ExtractorKind::CoreMetrics(CoreMetricsSettings {
            default_engine: "mine".into(),
            engines: vec![engine.expect("a good definition")],
            ..CoreMetricsSettings::default()
        }),
    }
}

fn of_source(kind: SourceKind) -> impl Fn(&ScrapeState) -> bool {
    move |state| state.source_type == kind.as_str() && state.scrapes > 0
}

#[test]
fn every_source_is_polled_and_publishes_what_it_reads() {
    let server = Server::start(|path, _| match path {
        "/v1/models" => json(MODELS),
        "/gpu" => page("DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 30\nDCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 70\n"),
        _ => page(PAGE),
    });
    let gpu = SourceSettings {
        path: "/gpu".into(),
        port: Some(server.address.port()),
        ..source(SourceKind::Dcgm, vec![ExtractorKind::Dcgm])
    };
    let sources = vec![SourceSettings::metrics(), models(), gpu];
    let (_pool, endpoint, scraper) = start(&server, with(sources));
    for kind in SourceKind::ALL {
        let state = state_of(&scraper, "an answer", of_source(kind));
        assert!(state.ok && state.extractors[0].failures == 0, "{state:?}");
    }
    let names: Vec<String> = scraper
        .states()
        .into_iter()
        .map(|state| state.source)
        .collect();
    assert_eq!(names, SourceKind::ALL.map(SourceKind::as_str));
    assert_eq!(endpoint.metrics.load().waiting, Some(3.0));
    assert_eq!(**endpoint.models(), ["base".into(), "adapter".into()]);
    assert_eq!(
        endpoint.attribute("dcgm-extractor", "GPUUtilization"),
        Some(0.7)
    );
    let core = |key| endpoint.attribute("core-metrics-extractor", key);
    assert_eq!(
        (core("WaitingQueueSize"), core("CacheNumBlocks")),
        (Some(3.0), Some(100.0))
    );
}

#[test]
fn the_extractors_of_a_source_read_the_same_answer_and_one_that_fails_stops_no_other() {
    let server =
        Server::start(|_, _| page("queue 4\ncustom{kind=\"b\"} 1\ncustom{kind=\"a\"} 2.5\n"));
    let mut metrics = source(SourceKind::Metrics, vec![ExtractorKind::Dcgm]);
    metrics.extractors.push(custom("first"));
    metrics.extractors.push(custom("second"));
    let (_pool, endpoint, scraper) = start(&server, with(vec![metrics]));
    let state = state_of(&scraper, "five answers", |state| state.scrapes >= 5);
    assert_eq!(
        (state.ok, state.failures, state.error.as_str()),
        (true, 0, "")
    );
    let [gpu, first, second] = state.extractors.as_slice() else {
        panic!("three extractors: {state:?}");
    };
    assert_eq!(gpu.failures, state.scrapes);
    assert!(
        gpu.error.contains("no series DCGM_FI_DEV_GPU_UTIL"),
        "{}",
        gpu.error
    );
    assert_eq!((first.failures, second.failures), (0, 0));
    for name in ["first", "second"] {
        assert_eq!(endpoint.attribute(name, "my-key"), Some(2.5));
        assert_eq!(endpoint.attribute(name, "WaitingQueueSize"), Some(4.0));
    }
    let asked = server.paths().swap_remove(0);
    assert!(
        asked.contains("DCGM_FI_DEV_GPU_UTIL") && asked.contains("custom"),
        "{asked}"
    );
}

#[test]
fn a_page_that_lacks_some_series_is_an_extraction_error_and_the_rest_counts() {
    let server = Server::start(|_, _| page("queue 4\n"));
    let mut metrics = source(SourceKind::Metrics, Vec::new());
    metrics.extractors.push(custom("core"));
    let (_pool, endpoint, scraper) = start(&server, with(vec![metrics]));
    let state = state_of(&scraper, "two answers", |state| state.scrapes >= 2);
    assert_eq!(
        (state.ok, state.extractors[0].failures),
        (true, state.scrapes)
    );
    assert_eq!(
        state.extractors[0].error,
        "the page of engine \"mine\" lacks custom (custom metric \"my-key\")"
    );
    assert_eq!(endpoint.metrics.load().waiting, Some(4.0));
    assert!(endpoint.refreshed().is_some());
    assert_eq!(endpoint.attribute("core", "my-key"), None);
}

#[test]
fn a_page_without_any_of_the_series_refreshes_nothing() {
    let server = Server::start(|_, _| page("up 1\n"));
    let (_pool, endpoint, scraper) = start(&server, settings());
    let state = state_of(&scraper, "two answers", |state| state.scrapes >= 2);
    assert_eq!(
        (state.ok, state.extractors[0].failures),
        (true, state.scrapes)
    );
    assert!(endpoint.refreshed().is_none());
}

#[test]
fn a_source_without_extractors_is_polled() {
    let server = Server::start(|_, _| page(PAGE));
    let (_pool, endpoint, scraper) =
        start(&server, with(vec![source(SourceKind::Metrics, Vec::new())]));
    let state = state_of(&scraper, "three answers", |state| state.scrapes >= 3);
    assert!(state.ok && state.extractors.is_empty() && !state.filter_wanted);
    assert!(server.paths().iter().all(|path| path == "/metrics"));
    assert!(endpoint.refreshed().is_none());
}

#[test]
fn an_http_error_of_one_source_is_counted_and_the_others_go_on() {
    let server = Server::start(|path, _| match path {
        "/v1/models" => Answer::status("500 Internal Server Error"),
        _ => page(PAGE),
    });
    let (_pool, endpoint, scraper) =
        start(&server, with(vec![models(), SourceSettings::metrics()]));
    let state = state_of(&scraper, "two failures", |state| state.failures >= 2);
    assert_eq!(
        (state.source.as_str(), state.scrapes),
        ("models-data-source", 0)
    );
    assert!(state.error.contains("500"), "{}", state.error);
    assert_eq!(state.extractors[0].failures, 0);
    state_of(&scraper, "metrics", of_source(SourceKind::Metrics));
    assert!(endpoint.refreshed().is_some() && endpoint.models().is_empty());
}

#[test]
fn what_is_no_list_of_models_is_a_failure_and_the_last_list_stays() {
    let server = Server::start(|_, nth| match nth {
        0 => json(MODELS),
        _ => json("{\"error\":\"loading\"}"),
    });
    let (_pool, endpoint, scraper) = start(&server, with(vec![models()]));
    let state = state_of(&scraper, "a failure", |state| state.failures > 0);
    assert!(
        state.error.contains("missing field `data`"),
        "{}",
        state.error
    );
    assert_eq!(endpoint.models().len(), 2);
}

#[test]
fn a_list_of_models_that_stays_is_asked_for_less_often_whatever_the_load() {
    let server = Server::start(|_, _| json(MODELS));
    let settings = ScrapeSettings {
        idle_backoff: Duration::from_millis(80),
        ..with(vec![models()])
    };
    let (_pool, endpoint, scraper) = start(&server, settings);
    let reservation =
        warmroute_core::pool::Reservation::reserve(&endpoint, 10, 0, warmroute_core::Nanos(0));
    state_of(&scraper, "the longest pause", |state| {
        state.interval == Duration::from_millis(80)
    });
    drop(reservation);
}

#[test]
fn collectors_of_every_source_start_and_stop_with_the_endpoint() {
    let answer = |path: &str, _: usize| match path {
        "/v1/models" => json(MODELS),
        _ => page(PAGE),
    };
    let (first, second) = (Server::start(answer), Server::start(answer));
    let pool = Arc::new(Pool::new());
    add(&pool, "a", &first);
    let sources = vec![SourceSettings::metrics(), models()];
    let scraper = Scraper::start(Arc::clone(&pool), with(sources), 1).expect("a scraper");
    eventually("both sources of a", || first.open_connections() == 2);
    add(&pool, "b", &second);
    eventually("both sources of b", || {
        let states = scraper.states();
        states.len() == 4 && states.iter().all(|state| state.scrapes > 0)
    });
    pool.remove("default", "a");
    eventually("a is left alone", || first.open_connections() == 0);
    let asked = first.paths().len();
    let seen = second.paths().len();
    eventually("b is asked on", || second.paths().len() > seen + 4);
    assert_eq!((first.paths().len(), scraper.states().len()), (asked, 2));
}

#[test]
fn a_source_has_its_own_interval_and_port() {
    let (main, other) = (
        Server::start(|_, _| page(PAGE)),
        Server::start(|_, _| json(MODELS)),
    );
    let slow = SourceSettings {
        interval: Some(Duration::from_millis(200)),
        port: Some(other.address.port()),
        ..models()
    };
    let (_pool, _endpoint, scraper) = start(&main, with(vec![SourceSettings::metrics(), slow]));
    eventually("three lists", || other.paths().len() >= 3);
    let states = scraper.states();
    assert_eq!(states[1].address, other.address.to_string());
    assert_eq!(states[1].interval, Duration::from_millis(200));
    assert!(states[0].scrapes > 2 * states[1].scrapes, "{states:?}");
    assert!(main.paths().iter().all(|path| path.starts_with("/metrics")));
}

#[test]
fn sources_that_cannot_work_are_refused_by_name_and_field() {
    let metrics = SourceSettings::metrics;
    let core = |default_engine: &str| {
        ExtractorKind::CoreMetrics(CoreMetricsSettings {
            default_engine: default_engine.into(),
            ..CoreMetricsSettings::default()
        })
    };
    let interval = |milliseconds| SourceSettings {
        interval: Some(Duration::from_millis(milliseconds)),
        ..metrics()
    };
    let path = |path: &str| SourceSettings {
        path: path.into(),
        ..metrics()
    };
    for (sources, field, reason) in [
        (
            vec![metrics(), metrics()],
            "name",
            "another source has the same name",
        ),
        (
            vec![path("metrics")],
            "path",
            "\"metrics\" is no absolute path",
        ),
        (vec![path("/metrics?x=1")], "path", "is no absolute path"),
        (
            vec![interval(15)],
            "interval",
            "15ms is no multiple of the base interval, 10ms",
        ),
        (vec![interval(0)], "interval", "0ns is no multiple"),
        (
            vec![SourceSettings {
                port: Some(0),
                ..metrics()
            }],
            "port",
            "0 is no port",
        ),
        (
            vec![source(SourceKind::Metrics, vec![core("x")])],
            "extractors",
            "\"core-metrics-extractor\": defaultEngine \"x\" is neither built in nor configured",
        ),
        (
            vec![source(SourceKind::Metrics, vec![ExtractorKind::Models])],
            "extractors",
            "a models-data-extractor cannot read what a metrics-data-source fetches",
        ),
        (
            vec![source(
                SourceKind::Dcgm,
                vec![ExtractorKind::Dcgm, ExtractorKind::Dcgm],
            )],
            "extractors",
            "\"dcgm-extractor\": it is listed twice",
        ),
    ] {
        let error = Scraper::start(Arc::default(), with(sources), 1)
            .expect_err("bad settings")
            .to_string();
        assert!(
            error.starts_with("source \"") && error.contains(&format!("-data-source\": {field}: ")),
            "{error}"
        );
        assert!(error.contains(reason), "{error}");
    }
    assert!(Scraper::start(Arc::default(), with(vec![interval(30)]), 1).is_ok());
    assert!(Scraper::start(Arc::default(), with(Vec::new()), 1).is_ok());
}
