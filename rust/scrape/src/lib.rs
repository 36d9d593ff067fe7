//! Polls the metrics pages of the endpoints and feeds the engine's pool.
//!
//! One task an endpoint on a small runtime of its own, so that a page never waits for Python and a slow server never delays another's page.
//! Scraped numbers correct the load that the picker itself reserves (`field.md` A5): when nothing happens on an endpoint its interval grows,
//! and where the server can filter only the wanted families are asked for.
#![forbid(unsafe_code)]

mod client;
mod filter;
mod pace;
mod scraper;
mod settings;
mod state;
mod worker;

pub use client::ScrapeError;
pub use scraper::{Scraper, StartError};
pub use settings::ScrapeSettings;
pub use state::ScrapeState;
