//! What is known of each endpoint's scraping, for people and for counters.

use std::time::Duration;

/// One source at one endpoint now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeState {
    /// `host:port` that is asked.
    pub address: String,
    /// Name of the source.
    pub source: String,
    /// Its type, `metrics-data-source` for one.
    pub source_type: &'static str,
    /// The last answer was read.
    pub ok: bool,
    /// Why the last answer was not read; empty when it was.
    pub error: String,
    /// The server answers with the wanted families only.
    pub filtered: bool,
    /// The server is asked for the wanted families only, or was until it refused.
    pub filter_wanted: bool,
    /// Why whole pages are read although a filter is wanted, or another fall-back; empty when all is as configured. Changes seldom: fit to be logged when it does.
    pub note: String,
    /// Why the source's files of certificates, which were replaced, are not in use; empty when they are.
    pub tls_error: String,
    /// Bytes of the last answer.
    pub bytes: u64,
    /// Time to the next one.
    pub interval: Duration,
    /// Answers read.
    pub scrapes: u64,
    /// Attempts that gave none.
    pub failures: u64,
    /// What reads the answers, in order.
    pub extractors: Vec<ExtractorState>,
}

/// One extractor of a source at one endpoint now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractorState {
    /// Name.
    pub name: String,
    /// Type, `core-metrics-extractor` for one.
    pub extractor_type: &'static str,
    /// What the last good answer lacked; empty when nothing.
    pub error: String,
    /// Good answers that lacked something.
    pub failures: u64,
}
