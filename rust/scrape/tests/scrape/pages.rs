//! Metrics pages: fetching, the filter, faults, pace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::server::{Answer, Server, page};
use crate::support::{add, eventually, settings, start, state_of};
use warmroute_core::pool::{EndpointIdentity, Pool, Reservation};
use warmroute_scrape::{ScrapeSettings, Scraper, SourceSettings, StartError};

const PAGE: &str =
    "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\"} 3\n";

#[test]
fn a_filtered_page_reaches_the_pool_over_one_connection() {
    let server = Server::start(|_, _| page(PAGE));
    let (_pool, endpoint, scraper) = start(&server, settings());
    let state = state_of(&scraper, "ten pages", |state| state.scrapes >= 10);
    assert_eq!(endpoint.metrics.load().waiting, Some(3.0));
    assert!(endpoint.refreshed().is_some());
    assert_eq!(
        (
            state.ok,
            state.filtered,
            state.failures,
            state.note.as_str()
        ),
        (true, true, 0, "")
    );
    assert_eq!(
        (state.bytes as usize, state.address),
        (PAGE.len(), server.address.to_string())
    );
    assert_eq!(server.connections(), 1);
    assert!(
        server
            .paths()
            .iter()
            .all(|path| path.starts_with("/metrics/?name%5B%5D=vllm:num_requests_waiting&"))
    );
}

#[test]
fn a_server_that_refuses_the_filter_is_read_whole_and_says_so() {
    for refusal in [
        "404 Not Found",
        "307 Temporary Redirect",
        "405 Method Not Allowed",
        "500 Internal Server Error",
    ] {
        let server = Server::start(move |path, _| {
            if path == "/metrics" {
                page(PAGE)
            } else {
                Answer::status(refusal)
            }
        });
        let (_pool, endpoint, scraper) = start(&server, settings());
        let state = state_of(&scraper, "five pages", |state| state.scrapes >= 5);
        assert_eq!((state.ok, state.filtered, state.failures), (true, false, 0));
        assert!(
            state
                .note
                .starts_with("the server refuses the filter (the server answered "),
            "{}",
            state.note
        );
        assert_eq!(endpoint.metrics.load().waiting, Some(3.0));
        let asked = server
            .paths()
            .iter()
            .filter(|path| path.contains('?'))
            .count();
        assert_eq!(asked, 1, "not asked again at once");
    }
}

#[test]
fn a_server_that_ignores_the_filter_is_read_whole_and_says_so() {
    let server =
        Server::start(|_, _| page(&format!("{PAGE}# TYPE python_info gauge\npython_info 1\n")));
    let (_pool, _endpoint, scraper) = start(&server, settings());
    let state = state_of(&scraper, "five pages", |state| state.scrapes >= 5);
    assert_eq!(
        (state.filtered, state.note.as_str()),
        (false, "the server ignores the filter; whole pages are read")
    );
    assert_eq!(
        server
            .paths()
            .iter()
            .filter(|path| path.contains('?'))
            .count(),
        1
    );
}

#[test]
fn a_filter_that_finds_nothing_is_not_taken_for_a_page() {
    let server = Server::start(|path, _| page(if path == "/metrics" { "up 1\n" } else { "" }));
    let (_pool, _endpoint, scraper) = start(&server, settings());
    let state = state_of(&scraper, "a page", |state| state.ok);
    assert!(
        state.note.contains("the metrics page is empty"),
        "{}",
        state.note
    );
}

#[test]
fn without_the_filter_the_plain_path_is_asked() {
    let server = Server::start(|_, _| page(PAGE));
    let (_pool, _endpoint, scraper) = start(
        &server,
        ScrapeSettings {
            sources: vec![SourceSettings {
                filter: false,
                ..SourceSettings::metrics()
            }],
            ..settings()
        },
    );
    state_of(&scraper, "two pages", |state| state.scrapes >= 2);
    assert!(server.paths().iter().all(|path| path == "/metrics"));
}

#[test]
fn a_server_that_never_answers_times_out_backs_off_and_delays_no_other() {
    let (silent, good) = (
        Server::start(|_, _| Answer::Hang),
        Server::start(|_, _| page(PAGE)),
    );
    let pool = Arc::new(Pool::new());
    let hanging = add(&pool, "a", &silent);
    add(&pool, "b", &good);
    let settings = ScrapeSettings {
        timeout: Duration::from_millis(50),
        ..settings()
    };
    let scraper = Scraper::start(pool, settings, 1).expect("a scraper");
    let state = state_of(&scraper, "three timeouts", |state| state.failures >= 3);
    assert_eq!(
        (state.ok, state.error.as_str()),
        (false, "no complete page in time")
    );
    assert!(
        state.interval >= Duration::from_millis(80),
        "{:?}",
        state.interval
    );
    assert!(hanging.refreshed().is_none());
    assert!(scraper.states()[1].scrapes > state.failures);
}

