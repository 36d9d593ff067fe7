//! What surrounds scheduling: who may be a candidate, whether a request is admitted, what is done with the choice and told of the answer.
//!
//! One plugin a file. In the reference these extension points are called request control.

pub mod admitters;
mod lottery;
pub mod producers;
pub mod reporters;
pub mod responses;
pub mod saturation;
pub mod screeners;

use std::fmt;

use bytes::Bytes;

use crate::body::Usage;
use crate::exchange::{Header, Refusal};
use crate::pool::{Endpoint, Snapshot};
use crate::schedule::{Candidates, Context, RequestAttributes, RequestFacts};

/// (name, value) of headers to set.
pub type HeaderPairs = Vec<(Bytes, Bytes)>;

/// Reads request headers once the request is complete, before anything is decided.
pub trait RequestProcessor: Send + Sync + fmt::Debug {
    /// Adds what it finds to `attributes`.
    fn process(&self, headers: &[Header], attributes: &mut RequestAttributes);
}

/// Fills columns of the candidates. Runs in the critical section of the decision: look-ups only.
pub trait EndpointProducer: Send + Sync + fmt::Debug {
    /// Fills its column, one row for each candidate.
    fn produce(&self, request: &RequestFacts, snapshot: &Snapshot, candidates: &mut Candidates);
}

/// Removes candidates before any profile runs. Each screener sees all candidates; what all of them keep remains.
pub trait Screener: Send + Sync + fmt::Debug {
    /// Sets `keep[row] = false` for each row to drop. `response` takes headers for the answer to the client.
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn screen(
        &self,
        context: &Context<'_>,
        keep: &mut [bool],
        response: &mut HeaderPairs,
    ) -> Result<(), Refusal>;
}

/// Decides whether a request is let in.
pub trait Admitter: Send + Sync + fmt::Debug {
    /// # Errors
    /// Why not; the client gets it with status 500, as in the reference.
    fn admit(&self, context: &Context<'_>) -> Result<(), Box<str>>;
}

/// Tells how loaded a pool is.
pub trait SaturationDetector: Send + Sync + fmt::Debug {
    /// 0: idle; 1 and above: saturated. 1 for a pool without endpoints.
    fn saturation(&self, context: &Context<'_>) -> f64;
}

/// A choice that has been made.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// Rows of the context's candidates, best first; not empty.
    pub ranked: &'a [u32],
    /// Name of the profile that ran.
    pub profile: &'a str,
}

/// What is changed on the request beside its destination header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdits {
    /// Headers to set.
    pub set: HeaderPairs,
    /// Headers that clients may not send.
    pub remove: Vec<&'static str>,
    /// `host:port` to use instead of the chosen one.
    pub destination: Option<Bytes>,
}

/// Acts on the choice before the request is forwarded. Runs in the critical section of the decision: no blocking, no I/O.
pub trait PreRequest: Send + Sync + fmt::Debug {
    /// `context` has the rows that the profile was run on, before its filters.
    fn pre_request(&self, context: &Context<'_>, chosen: &Chosen<'_>, edits: &mut RequestEdits);
}

/// What is known when the response headers arrive.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The endpoint that serves, as far as known the one that the gateway really used.
    pub endpoint: &'a Endpoint,
    /// Name of the profile that chose it.
    pub profile: &'a str,
    /// The gateway sent metadata in namespace `envoy.lb`.
    pub lb_metadata: bool,
    /// Its `x-gateway-destination-endpoint-served`.
    pub served: Option<&'a str>,
}

/// Adds to the headers of the response.
pub trait ResponseReceived: Send + Sync + fmt::Debug {
    /// Appends headers to set.
    fn response_received(&self, response: &Response<'_>, set: &mut HeaderPairs);
}

/// What a reporter tells the gateway, as dynamic metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Metadata namespace.
    pub namespace: Box<str>,
    /// Key in it.
    pub name: Box<str>,
    /// Value; told as a number.
    pub value: i64,
}

/// Tells the gateway about a finished request. Where one is configured, response bodies are processed for their usage.
pub trait Reporter: Send + Sync + fmt::Debug {
    /// At the end of the response, with no tokens where it told none; `None`: nothing to tell.
    ///
    /// # Errors
    /// Why there is nothing to tell although there should be; it is counted.
    fn report(&self, usage: &Usage) -> Result<Option<Report>, Box<str>>;
}
