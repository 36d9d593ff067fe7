//! Recorded decisions asked again of another policy: from the recorded state of the candidates, with nothing reserved.

mod line;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::policy::{Policy, PolicyError, PolicySpec};
use crate::Nanos;
use crate::learn::Curve;
use crate::plugin::Externals;
use crate::pool::{EndpointIdentity, EngineMetrics, Pool, Snapshot};
use crate::schedule::{Candidates, Context, PrefixColumn, RequestFacts, Scratch};

use line::{CurveOf, Decided, Introduced, Line};

/// The clock at the start of the recording, nanoseconds: pages were read before it.
const START: u64 = 86_400 * 1_000_000_000;
/// Scores that differ by no more are the same: the picker's chance chose among them.
const TIE: f64 = 1e-9;

/// A policy that is asked what it would have chosen.
#[derive(Debug)]
pub struct Rerun {
    policy: Policy,
    pool: Pool,
    /// Namespace and name of each endpoint that lines have introduced, by its number.
    names: Vec<Option<(Box<str>, Box<str>)>>,
    /// The pool as the last decision saw it, and the position in it of each endpoint by its number.
    seen: Option<(Arc<Snapshot>, Vec<Option<u32>>)>,
    random: RefCell<fastrand::Rng>,
    scratch: Scratch,
    ranked: Vec<u32>,
    lines: usize,
}

/// A decision as it was and as it would have been.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// Milliseconds since the start of the recording.
    pub timestamp: f64,
    /// What was chosen.
    pub recorded: Took,
    /// What the policy chooses; `None`: it refuses the request.
    pub chosen: Option<Took>,
    /// The policy rates what was chosen as high as what it chooses.
    pub tied: bool,
}

/// An endpoint and the load that it had, by what was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Took {
    /// Number of the endpoint in the recording.
    pub endpoint: u32,
    /// Tokens of the prompt that it did not have.
    pub uncached_tokens: f64,
    /// Prompt tokens that were waiting for their prefill there.
    pub queued_tokens: f64,
    /// Requests in flight there.
    pub inflight: f64,
}

/// A recording that cannot be read on.
#[derive(Debug)]
pub struct RerunError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for RerunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for RerunError {}

impl Rerun {
    /// `seed`: start of the picker's chance.
    ///
    /// # Errors
    /// As [`super::Engine::new`]; plugins in Python are not there.
    pub fn new(policy: &PolicySpec, seed: u64) -> Result<Self, PolicyError> {
        Ok(Self {
            policy: Policy::build(policy, &Externals::new(), 1, None)?,
            pool: Pool::new(),
            names: Vec::new(),
            seen: None,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            scratch: Scratch::default(),
            ranked: Vec::new(),
            lines: 0,
        })
    }

