//! What plugins see: the request's facts and one row of numbers per candidate endpoint.

use std::cell::RefCell;
use std::sync::Arc;

use crate::Nanos;
use crate::body::Medium;
use crate::learn::Curve;
use crate::pool::Snapshot;
use crate::schedule::{PrefixColumn, Prompt};

/// Something that a plugin found out about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// What it is: a name that plugins agree on.
    pub key: &'static str,
    /// Name of the plugin that made it.
    pub producer: Arc<str>,
    /// Its value; not empty.
    pub value: Box<str>,
}

/// What plugins found out about a request before it was scheduled.
#[derive(Clone, Debug, Default)]
pub struct RequestAttributes(Vec<Attribute>);

impl RequestAttributes {
    /// Key of the session's id, as `session-id-producer` makes it.
    pub const SESSION_ID: &'static str = "SessionID";
    /// Key of the agent's identity, as `agent-identity` makes it: the flow of a request that names none. Configurations write it.
    pub const AGENT_IDENTITY: &'static str = "agent-identity";

    /// Adds an attribute; an empty value counts as none.
    pub fn push(&mut self, key: &'static str, producer: &Arc<str>, value: &str) {
        if !value.is_empty() {
            self.0.push(Attribute {
                key,
                producer: Arc::clone(producer),
                value: value.into(),
            });
        }
    }

    /// The first value under that key, made by that plugin or (`None`) by any.
    pub fn get(&self, key: &str, producer: Option<&str>) -> Option<&str> {
        let mut found = self.0.iter();
        let found = found.find(|attribute| {
            attribute.key == key && producer.is_none_or(|producer| producer == &*attribute.producer)
        })?;
        Some(&found.value)
    }
}

/// What is known of a request when it is scheduled.
#[derive(Clone, Debug, Default)]
pub struct RequestFacts {
    /// Model that the engine will be asked for (after a rewrite); empty for payloads without one.
    pub target_model: Box<str>,
    /// Prompt tokens, exact where the body carries token ids, else bytes / 4 rounded up.
    pub prompt_tokens: u32,
    /// The client's limit on output tokens.
    pub max_tokens: Option<u32>,
    /// Request headers, lower-case names.
    pub headers: Vec<crate::exchange::Header>,
    /// Priority of the objective; 0 when none is named.
    pub priority: i32,
    /// Id of the flow that the request belongs to.
    pub fairness_id: Box<str>,
    /// Id of the request.
    pub request_id: bytes::Bytes,
    /// Different pictures, films and sounds in the prompt.
    pub media: Vec<Medium>,
    /// What plugins found out about it.
    pub attributes: RequestAttributes,
}

impl RequestFacts {
    /// Value of the first header of that lower-case name, where it is text and not empty.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let header = headers.find(|header| header.key == name.as_bytes())?;
        std::str::from_utf8(&header.value)
            .ok()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }
}

/// The candidates, a structure of arrays: row `i` of each column is the same endpoint.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// What requests cost on the pool's endpoints.
    pub curve: Curve,
    /// Position of the row's endpoint in `Snapshot::endpoints`.
    pub position: Vec<u32>,
    /// Requests waiting in the engine; 0 where unknown.
    pub waiting: Vec<f64>,
    /// Requests running in the engine; 0 where unknown.
    pub running: Vec<f64>,
    /// KV cache usage 0..1; 0 where unknown.
    pub kv_usage: Vec<f64>,
    /// Requests in flight through this picker.
    pub inflight_requests: Vec<f64>,
    /// Uncached prompt tokens in flight through this picker.
    pub inflight_tokens: Vec<f64>,
    /// Uncached prompt tokens reserved and not yet prefilled (P).
    pub prefill_tokens: Vec<f64>,
    /// Requests whose prefill is reserved and not yet released (q).
    pub pending_prefills: Vec<f64>,
    /// Seconds between first tokens while prefills are pending (d); 0 until some were seen.
    pub prefill_gap: Vec<f64>,
    /// How much slower than the pool's curve the endpoint prefills (s), 0.1 to 10; 1: like the pool.
    pub prefill_factor: Vec<f64>,
    /// How much slower than the pool's curve it decodes (f), 0.1 to 10.
    pub decode_factor: Vec<f64>,
    /// Requests that the engine runs at once, as its pages showed; infinite where no limit has shown.
    pub slots: Vec<f64>,
    /// Uncached tokens reserved since the page in force was asked for.
    pub sent_since_page: Vec<f64>,
    /// Tokens that the KV cache has room for (C); 0 where unknown.
    pub kv_tokens: Vec<f64>,
    /// When the page in force was read; where the scraper pauses, when it will read the next. Zero where there is none.
    pub page_at: Vec<Nanos>,
    /// What of the prompt each candidate holds, by each producer of prefix matches; first the one that plugins mean that name none.
    pub prefixes: Vec<PrefixColumn>,
    /// Share of the request's media, 0 to 1, that the endpoint's encoder is expected to have cached; no rows where nothing tells.
    pub media_matched: Vec<f64>,
}

impl Candidates {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.position.len()
    }

    /// True when no endpoint is a candidate.
    pub fn is_empty(&self) -> bool {
        self.position.is_empty()
    }
}

/// All that a plugin may read for one decision.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The request.
    pub request: &'a RequestFacts,
    /// The pool, for what has no column (labels, adapters).
    pub snapshot: &'a Snapshot,
    /// The rows.
    pub candidates: &'a Candidates,
    /// The prompt's identity.
    pub prompt: Prompt<'a>,
    /// Now.
    pub now: Nanos,
    /// The decision's source of chance.
    pub random: &'a RefCell<fastrand::Rng>,
}

impl Context<'_> {
    /// The endpoint of a row; `None` for a row that is not in the snapshot.
    pub fn endpoint(&self, row: usize) -> Option<&Arc<crate::pool::Endpoint>> {
        let position = *self.candidates.position.get(row)? as usize;
        self.snapshot.endpoints.get(position)
    }

    /// Value of the first request header of that lower-case name, where it is text and not empty.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    /// What that producer of prefix matches found (`None`: the one that is meant where none is named); nothing where there is none.
    pub fn prefix(&self, producer: Option<&str>) -> &PrefixColumn {
        let mut columns = self.candidates.prefixes.iter();
        let found = match producer {
            None => columns.next(),
            Some(name) => columns.find(|column| &*column.producer == name),
        };
        found.unwrap_or(PrefixColumn::nothing())
    }

    /// Prompt tokens that the endpoint of `row` would have to prefill; at least 1.
    pub fn uncached_tokens(&self, row: usize) -> f64 {
        self.uncached_by(self.prefix(None), row)
    }

    /// The same, by what one producer found.
    pub fn uncached_by(&self, prefix: &PrefixColumn, row: usize) -> f64 {
        u64::from(self.request.prompt_tokens)
            .saturating_sub(prefix.cached_tokens(row))
            .max(1) as f64
    }
}
