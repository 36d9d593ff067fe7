//! The scraper: its threads, and a task that follows the pool.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use warmroute_core::pool::{Endpoint, Pool};

use crate::error::StartError;
use crate::settings::ScrapeSettings;
use crate::source::Source;
use crate::state::ScrapeState;
use crate::tls::Tls;
use crate::worker::{Buffers, Worker};

/// How often the pool is looked at for endpoints that came or went (one atomic load when none did).
const FOLLOW_INTERVAL: Duration = Duration::from_millis(20);
/// Shortest interval: below it the model servers would do nothing but render pages.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);
/// How long `stop` waits for the threads.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// One endpoint that is being scraped.
struct Followed {
    endpoint: Arc<Endpoint>,
    /// One a source, in their order.
    collectors: Vec<Collector>,
}

/// One source at one endpoint.
struct Collector {
    source: Arc<Source>,
    state: Arc<Mutex<ScrapeState>>,
    task: AbortHandle,
}

impl Collector {
    fn state(&self) -> ScrapeState {
        ScrapeState {
            tls_error: self
                .source
                .tls
                .as_ref()
                .map_or_else(String::new, Tls::error),
            ..self.state.lock().clone()
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
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
        if settings.interval < SHORTEST_INTERVAL {
            return Err(StartError::BadTime("interval", settings.interval));
        }
        if settings.timeout.is_zero() {
            return Err(StartError::BadTime("timeout", settings.timeout));
        }
        let sources = Source::all(&settings)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("warmroute-scrape")
            .enable_io()
            .enable_time()
            .build()
            .map_err(StartError::Runtime)?;
        let followed = FollowedList::default();
        let common = Common {
            settings,
            sources: sources.into_iter().map(Arc::new).collect(),
            buffers: Arc::default(),
        };
        runtime.spawn(follow(pool, common, Arc::clone(&followed)));
        Ok(Self {
            runtime: Some(runtime),
            followed,
        })
    }

    /// One state an endpoint and source, in the order of the pool's snapshot and of the sources.
    pub fn states(&self) -> Vec<ScrapeState> {
        self.followed
            .lock()
            .iter()
            .flat_map(|followed| &followed.collectors)
            .map(Collector::state)
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

/// What all collectors share.
struct Common {
    settings: ScrapeSettings,
    sources: Vec<Arc<Source>>,
    buffers: Arc<Buffers>,
}

async fn follow(pool: Arc<Pool>, common: Common, followed: FollowedList) {
    let mut started = 0_u32;
    let mut seen = None;
    let mut reloaded = Instant::now();
    loop {
        if reloaded.elapsed() >= common.settings.tls_reload {
            for tls in common
                .sources
                .iter()
                .filter_map(|source| source.tls.as_ref())
            {
                tls.reload();
            }
            reloaded = Instant::now();
        }
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
                let follow = known
                    .remove(&Arc::as_ptr(endpoint))
                    .unwrap_or_else(|| begin(endpoint, &common, &mut started));
                list.push(follow);
            }
            // What is left in `known` belongs to endpoints that are gone, and ends with it.
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

fn begin(endpoint: &Arc<Endpoint>, common: &Common, started: &mut u32) -> Followed {
    let collector = |source: &Arc<Source>| {
        let state = Arc::default();
        let worker = Worker::new(
            Arc::clone(endpoint),
            Arc::clone(source),
            &common.settings,
            Arc::clone(&common.buffers),
            Arc::clone(&state),
        )?;
        *started = started.wrapping_add(1);
        // Multiples of the golden ratio fall evenly into the interval however many endpoints come.
        let offset = source
            .interval
            .mul_f64((f64::from(*started) * 0.618_033_988_749_895).fract());
        let task = tokio::spawn(worker.run(Instant::now() + offset)).abort_handle();
        Some(Collector {
            source: Arc::clone(source),
            state,
            task,
        })
    };
    Followed {
        endpoint: Arc::clone(endpoint),
        collectors: common.sources.iter().filter_map(collector).collect(),
    }
}
