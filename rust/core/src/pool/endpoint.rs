//! One endpoint: who it is, what its engine last said, and the load reserved on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::Nanos;

/// Who an endpoint is: one (address, port) that serves the model; a pod with several target ports is several endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointIdentity {
    /// Kubernetes-style namespace, `default` where discovery has none.
    pub namespace: Box<str>,
    /// Name, unique within the namespace.
    pub name: Box<str>,
    /// IP address of the model server.
    pub address: IpAddr,
    /// Port of the model server.
    pub port: u16,
    /// `host:port` where the metrics page is served, when it differs from the endpoint's own.
    pub metrics_host: Option<Box<str>>,
    /// Labels, as a pod has them.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// What an engine's metrics page last said. `None`: the page did not carry the series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineMetrics {
    /// Requests waiting in the engine's queue.
    pub waiting: Option<f64>,
    /// Requests running.
    pub running: Option<f64>,
    /// KV cache usage, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Tokens per KV block.
    pub block_size: Option<u32>,
    /// KV blocks on the accelerator (`num_gpu_blocks`).
    pub num_blocks: Option<u32>,
    /// LoRA adapters with a running request.
    pub running_adapters: Vec<Box<str>>,
    /// LoRA adapters with only waiting requests.
    pub waiting_adapters: Vec<Box<str>>,
    /// How many adapters fit at once.
    pub max_adapters: Option<u32>,
    /// First tokens produced since the engine started (a counter): drains the reserved prefill.
    pub first_tokens: Option<f64>,
}

/// A live endpoint. Shared by snapshots, so its load survives a change of the pool.
#[derive(Debug)]
pub struct Endpoint {
    /// Who it is.
    pub identity: EndpointIdentity,
    /// `address:port`, IPv6 bracketed: the form of the destination header.
    pub authority: Box<str>,
    /// Dense number, unique among live endpoints, reused after removal: the row in the prefix index.
    pub slot: u32,
    /// What the engine last said; default until the first page.
    pub metrics: ArcSwap<EngineMetrics>,
    /// When `metrics` was last refreshed; 0: never.
    pub(super) refreshed: AtomicU64,
    /// Requests in flight through this picker.
    pub(super) requests: AtomicI64,
    /// Uncached prompt tokens of requests in flight.
    pub(super) tokens: AtomicI64,
    /// Uncached prompt tokens of requests that have no first token yet (P of `policy.md`).
    pub(super) prefill_tokens: AtomicI64,
    /// The same, request by request in order of arrival, for engines whose counters tell only how many got a first token.
    pub(super) prefills: Mutex<VecDeque<PendingPrefill>>,
}

/// One request's prefill that has been reserved and not yet released.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingPrefill {
    pub(super) sequence: u64,
    pub(super) tokens: u32,
}

impl Endpoint {
    /// When the metrics were last refreshed, if ever.
    pub fn refreshed(&self) -> Option<Nanos> {
        match self.refreshed.load(std::sync::atomic::Ordering::Relaxed) {
            0 => None,
            nanos => Some(Nanos(nanos)),
        }
    }

    /// Requests in flight through this picker.
    pub fn inflight_requests(&self) -> u64 {
        self.requests.load(std::sync::atomic::Ordering::Relaxed).max(0) as u64
    }

    /// Uncached prompt tokens of requests in flight.
    pub fn inflight_tokens(&self) -> u64 {
        self.tokens.load(std::sync::atomic::Ordering::Relaxed).max(0) as u64
    }

    /// Uncached prompt tokens reserved and not yet prefilled.
    pub fn prefill_tokens(&self) -> u64 {
        self.prefill_tokens.load(std::sync::atomic::Ordering::Relaxed).max(0) as u64
    }
}

/// Shared handle.
pub type SharedEndpoint = Arc<Endpoint>;
