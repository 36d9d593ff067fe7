//! The record of the last decisions, for those who ask why.

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;

use crate::Nanos;
use crate::schedule::{Explanation, RequestFacts};

/// Longest explanation put on a response header, in bytes: proxies and clients refuse larger header blocks.
const HEADER_BYTES: usize = 6_000;

/// One decision and what led to it. Carries no prompt text.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedDecision {
    /// When it was made, on the host's clock.
    #[serde(skip)]
    pub at: Nanos,
    /// Id of the request.
    pub request_id: String,
    /// Model asked for.
    pub model: Box<str>,
    /// Prompt tokens, exact or estimated.
    pub prompt_tokens: u32,
    /// `host:port` list.
    pub destination: String,
    /// Candidates, filters, scores.
    pub explanation: Explanation,
}

impl RecordedDecision {
    pub(super) fn new(
        facts: &RequestFacts,
        request_id: &Bytes,
        destination: &Bytes,
        explanation: Explanation,
        now: Nanos,
    ) -> Self {
        Self {
            at: now,
            request_id: String::from_utf8_lossy(request_id).into_owned(),
            model: facts.target_model.clone(),
            prompt_tokens: facts.prompt_tokens,
            destination: String::from_utf8_lossy(destination).into_owned(),
            explanation,
        }
    }

    /// JSON for a header; with many candidates only the best are told.
    pub(super) fn to_header(&self) -> String {
        let mut shortened = self.clone();
        let mut rows = usize::MAX;
        loop {
            // Serialising plain numbers and strings does not fail; an empty header would still be a valid answer.
            let json = ascii_json(&serde_json::to_string(&shortened).unwrap_or_default());
            if json.len() <= HEADER_BYTES || rows <= 1 {
                return json;
            }
            rows = shortened.explanation.candidates.len().min(rows) / 2;
            shortened.explanation.candidates.truncate(rows.max(1));
        }
    }
}

/// Header values are ASCII: other characters become JSON escapes.
fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

/// A bounded ring.
#[derive(Debug)]
pub(super) struct Decisions {
    kept: usize,
    ring: Mutex<VecDeque<RecordedDecision>>,
}

impl Decisions {
    pub(super) fn new(kept: usize) -> Self {
        Self {
            kept,
            ring: Mutex::new(VecDeque::with_capacity(kept)),
        }
    }

    pub(super) fn push(&self, decision: RecordedDecision) {
        let mut ring = self.ring.lock();
        ring.push_front(decision);
        ring.truncate(self.kept);
    }

    pub(super) fn last(&self, limit: usize) -> Vec<RecordedDecision> {
        self.ring.lock().iter().take(limit).cloned().collect()
    }
}