#[test]
fn a_page_cut_off_in_the_middle_is_an_error_and_the_next_good_one_is_read() {
    let server = Server::start(|_, nth| {
        if nth < 6 {
            Answer::CutOff(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nvllm:".to_vec())
        } else {
            page(PAGE)
        }
    });
    let (_pool, endpoint, scraper) = start(&server, settings());
    let state = state_of(&scraper, "a failure", |state| state.failures > 0);
    assert!(
        state.ok || state.error.starts_with("the exchange broke"),
        "{}",
        state.error
    );
    let state = state_of(&scraper, "a page", |state| state.ok);
    assert_eq!(
        (state.error.as_str(), endpoint.metrics.load().waiting),
        ("", Some(3.0))
    );
}

#[test]
fn what_is_no_metrics_page_is_named() {
    for (answer, error) in [
        (
            page("<!DOCTYPE html><html></html>"),
            "the answer is no metrics page",
        ),
        (page("{\"detail\":\"x\"}"), "the answer is no metrics page"),
        (
            Answer::status("503 Service Unavailable"),
            "the server answered 503",
        ),
        (
            Answer::CutOff(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
            "the exchange broke",
        ),
        (
            Answer::Whole(
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b"
                    .to_vec(),
            ),
            "the page is compressed",
        ),
    ] {
        let server = Server::start(move |_, _| answer.clone());
        let (_pool, endpoint, scraper) = start(&server, settings());
        let state = state_of(&scraper, "a failure", |state| state.failures > 0);
        assert!(state.error.starts_with(error), "{}", state.error);
        assert!(!state.ok && endpoint.refreshed().is_none());
    }
}

#[test]
fn an_endless_page_is_given_up() {
    let server = Server::start(|_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..9 {
            bytes.extend_from_slice(b"100000\r\n");
            bytes.resize(bytes.len() + (1 << 20), b'#');
            bytes.extend_from_slice(b"\r\n");
        }
        Answer::Whole(bytes)
    });
    let (_pool, _endpoint, scraper) = start(
        &server,
        ScrapeSettings {
            timeout: Duration::from_secs(8),
            ..settings()
        },
    );
    let state = state_of(&scraper, "a failure", |state| state.failures > 0);
    assert_eq!(state.error, "the page is longer than 8 MiB");
}

#[test]
fn chunked_pages_and_servers_that_close_each_connection_are_fine() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{PAGE}\r\n0\r\n\r\n",
        PAGE.len()
    );
    let close = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{PAGE}");
    let unannounced = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{PAGE}",
        PAGE.len()
    );
    for answer in [
        Answer::Whole(chunked.into()),
        Answer::CutOff(close.into()),
        Answer::CutOff(unannounced.into()),
    ] {
        let server = Server::start(move |_, _| answer.clone());
        let (_pool, endpoint, scraper) = start(&server, settings());
        let state = state_of(&scraper, "five pages", |state| state.scrapes >= 5);
        assert_eq!(
            (state.failures, endpoint.metrics.load().waiting),
            (0, Some(3.0)),
            "{}",
            state.error
        );
    }
}

#[test]
fn a_refused_connection_is_a_failure_with_its_reason() {
    let server = Server::start(|_, _| page(PAGE));
    let pool = Arc::new(Pool::new());
    add(&pool, "a", &server);
    drop(server);
    let scraper = Scraper::start(pool, settings(), 1).expect("a scraper");
    let state = state_of(&scraper, "a failure", |state| state.failures > 0);
    assert!(
        state.error.starts_with("no connection: "),
        "{}",
        state.error
    );
}

#[test]
fn endpoints_are_followed_as_they_come_and_go() {
    let (first, second) = (
        Server::start(|_, _| page(PAGE)),
        Server::start(|_, _| page(PAGE)),
    );
    let pool = Arc::new(Pool::new());
    add(&pool, "a", &first);
    let scraper = Scraper::start(Arc::clone(&pool), settings(), 2).expect("a scraper");
    state_of(&scraper, "a page", |state| state.scrapes > 0);
    add(&pool, "b", &second);
    eventually("pages of both", || {
        scraper
            .states()
            .iter()
            .filter(|state| state.scrapes > 0)
            .count()
            == 2
    });
    pool.remove("default", "a");
    eventually("one left", || scraper.states().len() == 1);
    eventually("its connection is closed", || first.open_connections() == 0);
    assert_eq!(scraper.states()[0].address, second.address.to_string());
}