    /// The next line of the recording, without its line break. `None`: it is no decision.
    ///
    /// # Errors
    /// A line that is not as a recording has them.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Again>, RerunError> {
        self.lines += 1;
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let number = self.lines;
        let wrong = |problem| RerunError {
            line: number,
            problem,
        };
        match Line::read(line).map_err(|error| wrong(error.to_string()))? {
            Line::Decided(decided) => self.decide(&decided).map(Some).map_err(wrong),
            Line::Introduced(endpoints) => {
                for endpoint in endpoints {
                    self.introduce(endpoint).map_err(wrong)?;
                }
                Ok(None)
            }
            Line::Other => Ok(None),
        }
    }

    fn introduce(&mut self, endpoint: Introduced) -> Result<(), String> {
        let index = endpoint.index as usize;
        if index > self.names.len() {
            return Err(format!(
                "endpoint {index} comes before endpoint {}; lines are missing",
                self.names.len()
            ));
        }
        let address: std::net::SocketAddr = endpoint.address.parse().map_err(|_| {
            format!(
                "endpoint {:?}: the address {:?} is not ip:port",
                endpoint.name, endpoint.address
            )
        })?;
        let identity = EndpointIdentity {
            namespace: endpoint.namespace.clone(),
            name: endpoint.name.clone(),
            address: address.ip(),
            port: address.port(),
            metrics_host: None,
            labels: endpoint.labels,
        };
        self.pool
            .try_upsert(identity)
            .map_err(|full| full.to_string())?;
        self.names.resize(self.names.len().max(index + 1), None);
        self.names[index] = Some((endpoint.namespace, endpoint.name));
        self.seen = None;
        Ok(())
    }

    /// The pool, and where in it each endpoint stands.
    fn positions(&mut self) -> (Arc<Snapshot>, &[Option<u32>]) {
        let Self {
            pool, names, seen, ..
        } = self;
        let (snapshot, positions) = seen.get_or_insert_with(|| {
            let snapshot = pool.snapshot();
            let position = |name: &Option<(Box<str>, Box<str>)>| {
                let (namespace, name) = name.as_ref()?;
                let mut endpoints = snapshot.endpoints.iter();
                let found = endpoints.position(|endpoint| {
                    (&endpoint.identity.namespace, &endpoint.identity.name) == (namespace, name)
                });
                found.map(|position| position as u32)
            };
            let positions = names.iter().map(position).collect();
            (snapshot, positions)
        });
        (Arc::clone(snapshot), positions)
    }

    fn decide(&mut self, decided: &Decided) -> Result<Again, String> {
        decided.check()?;
        let (snapshot, positions) = self.positions();
        let position = |number: &u32| {
            let position = positions.get(*number as usize).copied().flatten();
            position.ok_or_else(|| format!("no line before tells of endpoint {number}"))
        };
        let listed = decided.candidates.endpoint.iter();
        let position: Vec<u32> = listed.map(position).collect::<Result<_, _>>()?;
        let mut listed = decided.candidates.endpoint.iter();
        let recorded = listed
            .position(|number| *number == decided.chosen)
            .ok_or("the chosen endpoint is not among its candidates")?;
        let now = Nanos(START + (decided.timestamp.max(0.0) * 1e6) as u64);
        refresh(decided, &snapshot, &position, now);
        let columns = &decided.candidates;
        let rows = position.len();
        // Of a recording that has no such column.
        let told = |column: &[Option<f64>], otherwise: f64| {
            if column.is_empty() {
                vec![otherwise; rows]
            } else {
                numbers(column)
            }
        };
        let candidates = Candidates {
            position,
            prefixes: self.prefixes(decided),
            waiting: numbers(&columns.waiting),
            running: numbers(&columns.running),
            kv_usage: numbers(&columns.kv),
            inflight_requests: numbers(&columns.inflight),
            inflight_tokens: numbers(&columns.inflight_tokens),
            prefill_tokens: numbers(&columns.prefill_tokens),
            media_matched: numbers(&columns.media_matched),
            curve: decided.curve.as_ref().map_or(Curve::START, CurveOf::read),
            pending_prefills: told(&columns.pending_prefills, 0.0),
            prefill_gap: told(&columns.prefill_gap, 0.0),
            prefill_factor: told(&columns.prefill_factor, 1.0),
            decode_factor: told(&columns.decode_factor, 1.0),
            slots: slots(&columns.slots, rows),
            sent_since_page: told(&columns.sent_since_page, 0.0),
            kv_tokens: told(&columns.kv_tokens, 0.0),
            page_at: pages(&columns.page_age_ms, rows, now),
        };
        let facts = RequestFacts {
            target_model: decided.model.as_str().into(),
            prompt_tokens: decided.input_length,
            max_tokens: decided.max_tokens,
            priority: decided.priority,
            ..RequestFacts::default()
        };
        let took = |row: usize| Took {
            endpoint: decided.candidates.endpoint[row],
            uncached_tokens: decided.uncached_tokens(row),
            queued_tokens: candidates.prefill_tokens[row],
            inflight: candidates.inflight_requests[row],
        };
        let context = Context {
            request: &facts,
            snapshot: &snapshot,
            candidates: &candidates,
            prompt: decided.prompt(),
            now,
            random: &self.random,
        };
        let profile = self.policy.profile_for(&facts);
        let choice = profile.and_then(|profile| {
            let profile = &self.policy.profiles()[profile];
            let (scratch, ranked) = (&mut self.scratch, &mut self.ranked);
            profile.run(&context, None, scratch, ranked, None).ok()
        });
        let tied = choice.is_some_and(|choice| {
            let mut totals = self.scratch.totals();
            let total = totals.find(|(row, _)| *row as usize == recorded);
            total.is_some_and(|(_, total)| (total - choice.total).abs() <= TIE)
        });
        Ok(Again {
            timestamp: decided.timestamp,
            recorded: took(recorded),
            chosen: choice.map(|choice| took(choice.row as usize)),
            tied,
        })
    }

    /// A column for each producer of the policy: what the producer of that name told, or else the first that was recorded.
    fn prefixes(&self, decided: &Decided) -> Vec<PrefixColumn> {
        let producers = self.policy.prefixes.producers.iter();
        let column = producers.map(|producer| {
            let mut columns = decided.prefixes.iter();
            let named = columns.find(|column| *column.producer == *producer.name);
            let column = named.or_else(|| decided.prefixes.first());
            column.map_or_else(PrefixColumn::default, |column| PrefixColumn {
                producer: Arc::clone(&producer.name),
                total_blocks: column.total_blocks,
                block_tokens: column.block_tokens,
                blocks: column.blocks.clone(),
                held: column.held.clone(),
            })
        });
        column.collect()
    }
}

/// Puts the recorded metrics where plugins look that read more than the columns.
fn refresh(decided: &Decided, snapshot: &Snapshot, positions: &[u32], now: Nanos) {
    for (row, position) in positions.iter().enumerate() {
        let mut adapters = decided.adapters.iter();
        let adapters = adapters.find(|adapters| adapters.row == row);
        let metrics = EngineMetrics {
            waiting: decided.candidates.waiting[row],
            running: decided.candidates.running[row],
            kv_usage: decided.candidates.kv[row],
            running_adapters: adapters.map_or_else(Vec::new, |row| row.running.clone()),
            waiting_adapters: adapters.map_or_else(Vec::new, |row| row.waiting.clone()),
            max_adapters: adapters.and_then(|row| row.max),
            ..EngineMetrics::default()
        };
        snapshot.endpoints[*position as usize].refresh(metrics, now);
    }
}

/// No limit where none was told: JSON has no infinite numbers.
fn slots(column: &[Option<f64>], rows: usize) -> Vec<f64> {
    let told = column.iter().map(|slots| slots.unwrap_or(f64::INFINITY));
    let mut slots: Vec<f64> = told.collect();
    slots.resize(rows, f64::INFINITY);
    slots
}

/// When the pages were read; zero where there was none.
fn pages(ages: &[Option<f64>], rows: usize, now: Nanos) -> Vec<Nanos> {
    let read = |age: &Option<f64>| {
        let nanos = age.map_or(f64::INFINITY, |age| age * 1e6);
        Nanos((now.0 as f64 - nanos).max(0.0) as u64)
    };
    let mut pages: Vec<Nanos> = ages.iter().map(read).collect();
    pages.resize(rows, Nanos(0));
    pages
}

/// What is no number in JSON was none in the decision either.
fn numbers(column: &[Option<f64>]) -> Vec<f64> {
    let values = column.iter();
    values.map(|value| value.unwrap_or(f64::NAN)).collect()
}

#[cfg(test)]
mod tests;
