//! A pending prefill, for those who hear from the engine that it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::endpoint::Endpoint;
use crate::Nanos;
use crate::learn::Measured;

/// Names the prefill of a request in flight. It may be kept for as long as one likes: once the request's first token was seen, or it moved or
/// ended, or a copy of this was told, nothing happens any more.
#[derive(Clone, Debug)]
pub struct PrefillHandle {
    endpoint: Arc<Endpoint>,
    sequence: u64,
    measured: Measured,
    open: Arc<AtomicBool>,
}

impl PrefillHandle {
    pub(super) fn new(endpoint: &Arc<Endpoint>, sequence: u64, measured: Measured) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            sequence,
            measured,
            open: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Where the prefill is pending.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The engine has stored the prompt's last block, heard of now: releases the prefill and learns from it where nothing better is heard.
    /// False: it was known before that it is done.
    pub fn done(&self, now: Nanos) -> bool {
        let open = self.close();
        if open {
            let state = &self.endpoint.state;
            state.prompt_stored(self.sequence, &self.measured, now);
        }
        open
    }

    /// True for the one who closes it.
    pub(super) fn close(&self) -> bool {
        self.open.swap(false, Ordering::Relaxed)
    }
}
