//! Settings with which no scraper can start, and answers that are none.

use std::fmt;
use std::io;
use std::time::Duration;

use http::StatusCode;
use warmroute_core::pool::{ModelListError, PageError};

use crate::client::PAGE_LIMIT;

/// Settings with which no scraper can start.
#[derive(Debug)]
pub enum StartError {
    /// A field of one source, under its name in the configuration.
    Source {
        /// Name of the source.
        source: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `interval` is below 5 ms or `timeout` is zero.
    BadTime(&'static str, Duration),
    /// No threads.
    Runtime(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source {
                source,
                field,
                reason,
            } => write!(formatter, "source {source:?}: {field}: {reason}"),
            Self::BadTime(field, value) => write!(formatter, "{field} of {value:?} is too short"),
            Self::Runtime(error) => {
                write!(formatter, "the scraper's threads do not start: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Why there is no answer.
#[derive(Debug)]
pub enum ScrapeError {
    /// No connection.
    Connect(io::Error),
    /// The host is no name that a certificate could carry.
    HostName,
    /// No TLS on the connection.
    Tls(io::Error),
    /// The connection or the answer broke.
    Http(hyper::Error),
    /// Nothing complete within the time given.
    Timeout,
    /// An answer other than 200.
    Status(StatusCode),
    /// The answer is longer than 8 MiB.
    TooLarge,
    /// The answer is compressed although that was not asked for.
    Encoded,
    /// The answer is no metrics page.
    Page(PageError),
    /// The answer is no list of models.
    Models(ModelListError),
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "no connection: {error}"),
            Self::HostName => {
                formatter.write_str("no TLS: the host is neither a name nor an address")
            }
            Self::Tls(error) => write!(formatter, "no TLS: {error}"),
            Self::Http(error) => {
                write!(formatter, "the exchange broke: {error}")?;
                match std::error::Error::source(error) {
                    Some(source) => write!(formatter, " ({source})"),
                    None => Ok(()),
                }
            }
            Self::Timeout => formatter.write_str("no complete page in time"),
            Self::Status(status) => write!(formatter, "the server answered {status}"),
            Self::TooLarge => write!(
                formatter,
                "the page is longer than {} MiB",
                PAGE_LIMIT >> 20
            ),
            Self::Encoded => {
                formatter.write_str("the page is compressed although that was not asked for")
            }
            Self::Page(error) => error.fmt(formatter),
            Self::Models(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for ScrapeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) | Self::Tls(error) => Some(error),
            Self::Http(error) => Some(error),
            Self::Page(error) => Some(error),
            Self::Models(error) => Some(error),
            Self::HostName | Self::Timeout | Self::Status(_) | Self::TooLarge | Self::Encoded => {
                None
            }
        }
    }
}
