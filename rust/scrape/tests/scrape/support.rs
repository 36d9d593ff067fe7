//! A scraper over a pool, and waiting for what must come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warmroute_core::pool::{Endpoint, EndpointIdentity, Pool};
use warmroute_scrape::{ScrapeSettings, ScrapeState, Scraper};

use crate::server::Server;

pub(crate) fn settings() -> ScrapeSettings {
    ScrapeSettings {
        interval: Duration::from_millis(10),
        idle_backoff: Duration::ZERO,
        ..ScrapeSettings::default()
    }
}

pub(crate) fn add(pool: &Pool, name: &str, server: &Server) -> Arc<Endpoint> {
    pool.upsert(EndpointIdentity {
        namespace: "default".into(),
        name: name.into(),
        address: server.address.ip(),
        port: server.address.port(),
        metrics_host: None,
        labels: BTreeMap::new(),
    })
}

/// One endpoint and its scraper.
pub(crate) fn start(
    server: &Server,
    settings: ScrapeSettings,
) -> (Arc<Pool>, Arc<Endpoint>, Scraper) {
    let pool = Arc::new(Pool::new());
    let endpoint = add(&pool, "a", server);
    let scraper = Scraper::start(Arc::clone(&pool), settings, 1).expect("a scraper");
    (pool, endpoint, scraper)
}

/// Waits for something that must come true; fails after ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn state_of(
    scraper: &Scraper,
    what: &str,
    holds: impl Fn(&ScrapeState) -> bool,
) -> ScrapeState {
    let mut found = None;
    eventually(what, || {
        found = scraper.states().into_iter().find(|state| holds(state));
        found.is_some()
    });
    found.expect("found")
}
