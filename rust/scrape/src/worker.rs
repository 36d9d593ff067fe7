//! The task of one source at one endpoint: fetch, read, store, wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use parking_lot::Mutex;
use tokio::time::{sleep_until, timeout};
use warmroute_core::Nanos;
use warmroute_core::pool::{Endpoint, MetricsPage, PageError, ScrapeMark, model_ids};

use crate::client::Client;
use crate::error::ScrapeError;
use crate::extract::{ExtractError, Extractor, Payload, PayloadKind};
use crate::filter::Filter;
use crate::pace::Pace;
use crate::settings::ScrapeSettings;
use crate::source::{Source, filtered_path};
use crate::state::{ExtractorState, ScrapeState};

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
    source: Arc<Source>,
    extractors: Vec<Extractor>,
    /// What each extractor lacked in the last answer.
    errors: Vec<Option<ExtractError>>,
    timeout: Duration,
    clock: fn() -> Nanos,
    buffers: Arc<Buffers>,
    state: Arc<Mutex<ScrapeState>>,
    /// What to tell of the engine, beside what is told of the filter.
    engine_note: String,
    client: Client,
    filter: Filter,
    pace: Pace,
    /// What the filter asks for.
    families: Vec<String>,
    filtered: Uri,
}

/// An answer that is what its source gives; the bytes are in the page buffer.
struct Reading {
    models: Vec<Box<str>>,
    mark: ScrapeMark,
    /// What to tell of the filter, when something changed.
    note: Option<String>,
}

impl Worker {
    /// `None` when the source cannot be used, which `Scraper::start` rules out.
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        source: Arc<Source>,
        settings: &ScrapeSettings,
        buffers: Arc<Buffers>,
        state: Arc<Mutex<ScrapeState>>,
    ) -> Option<Self> {
        let mut extractors = Vec::new();
        let mut notes = Vec::new();
        for extractor in &source.settings.extractors {
            let (extractor, note) = Extractor::new(extractor, &endpoint)?;
            extractors.push(extractor);
            notes.push(note);
        }
        let engine_note = join_notes(&notes);
        let mut families: Vec<String> = Vec::new();
        for family in extractors.iter().flat_map(Extractor::families) {
            if families.iter().all(|known| known != family) {
                families.push(family.to_owned());
            }
        }
        let address = source.address(&endpoint);
        let filter = source.settings.filter && !families.is_empty();
        let states = extractors.iter().map(|extractor| ExtractorState {
            name: extractor.name.clone(),
            extractor_type: extractor.kind,
            ..ExtractorState::default()
        });
        *state.lock() = ScrapeState {
            address: address.clone(),
            source: source.settings.name.clone(),
            source_type: source.settings.kind.as_str(),
            filter_wanted: filter,
            note: engine_note.clone(),
            interval: source.interval,
            extractors: states.collect(),
            ..ScrapeState::default()
        };
        let accept = match source.payload() {
            PayloadKind::Page => "text/plain",
            PayloadKind::Models => "application/json",
        };
        Some(Self {
            client: Client::new(&address, accept),
            filter: Filter::new(filter),
            pace: Pace::new(source.interval, settings.idle_backoff),
            filtered: filtered_path(&source.settings.path, &families)
                .parse()
                .ok()?,
            families,
            endpoint,
            errors: vec![None; extractors.len()],
            extractors,
            source,
            engine_note,
            timeout: settings.timeout,
            clock: settings.clock,
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
            match self.turn(&mut page).await {
                Ok(reading) => self.take(&reading, &page),
                Err(error) => self.fail(&error),
            }
            self.buffers.give_back(page);
            // The rhythm is kept, so that endpoints which were spread over the interval stay so; turns that a slow page took are left out.
            due = (due + self.pace.interval()).max(Instant::now());
        }
    }

    /// Waits for `due`. On an endpoint that pauses because nothing happened, a request ends the wait at the next base tick.
    async fn wait(&self, due: Instant) {
        while self.follows_load() && self.pace.wakes_for_requests() {
            let tick = Instant::now() + self.source.interval;
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

    /// Whether requests change what the source says. They do not change which models there are.
    fn follows_load(&self) -> bool {
        self.source.payload() == PayloadKind::Page
    }

    /// One page, asked for with the filter and without it if need be.
    async fn turn(&mut self, page: &mut Vec<u8>) -> Result<Reading, ScrapeError> {
        let limit = self.timeout;
        if !self.filter.applies(Instant::now()) {
            return self.read(false, page, limit).await;
        }
        let started = Instant::now();
        let refusal = match self.read(true, page, limit).await {
            Ok(mut reading) => {
                if self.filter != Filter::Works || page.len() >= SUSPICIOUS_BYTES {
                    let filtered = MetricsPage::holds_only(page, &self.families);
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
            &self.source.path
        };
        timeout(
            limit,
            self.client.fetch(uri, self.source.tls.as_ref(), page),
        )
        .await
        .map_err(|_| ScrapeError::Timeout)??;
        let models = match self.source.payload() {
            PayloadKind::Page => {
                MetricsPage::check(page).map_err(ScrapeError::Page)?;
                Vec::new()
            }
            PayloadKind::Models => model_ids(page).map_err(ScrapeError::Models)?,
        };
        Ok(Reading {
            models,
            mark,
            note: None,
        })
    }

    /// Has an answer read by each extractor, whatever came of those before it.
    fn take(&mut self, reading: &Reading, page: &[u8]) {
        let payload = match self.source.payload() {
            PayloadKind::Page => Payload::Page(page),
            PayloadKind::Models => Payload::Models(&reading.models),
        };
        let now = (self.clock)();
        let mut changed = false;
        let mut state = self.state.lock();
        let readers = self.extractors.iter_mut().zip(&mut self.errors);
        for ((extractor, last), told) in readers.zip(&mut state.extractors) {
            let extraction = extractor.run(payload, &self.endpoint, reading.mark, now);
            changed |= extraction.changed;
            told.failures += u64::from(extraction.error.is_some());
            if *last != extraction.error {
                let text = extraction.error.as_ref();
                told.error = text.map_or_else(String::new, |error| extractor.describe(error));
                *last = extraction.error;
            }
        }
        let quiet = !self.follows_load() || self.endpoint.inflight_requests() == 0;
        self.pace.page(!changed && quiet);
        if self.follows_load() {
            let pauses = self.pace.wakes_for_requests();
            let pause = if pauses {
                self.pace.interval()
            } else {
                Duration::ZERO
            };
            self.endpoint.pauses(pause);
        }
        state.ok = true;
        state.error.clear();
        state.scrapes += 1;
        state.bytes = page.len() as u64;
        if let Some(note) = &reading.note {
            state.note = join_notes(&[self.engine_note.as_str(), note]);
        }
        state.filtered = self.filter == Filter::Works;
        state.interval = self.pace.interval();
    }

    fn fail(&mut self, error: &ScrapeError) {
        self.pace.failure();
        if self.follows_load() {
            self.endpoint.pauses(Duration::ZERO);
        }
        let mut state = self.state.lock();
        state.ok = false;
        state.error = error.to_string();
        state.failures += 1;
        state.filtered = self.filter == Filter::Works;
        state.interval = self.pace.interval();
    }
}

fn join_notes<Note: AsRef<str>>(notes: &[Note]) -> String {
    let said = notes
        .iter()
        .map(AsRef::as_ref)
        .filter(|note| !note.is_empty());
    said.collect::<Vec<_>>().join("; ")
}