#[test]
fn an_idle_endpoint_is_asked_less_often_until_a_request_comes() {
    let server = Server::start(|_, _| page(PAGE));
    let idle_backoff = Duration::from_secs(600);
    let (_pool, endpoint, scraper) = start(
        &server,
        ScrapeSettings {
            idle_backoff,
            ..settings()
        },
    );
    let state = state_of(&scraper, "a long pause", |state| {
        state.interval >= Duration::from_secs(1)
    });
    let reservation = Reservation::reserve(&endpoint, 10, 0, warmroute_core::Nanos(0));
    let busy = state_of(&scraper, "the base interval", |now| {
        now.scrapes > state.scrapes + 3
    });
    assert_eq!(busy.interval, Duration::from_millis(10));
    drop(reservation);
    state_of(&scraper, "a pause again", |state| {
        state.interval > Duration::from_millis(10)
    });
}

#[test]
fn a_page_that_changes_keeps_the_endpoint_awake() {
    let server = Server::start(|_, nth| page(&format!("vllm:num_requests_running {nth}\n")));
    let (_pool, _endpoint, scraper) = start(
        &server,
        ScrapeSettings {
            idle_backoff: Duration::from_secs(600),
            ..settings()
        },
    );
    let state = state_of(&scraper, "ten pages", |state| state.scrapes >= 10);
    assert_eq!(state.interval, Duration::from_millis(10));
}

#[test]
fn the_counter_of_first_tokens_releases_reserved_prefill() {
    let server =
        Server::start(|_, nth| page(&format!("vllm:time_to_first_token_seconds_count {nth}\n")));
    let (_pool, endpoint, scraper) = start(&server, settings());
    state_of(&scraper, "a first page", |state| state.scrapes > 0);
    let reservations = [
        Reservation::reserve(&endpoint, 10, 0, warmroute_core::Nanos(0)),
        Reservation::reserve(&endpoint, 20, 0, warmroute_core::Nanos(0)),
    ];
    eventually("both prefills are released", || {
        endpoint.prefill_tokens() == 0
    });
    assert_eq!(
        (endpoint.inflight_requests(), endpoint.inflight_tokens()),
        (2, 30)
    );
    drop(reservations);
    assert_eq!(
        (endpoint.inflight_requests(), endpoint.inflight_tokens()),
        (0, 0)
    );
}

#[test]
fn nothing_is_asked_after_stop() {
    let server = Server::start(|_, _| page(PAGE));
    let (_pool, _endpoint, mut scraper) = start(&server, settings());
    state_of(&scraper, "a page", |state| state.scrapes > 0);
    scraper.stop();
    scraper.stop();
    eventually("connections are closed", || server.open_connections() == 0);
    let asked = server.paths().len();
    assert!(scraper.states()[0].scrapes as usize <= asked);
    assert_eq!(server.paths().len(), asked);
}

#[test]
fn an_unknown_engine_label_is_noted_and_the_default_used() {
    let server = Server::start(|_, _| page(PAGE));
    let pool = Arc::new(Pool::new());
    pool.upsert(EndpointIdentity {
        namespace: "default".into(),
        name: "a".into(),
        address: server.address.ip(),
        port: 1,
        metrics_host: Some(format!("localhost:{}", server.address.port()).into()),
        labels: BTreeMap::from([("llm-d.ai/engine-type".into(), "mystery".into())]),
    });
    let scraper = Scraper::start(pool, settings(), 1).expect("a scraper");
    let state = state_of(&scraper, "a page", |state| state.ok);
    assert_eq!(
        state.note,
        "engine \"mystery\" is not known; the page is read as \"vllm\""
    );
}

#[test]
fn times_that_cannot_work_are_refused() {
    let start = |settings| Scraper::start(Arc::new(Pool::new()), settings, 1);
    assert!(matches!(
        start(ScrapeSettings {
            interval: Duration::ZERO,
            ..settings()
        }),
        Err(StartError::BadTime("interval", _))
    ));
    assert!(matches!(
        start(ScrapeSettings {
            timeout: Duration::ZERO,
            ..settings()
        }),
        Err(StartError::BadTime("timeout", _))
    ));
}
