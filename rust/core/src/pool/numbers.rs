//! The numbers of an endpoint that every decision reads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::EngineMetrics;
use crate::Nanos;

/// Two cache lines for each endpoint, side by side: what it says and the load on it, then what the cost of a request is made of.
///
/// Floats are kept as their bits. The load (`requests`, `tokens`, `prefill_tokens`, `pending`) is only written under the lock of
/// `State::ledger`, each subtraction after its addition, so a reader never sees it below zero.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Numbers {
    waiting: AtomicU64,
    running: AtomicU64,
    kv_usage: AtomicU64,
    /// When the metrics were last refreshed; 0: never.
    pub(super) refreshed: AtomicU64,
    /// Nanoseconds until the next page that the scraper announced, because nothing happens there.
    pub(super) pause: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) prefill_tokens: AtomicU64,
    /// Requests whose prefill is reserved and not yet released.
    pub(super) pending: AtomicU64,
    /// Uncached tokens ever reserved, and those that the last page may know of.
    pub(super) sent: AtomicU64,
    sent_at_page: AtomicU64,
    kv_tokens: AtomicU64,
    prefill_gap: AtomicU64,
    prefill_factor: AtomicU64,
    decode_factor: AtomicU64,
    slots: AtomicU64,
}

impl Default for Numbers {
    fn default() -> Self {
        let number = |value: f64| AtomicU64::new(value.to_bits());
        Self {
            waiting: number(0.0),
            running: number(0.0),
            kv_usage: number(0.0),
            refreshed: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            prefill_tokens: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            sent_at_page: AtomicU64::new(0),
            kv_tokens: number(0.0),
            prefill_gap: number(0.0),
            prefill_factor: number(1.0),
            decode_factor: number(1.0),
            slots: number(f64::INFINITY),
        }
    }
}

impl Numbers {
    pub(super) fn waiting(&self) -> f64 {
        float(&self.waiting)
    }

    pub(super) fn running(&self) -> f64 {
        float(&self.running)
    }

    pub(super) fn kv_usage(&self) -> f64 {
        float(&self.kv_usage)
    }

    /// Tokens that the engine's cache has room for; 0: unknown.
    pub(super) fn kv_tokens(&self) -> f64 {
        float(&self.kv_tokens)
    }

    /// d, seconds.
    pub(super) fn prefill_gap(&self) -> f64 {
        float(&self.prefill_gap)
    }

    pub(super) fn prefill_factor(&self) -> f64 {
        float(&self.prefill_factor)
    }

    pub(super) fn decode_factor(&self) -> f64 {
        float(&self.decode_factor)
    }

    /// Requests that the engine runs at once; infinite while no limit has shown.
    pub(super) fn slots(&self) -> f64 {
        float(&self.slots)
    }

    pub(super) fn store_slots(&self, slots: f64) {
        store(&self.slots, slots);
    }

    /// Uncached tokens reserved since the page in force was asked for.
    pub(super) fn sent_since_page(&self) -> u64 {
        let sent = self.sent.load(Ordering::Relaxed);
        sent.saturating_sub(self.sent_at_page.load(Ordering::Relaxed))
    }

    /// When the page in force was read, or when the scraper that pauses will read the next; zero: there is none.
    pub(super) fn page_at(&self) -> Nanos {
        match self.refreshed.load(Ordering::Relaxed) {
            0 => Nanos(0),
            nanos => Nanos(nanos.saturating_add(self.pause.load(Ordering::Relaxed))),
        }
    }

    pub(super) fn store_metrics(&self, metrics: &EngineMetrics) {
        let known = |value: Option<f64>| value.unwrap_or(0.0);
        store(&self.waiting, known(metrics.waiting));
        store(&self.running, known(metrics.running));
        store(&self.kv_usage, known(metrics.kv_usage));
        let blocks = f64::from(metrics.num_blocks.unwrap_or(0));
        let block_size = f64::from(metrics.block_size.unwrap_or(0));
        store(&self.kv_tokens, blocks * block_size);
    }

    /// A page was read that was asked for when `sent` tokens had been reserved.
    pub(super) fn store_page(&self, sent: u64, now: Nanos) {
        self.sent_at_page.store(sent, Ordering::Relaxed);
        self.refreshed.store(now.0.max(1), Ordering::Relaxed);
    }

    pub(super) fn store_pace(&self, prefill_gap: f64, (prefill_factor, decode_factor): (f64, f64)) {
        store(&self.prefill_gap, prefill_gap);
        store(&self.prefill_factor, prefill_factor);
        store(&self.decode_factor, decode_factor);
    }
}

fn float(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Ordering::Relaxed))
}

fn store(bits: &AtomicU64, value: f64) {
    bits.store(value.to_bits(), Ordering::Relaxed);
}
