//! Decisions recorded for a replay: a random share of them, bounded, and without any text of a prompt.
//!
//! What a line needs is copied when the request is decided, stays with its exchange, and is queued when the exchange ends. Whoever writes the file takes
//! the lines from there; where nobody does, or not fast enough, entries are counted as lost and no request waits.

mod endpoints;
mod line;

use std::collections::VecDeque;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Engine, Inquiry};
use crate::Nanos;
use crate::pool::{Endpoint, Snapshot};
use crate::prefix;
use crate::schedule::Candidates;

use endpoints::Endpoints;

/// Candidates in a line: of more, the chosen one and an even share of the rest.
const MOST_CANDIDATES: usize = 64;
/// Entries that wait to be taken.
const QUEUED: usize = 4_096;
/// Bytes that they may hold, about: a long prompt has thousands of blocks.
const QUEUED_BYTES: usize = 64 << 20;
/// Longest model or adapter name that is written, in bytes: a client may ask for any.
const NAME_BYTES: usize = 256;

/// What a decision was and what it was made from, without text of the prompt; complete once its exchange has ended.
#[derive(Debug)]
pub struct RecordingEntry {
    at: Nanos,
    snapshot: Arc<Snapshot>,
    choice: Captured,
    /// Chained hashes of the prompts' blocks, one prompt after the other; salted when they are written.
    hashes: Vec<u64>,
    /// Blocks of each prompt.
    sequences: Vec<u32>,
    unit_tokens: u32,
    prompt_tokens: u32,
    max_tokens: Option<u32>,
    model: Box<str>,
    priority: i32,
    profile: Arc<str>,
    adapters: Vec<Adapters>,
    /// HTTP status of the answer, once its headers came.
    pub(crate) status: Option<u16>,
    ending: Option<Ending>,
}

/// How an exchange ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// From the request's first byte to its end.
    pub(crate) duration: Duration,
    /// From the request's first byte to the first token, where that was seen.
    pub(crate) first_token: Option<Duration>,
    /// Where the answer told them.
    pub(crate) output_tokens: Option<u64>,
    /// Where the load was at the end: after a retry another endpoint than the chosen one.
    pub(crate) served: Arc<Endpoint>,
}

/// The rows that a profile chose from.
#[derive(Debug)]
pub(super) struct Captured {
    candidates: Candidates,
    /// Row of the chosen one.
    chosen: usize,
    /// Rows before some were left out.
    total: usize,
}

/// Adapters of a candidate that has any.
#[derive(Debug)]
struct Adapters {
    row: usize,
    running: Vec<Box<str>>,
    waiting: Vec<Box<str>>,
    most: Option<u32>,
}

/// What became of the sampled decisions so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingState {
    /// Lines that were taken.
    pub taken: u64,
    /// Entries that found the queue full.
    pub lost: u64,
    /// Entries that wait to be taken.
    pub queued: usize,
}

/// The recorder of an engine.
#[derive(Debug)]
pub(super) struct Recording {
    started: Nanos,
    /// A decision is sampled when its number, mixed, is not above this.
    threshold: u64,
    seed: u64,
    drawn: AtomicU64,
    stopped: AtomicBool,
    queue: Mutex<Queue>,
    lost: AtomicU64,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Box<RecordingEntry>>,
    bytes: usize,
}

#[derive(Debug)]
struct Writer {
    /// `SipHash` under a random 128-bit key, which stays in here: the same block has the same number within one recording and in no other.
    salt: RandomState,
    endpoints: Endpoints,
    taken: u64,
}

impl Recording {
    /// `sample`: share of the decisions, above 0 and at most 1.
    pub(super) fn new(sample: f64, seed: Option<u64>, now: Nanos) -> Self {
        Self {
            started: now,
            // All of them at 1: the conversion saturates.
            threshold: (sample * 2.0_f64.powi(64)) as u64,
            seed: seed.unwrap_or_else(|| fastrand::u64(..)),
            drawn: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            queue: Mutex::default(),
            lost: AtomicU64::new(0),
            writer: Mutex::new(Writer {
                salt: RandomState::new(),
                endpoints: Endpoints::default(),
                taken: 0,
            }),
        }
    }

    /// Whether the decision that is made now is recorded; `Some`: a number that is another one for each.
    pub(super) fn draw(&self) -> Option<u64> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mixed = mix(self.seed ^ mix(number));
        (mixed <= self.threshold).then_some(mixed)
    }

    fn push(&self, entry: Box<RecordingEntry>) {
        let bytes = entry.bytes();
        let mut queue = self.queue.lock();
        let full = queue.entries.len() >= QUEUED || queue.bytes + bytes > QUEUED_BYTES;
        if full || self.stopped.load(Ordering::Relaxed) {
            drop(queue);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += bytes;
        queue.entries.push_back(entry);
    }

    fn pop(&self) -> Option<Box<RecordingEntry>> {
        let mut queue = self.queue.lock();
        let entry = queue.entries.pop_front()?;
        queue.bytes -= entry.bytes();
        Some(entry)
    }
}

