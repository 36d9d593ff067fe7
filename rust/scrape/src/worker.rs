//! The task of one endpoint: fetch, read, store, wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use parking_lot::Mutex;
use tokio::time::{sleep_until, timeout};
use warmroute_core::pool::{
    Endpoint, EngineMetrics, EngineSpec, MetricsPage, PageError, ScrapeMark,
};

use crate::client::{Client, ScrapeError};
use crate::filter::Filter;
use crate::pace::Pace;
use crate::settings::ScrapeSettings;
use crate::state::ScrapeState;

/// A filtered page of this size is looked at again: the server may have stopped filtering.
const SUSPICIOUS_BYTES: usize = 16 << 10;
/// Page buffers up to this size are kept for the next page.
const KEPT_BUFFER: usize = 1 << 20;
/// Page buffers kept: more fetches than this hardly overlap on a few threads.
const KEPT_BUFFERS: usize = 32;

/// Page buffers shared by all tasks: memory follows the fetches under way, not the endpoints.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT_BUFFERS && buffer.capacity() <= KEPT_BUFFER {
            kept.push(buffer);
        }
    }
}

pub(crate) struct Worker {
    endpoint: Arc<Endpoint>,
    engine: EngineSpec,
    settings: Arc<ScrapeSettings>,
    buffers: Arc<Buffers>,
    state: Arc<Mutex<ScrapeState>>,
    /// What to tell of the engine, beside what is told of the filter.
    engine_note: String,
    client: Client,
    filter: Filter,
    pace: Pace,
    plain: Uri,
    filtered: Uri,
}

/// A page that was read.
struct Reading {
    metrics: EngineMetrics,
    mark: ScrapeMark,
    bytes: usize,
    /// What to tell of the filter, when something changed.
    note: Option<String>,
}

impl Worker {
    /// `None` when the endpoint's engine or the path cannot be used, which `Scraper::start` rules out.
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        settings: Arc<ScrapeSettings>,
        buffers: Arc<Buffers>,
        state: Arc<Mutex<ScrapeState>>,
    ) -> Option<Self> {
        let (engine, note) = settings.engine_of(&endpoint);
        let engine = engine?.clone();
        let address = endpoint
            .identity
            .metrics_host
            .as_deref()
            .unwrap_or(&endpoint.authority);
        *state.lock() = ScrapeState {
            address: address.to_owned(),
            note: note.clone(),
            interval: settings.interval,
            ..ScrapeState::default()
        };
        Some(Self {
            client: Client::new(address),
            filter: Filter::new(settings.filter),
            pace: Pace::new(settings.interval, settings.idle_backoff),
            plain: settings.path.parse().ok()?,
            filtered: settings.filtered_path(&engine).parse().ok()?,
            endpoint,
            engine,
            engine_note: note,
            settings,
            buffers,
            state,
        })
    }

    /// Runs until it is dropped; the first page is asked for at `first`.
    pub(crate) async fn run(mut self, first: Instant) {
        let mut due = first;
        loop {
            self.wait(due).await;
            let mut page = self.buffers.take();
            let result = self.turn(&mut page).await;
            self.buffers.give_back(page);
            self.note(result);
            // The rhythm is kept, so that endpoints which were spread over the interval stay so; turns that a slow page took are left out.
            due = (due + self.pace.interval()).max(Instant::now());
        }
    }

    /// Waits for `due`. On an endpoint that pauses because nothing happened, a request ends the wait at the next base tick.
    async fn wait(&self, due: Instant) {
        while self.pace.wakes_for_requests() {
            let tick = Instant::now() + self.settings.interval;
            if tick >= due {
                break;
            }
            sleep_until(tick.into()).await;
            if self.endpoint.inflight_requests() > 0 {
                return;
            }
        }
        sleep_until(due.into()).await;
    }

    /// One page, asked for with the filter and without it if need be.
    async fn turn(&mut self, page: &mut Vec<u8>) -> Result<Reading, ScrapeError> {
        let limit = self.settings.timeout;
        if !self.filter.applies(Instant::now()) {
            return self.read(false, page, limit).await;
        }
        let started = Instant::now();
        let refusal = match self.read(true, page, limit).await {
            Ok(mut reading) => {
                if self.filter != Filter::Works || reading.bytes >= SUSPICIOUS_BYTES {
                    let filtered = MetricsPage::is_filtered(page, &self.engine);
                    reading.note = Some(if filtered {
                        String::new()
                    } else {
                        "the server ignores the filter; whole pages are read".to_owned()
                    });
                    if filtered {
                        self.filter = Filter::Works;
                    } else {
                        self.filter.refuse(Instant::now());
                    }
                }
                return Ok(reading);
            }
            Err(
                refusal @ (ScrapeError::Status(_)
                | ScrapeError::Page(PageError::Empty | PageError::NotMetrics)),
            ) => refusal,
            Err(error) => {
                self.filter.forget();
                return Err(error);
            }
        };
        let rest = limit.saturating_sub(started.elapsed());
        match self.read(false, page, rest).await {
            Ok(mut reading) => {
                self.filter.refuse(Instant::now());
                reading.note = Some(format!(
                    "the server refuses the filter ({refusal}); whole pages are read"
                ));
                Ok(reading)
            }
            Err(error) => {
                self.filter.forget();
                Err(error)
            }
        }
    }

    async fn read(
        &mut self,
        filtered: bool,
        page: &mut Vec<u8>,
        limit: Duration,
    ) -> Result<Reading, ScrapeError> {
        let mark = self.endpoint.scrape_mark();
        let uri = if filtered {
            &self.filtered
        } else {
            &self.plain
        };
        timeout(limit, self.client.fetch(uri, page))
            .await
            .map_err(|_| ScrapeError::Timeout)??;
        let metrics = MetricsPage::scan(page, &self.engine).map_err(ScrapeError::Page)?;
        Ok(Reading {
            metrics,
            mark,
            bytes: page.len(),
            note: None,
        })
    }

    fn note(&mut self, result: Result<Reading, ScrapeError>) {
        let mut state = self.state.lock();
        match result {
            Ok(reading) => {
                let same = self.endpoint.refreshed().is_some()
                    && **self.endpoint.metrics.load() == reading.metrics;
                self.pace
                    .page(same && self.endpoint.inflight_requests() == 0);
                let now = (self.settings.clock)();
                self.endpoint
                    .refresh_since(reading.metrics, reading.mark, now);
                state.ok = true;
                state.error.clear();
                state.scrapes += 1;
                state.bytes = reading.bytes as u64;
                if let Some(note) = reading.note {
                    let notes = [self.engine_note.as_str(), &note];
                    state.note = notes
                        .into_iter()
                        .filter(|note| !note.is_empty())
                        .collect::<Vec<_>>()
                        .join("; ");
                }
            }
            Err(error) => {
                self.pace.failure();
                state.ok = false;
                state.error = error.to_string();
                state.failures += 1;
            }
        }
        state.filtered = self.filter == Filter::Works;
        state.interval = self.pace.interval();
    }
}
