//! The scraper: its threads, and a task that follows the pool.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use warmroute_core::pool::{Endpoint, Pool};

use crate::settings::ScrapeSettings;
use crate::state::ScrapeState;
use crate::worker::{Buffers, Worker};

/// How often the pool is looked at for endpoints that came or went (one atomic load when none did).
const FOLLOW_INTERVAL: Duration = Duration::from_millis(20);
/// Shortest interval: below it the model servers would do nothing but render pages.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);
/// How long `stop` waits for the threads.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Settings with which no scraper can start.
#[derive(Debug)]
pub enum StartError {
    /// `default_engine` is neither built in nor configured.
    UnknownEngine(String),
    /// `path` is no absolute path.
    BadPath(String),
    /// `interval` is below 5 ms or `timeout` is zero.
    BadTime(&'static str, Duration),
    /// No threads.
    Runtime(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEngine(name) => write!(
                formatter,
                "default_engine {name:?} is neither built in nor configured"
            ),
            Self::BadPath(path) => write!(
                formatter,
                "path {path:?} is no absolute path, as /metrics is"
            ),
            Self::BadTime(field, value) => write!(formatter, "{field} of {value:?} is too short"),
            Self::Runtime(error) => {
                write!(formatter, "the scraper's threads do not start: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// One endpoint that is being scraped.
struct Followed {
    endpoint: Arc<Endpoint>,
    state: Arc<Mutex<ScrapeState>>,
    task: AbortHandle,
}

type FollowedList = Arc<Mutex<Vec<Followed>>>;

/// Scrapes every endpoint of a pool until it is stopped or dropped.
pub struct Scraper {
    runtime: Option<Runtime>,
    followed: FollowedList,
}

impl Scraper {
    /// Starts `threads` threads (at least one) that scrape what is in the pool now and later.
    ///
    /// # Errors
    /// `StartError` for settings that cannot work, or when the threads do not start.
    pub fn start(
        pool: Arc<Pool>,
        settings: ScrapeSettings,
        threads: usize,
    ) -> Result<Self, StartError> {
        if settings.engine(&settings.default_engine).is_none() {
            return Err(StartError::UnknownEngine(settings.default_engine));
        }
        if !settings.path.starts_with('/')
            || settings.path.contains('?')
            || settings.path.parse::<Uri>().is_err()
        {
            return Err(StartError::BadPath(settings.path));
        }
        if settings.interval < SHORTEST_INTERVAL {
            return Err(StartError::BadTime("interval", settings.interval));
        }
        if settings.timeout.is_zero() {
            return Err(StartError::BadTime("timeout", settings.timeout));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("warmroute-scrape")
            .enable_io()
            .enable_time()
            .build()
            .map_err(StartError::Runtime)?;
        let followed = FollowedList::default();
        runtime.spawn(follow(pool, Arc::new(settings), Arc::clone(&followed)));
        Ok(Self {
            runtime: Some(runtime),
            followed,
        })
    }

    /// One state an endpoint, in the order of the pool's snapshot.
    pub fn states(&self) -> Vec<ScrapeState> {
        self.followed
            .lock()
            .iter()
            .map(|followed| followed.state.lock().clone())
            .collect()
    }

    /// Stops all threads; on return no page is read any more. Blocks for a moment, a second at most. Idempotent.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // From a thread of its own: a runtime may not be waited for inside another one.
            let stopping = std::thread::spawn(move || runtime.shutdown_timeout(STOP_LIMIT));
            // A panic of a scraping task has been reported by the panic hook; stopping is done either way.
            drop(stopping.join());
        }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Scraper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Scraper")
            .field("endpoints", &self.followed.lock().len())
            .finish_non_exhaustive()
    }
}

async fn follow(pool: Arc<Pool>, settings: Arc<ScrapeSettings>, followed: FollowedList) {
    let buffers = Arc::new(Buffers::default());
    let mut started = 0_u32;
    let mut seen = None;
    loop {
        // Read before the snapshot: a change in between is then seen at the next look.
        let generation = pool.generation();
        if seen != Some(generation) {
            seen = Some(generation);
            let snapshot = pool.snapshot();
            let mut list = followed.lock();
            let mut known: std::collections::HashMap<*const Endpoint, Followed> = list
                .drain(..)
                .map(|followed| (Arc::as_ptr(&followed.endpoint), followed))
                .collect();
            for endpoint in &snapshot.endpoints {
                let follow = known.remove(&Arc::as_ptr(endpoint)).or_else(|| {
                    started = started.wrapping_add(1);
                    begin(endpoint, &settings, &buffers, started)
                });
                list.extend(follow);
            }
            for gone in known.into_values() {
                gone.task.abort();
            }
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

fn begin(
    endpoint: &Arc<Endpoint>,
    settings: &Arc<ScrapeSettings>,
    buffers: &Arc<Buffers>,
    number: u32,
) -> Option<Followed> {
    let state = Arc::default();
    let worker = Worker::new(
        Arc::clone(endpoint),
        Arc::clone(settings),
        Arc::clone(buffers),
        Arc::clone(&state),
    )?;
    // Multiples of the golden ratio fall evenly into the interval however many endpoints come.
    let offset = settings
        .interval
        .mul_f64((f64::from(number) * 0.618_033_988_749_895).fract());
    let task = tokio::spawn(worker.run(Instant::now() + offset)).abort_handle();
    Some(Followed {
        endpoint: Arc::clone(endpoint),
        state,
        task,
    })
}