/// A bijection that scatters (the finaliser of `splitmix64`).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Captured {
    /// Copies what the choice was made from. In the critical section: it takes numbers only.
    pub(super) fn take(candidates: &Candidates, chosen: u32, number: u64) -> Self {
        let total = candidates.len();
        if total <= MOST_CANDIDATES {
            return Self {
                candidates: candidates.clone(),
                chosen: chosen as usize,
                total,
            };
        }
        let rest = MOST_CANDIDATES - 1;
        let offset = number as usize % total;
        // Evenly over all rows from a random one on: each has the same chance, and none comes twice.
        let evenly = (0..rest).map(|step| ((offset + step * total / rest) % total) as u32);
        let rows: Vec<u32> = std::iter::once(chosen)
            .chain(evenly.filter(|row| *row != chosen))
            .collect();
        let mut kept = Candidates::default();
        candidates.pack_into(&rows, &mut kept);
        Self {
            candidates: kept,
            chosen: 0,
            total,
        }
    }
}

impl RecordingEntry {
    /// About what it holds, in bytes; stays the same while it is queued.
    fn bytes(&self) -> usize {
        let prefixes = self.choice.candidates.prefixes.len();
        let row = 8 * 14 + 8 * prefixes;
        512 + 8 * self.hashes.len() + row * self.choice.candidates.len()
    }
}

impl Engine {
    /// What is written of a decision that was sampled, as soon as it is made.
    pub(super) fn entry(
        &self,
        inquiry: &Inquiry<'_>,
        snapshot: &Arc<Snapshot>,
        chains: &[Vec<u64>],
        profile: &Arc<str>,
        choice: Captured,
    ) -> Box<RecordingEntry> {
        let facts = &inquiry.facts;
        let seed = prefix::seed(&facts.target_model, inquiry.cache_salt);
        let mut hashes = chains.concat();
        if chains.is_empty() {
            // A policy that matches no prefixes: they are told all the same, for those that do.
            for ids in inquiry.sequences {
                hashes.extend(prefix::chain(seed, ids));
            }
        }
        let rows = choice.candidates.position.iter().enumerate();
        let adapters = rows.filter_map(|(row, position)| {
            let metrics = snapshot.endpoints.get(*position as usize)?.metrics.load();
            let (running, waiting) = (&metrics.running_adapters, &metrics.waiting_adapters);
            (!running.is_empty() || !waiting.is_empty()).then(|| Adapters {
                row,
                running: running.clone(),
                waiting: waiting.clone(),
                most: metrics.max_adapters,
            })
        });
        Box::new(RecordingEntry {
            at: inquiry.now,
            adapters: adapters.collect(),
            snapshot: Arc::clone(snapshot),
            choice,
            hashes,
            sequences: inquiry
                .sequences
                .iter()
                .map(|ids| ids.len() as u32)
                .collect(),
            unit_tokens: self.block_tokens(),
            prompt_tokens: facts.prompt_tokens,
            max_tokens: facts.max_tokens,
            model: shortened(&facts.target_model).into(),
            priority: facts.priority,
            profile: Arc::clone(profile),
            status: None,
            ending: None,
        })
    }

    /// The exchange of a recorded decision has ended.
    pub(crate) fn recorded(&self, mut entry: Box<RecordingEntry>, ending: Ending) {
        if let Some(recording) = &self.recording {
            entry.ending = Some(ending);
            recording.push(entry);
        }
    }

    /// The first line of a recording: when it began, the configuration (as text) and the endpoints. Endpoints are numbered anew. `unix_seconds`: now.
    /// `None` where nothing is recorded.
    pub fn recording_header(&self, policy: &str, unix_seconds: f64) -> Option<String> {
        let recording = self.recording.as_ref()?;
        let mut writer = recording.writer.lock();
        writer.endpoints = Endpoints::default();
        let endpoints = writer.endpoints.enter(&self.pool.snapshot());
        Some(line::header(&line::Header {
            warmroute_recording: 1,
            started: unix_seconds - (self.now() - recording.started).as_secs_f64(),
            sample: self.settings.record_sample.unwrap_or(1.0),
            block_tokens: self.block_tokens(),
            policy,
            endpoints,
        }))
    }

    /// A line that says that another configuration decides from now on.
    pub fn recording_policy(&self, policy: &str) -> Option<String> {
        let recording = self.recording.as_ref()?;
        Some(line::policy(
            policy,
            milliseconds(self.now() - recording.started),
        ))
    }

    /// At most `limit` decisions whose exchanges have ended, as lines, each with its line break; before them what endpoints they name that
    /// earlier lines did not.
    pub fn take_recorded(&self, limit: usize) -> String {
        let mut lines = String::new();
        let Some(recording) = &self.recording else {
            return lines;
        };
        let mut writer = recording.writer.lock();
        for _ in 0..limit {
            let Some(entry) = recording.pop() else {
                break;
            };
            let Writer {
                salt, endpoints, ..
            } = &mut *writer;
            line::write(&entry, recording.started, salt, endpoints, &mut lines);
            writer.taken += 1;
        }
        lines
    }

    /// Nothing is recorded any more; what waits is counted as lost.
    pub fn stop_recording(&self) {
        let Some(recording) = &self.recording else {
            return;
        };
        recording.stopped.store(true, Ordering::Relaxed);
        let left = std::mem::take(&mut *recording.queue.lock());
        let lost = left.entries.len() as u64;
        recording.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// What became of the sampled decisions; `None` where nothing is recorded.
    pub fn recording_state(&self) -> Option<RecordingState> {
        let recording = self.recording.as_ref()?;
        Some(RecordingState {
            taken: recording.writer.lock().taken,
            lost: recording.lost.load(Ordering::Relaxed),
            queued: recording.queue.lock().entries.len(),
        })
    }
}

fn milliseconds(duration: Duration) -> f64 {
    // Microseconds are as fine as anybody needs it, and shorter to write.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
