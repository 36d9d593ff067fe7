//! A pending prefill, for those who hear from the engine that it is done.

use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::Nanos;

/// Names one pending prefill. It may be kept for as long as one likes: what was released before, in whatever way, is not released again.
#[derive(Clone, Debug)]
pub struct PrefillHandle {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) sequence: u64,
}

impl PrefillHandle {
    /// Where the prefill is pending.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The engine has stored the prompt's last block, heard of now: releases the prefill and learns from it where nothing better is heard.
    /// False: it had been released before.
    pub fn done(&self, now: Nanos) -> bool {
        self.endpoint.state.prompt_stored(self.sequence, now)
    }
}
