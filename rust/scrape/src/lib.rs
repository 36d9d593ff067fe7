//! Polls what the endpoints tell (metrics pages, lists of models) and feeds the engine's pool.
//!
//! One task an endpoint and source on a small runtime of its own, so that a page never waits for Python and a slow server never delays another's page.
//! Scraped numbers correct the load that the picker itself reserves (`field.md` A5): when nothing happens on an endpoint its interval grows,
//! and where the server can filter only the wanted families are asked for.
#![forbid(unsafe_code)]

mod client;
mod error;
mod extract;
mod filter;
mod pace;
mod scraper;
mod settings;
mod source;
mod state;
mod tls;
mod transport;
mod worker;

pub use error::{ScrapeError, StartError};
pub use scraper::Scraper;
pub use settings::{
    CoreMetricsSettings, ExtractorKind, ExtractorSettings, Scheme, ScrapeSettings, SourceKind,
    SourceSettings, TlsSettings,
};
pub use state::{ExtractorState, ScrapeState};
