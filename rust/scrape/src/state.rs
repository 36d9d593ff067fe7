//! What is known of each endpoint's scraping, for people.

use std::time::Duration;

/// One endpoint's scraping now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeState {
    /// `host:port` that is asked.
    pub address: String,
    /// The last page was read.
    pub ok: bool,
    /// Why the last page was not read; empty when it was.
    pub error: String,
    /// The server answers with the wanted families only.
    pub filtered: bool,
    /// Why whole pages are read although a filter is wanted, or another fall-back; empty when all is as configured. Changes seldom: fit to be logged when it does.
    pub note: String,
    /// Bytes of the last page.
    pub bytes: u64,
    /// Time to the next page.
    pub interval: Duration,
    /// Pages read.
    pub scrapes: u64,
    /// Attempts that gave no page.
    pub failures: u64,
}
