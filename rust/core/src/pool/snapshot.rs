//! The set of live endpoints: one writer's table behind a snapshot that decisions read without a lock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::endpoint::{Endpoint, EndpointIdentity, State};
use crate::learn::Rates;
use crate::schedule::{Candidates, PrefixColumn, gather_columns};

/// Slots are `0..SLOT_LIMIT`: no more endpoints than this are live at once.
pub const SLOT_LIMIT: u32 = 65_535;

/// The pool holds `SLOT_LIMIT` endpoints already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFull;

impl fmt::Display for PoolFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the pool is full: it holds {SLOT_LIMIT} endpoints; remove some or use a second pool"
        )
    }
}

impl std::error::Error for PoolFull {}

/// A slot began or ceased to name an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotChange {
    /// The slot names a new endpoint, which no request has seen yet.
    Taken(u32),
    /// The slot's endpoint is gone; the slot may be taken again.
    Freed(u32),
}

type SlotHook = Box<dyn Fn(SlotChange) + Send + Sync>;
type Key = (Box<str>, Box<str>);

/// The endpoints that discovery found. Written by one sink at a time, read by every decision.
pub struct Pool {
    rates: Arc<Rates>,
    snapshot: ArcSwap<Snapshot>,
    table: Mutex<Table>,
    generation: AtomicU64,
    refused: AtomicU64,
    synced: AtomicBool,
    hook: OnceLock<SlotHook>,
}

#[derive(Default)]
struct Table {
    endpoints: BTreeMap<Key, Arc<Endpoint>>,
    /// Freed slots, the one longest free first: an index entry that a late request left behind has time to age.
    free: VecDeque<u32>,
    /// Slots below this were given out.
    used: u32,
}

impl Pool {
    /// An empty pool, not yet synced.
    pub fn new() -> Self {
        let rates = Arc::new(Rates::new());
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::new(Vec::new(), &rates)),
            rates,
            table: Mutex::default(),
            generation: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            hook: OnceLock::new(),
        }
    }

    /// Calls `hook` at each change of a slot, in order, before the snapshot shows it. Only the first hook counts; false for a later one.
    /// The hook must not call the pool.
    pub fn on_slot_change(&self, hook: impl Fn(SlotChange) + Send + Sync + 'static) -> bool {
        self.hook.set(Box::new(hook)).is_ok()
    }

    /// Adds an endpoint or changes it (same namespace and name). An unchanged one stays as it is, a change of labels or of the metrics
    /// address keeps slot, load and metrics, a change of address or port makes a new endpoint in a new slot.
    ///
    /// # Errors
    /// `PoolFull` when no slot is left; the pool stays as it was.
    pub fn try_upsert(&self, identity: EndpointIdentity) -> Result<Arc<Endpoint>, PoolFull> {
        let mut table = self.table.lock();
        let key = (identity.namespace.clone(), identity.name.clone());
        let endpoint = match table.endpoints.get(&key) {
            Some(known) if known.identity == identity => return Ok(Arc::clone(known)),
            Some(known)
                if (known.identity.address, known.identity.port)
                    == (identity.address, identity.port) =>
            {
                known.relabelled(identity)
            }
            known => {
                let freed = known.map(|known| known.slot);
                // The old slot goes first, so that a full pool can still move an endpoint.
                if let Some(slot) = freed {
                    self.free_slot(&mut table, slot);
                }
                let slot = table.take_slot().ok_or(PoolFull)?;
                self.tell(SlotChange::Taken(slot));
                Endpoint::new(identity, slot, &self.rates)
            }
        };
        let endpoint = Arc::new(endpoint);
        table.endpoints.insert(key, Arc::clone(&endpoint));
        self.publish(&table);
        Ok(endpoint)
    }

    /// As `try_upsert`; when the pool is full the endpoint is returned but stays out of the pool (slot `SLOT_LIMIT`, which no snapshot
    /// shows), and `refused` counts it.
    pub fn upsert(&self, identity: EndpointIdentity) -> Arc<Endpoint> {
        self.try_upsert(identity.clone())
            .unwrap_or_else(|PoolFull| {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Arc::new(Endpoint::new(identity, SLOT_LIMIT, &self.rates))
            })
    }

    /// Endpoints that `upsert` left out because the pool was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The endpoint of that name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Endpoint>> {
        let key = (Box::from(namespace), Box::from(name));
        self.table.lock().endpoints.get(&key).map(Arc::clone)
    }

    /// Removes an endpoint; false when it was not there. Requests in flight on it keep their reservation until they end.
    pub fn remove(&self, namespace: &str, name: &str) -> bool {
        let mut table = self.table.lock();
        let Some(endpoint) = table.endpoints.remove(&(namespace.into(), name.into())) else {
            return false;
        };
        self.free_slot(&mut table, endpoint.slot);
        self.publish(&table);
        true
    }

    /// What requests cost here, learnt from them.
    pub fn rates(&self) -> &Arc<Rates> {
        &self.rates
    }

    /// The live endpoints now, to keep for as long as a request needs them.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The live endpoints now, for a short look: cheaper than `snapshot`.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Grows with each change of the set: a follower compares it instead of the set.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Discovery has delivered its first full set, or lost it.
    pub fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Release);
    }

    /// Whether discovery has delivered its first full set.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    fn free_slot(&self, table: &mut Table, slot: u32) {
        table.free.push_back(slot);
        self.tell(SlotChange::Freed(slot));
    }

    fn tell(&self, change: SlotChange) {
        if let Some(hook) = self.hook.get() {
            hook(change);
        }
    }

    fn publish(&self, table: &Table) {
        self.rates.set_endpoints(table.endpoints.len());
        self.snapshot.store(Arc::new(Snapshot::new(
            table.endpoints.values().cloned().collect(),
            &self.rates,
        )));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("generation", &self.generation())
            .field("synced", &self.is_synced())
            .finish_non_exhaustive()
    }
}

impl Table {
    /// A fresh slot while few were used, so that slots stay dense only as far as needed; freed ones otherwise.
    fn take_slot(&mut self) -> Option<u32> {
        self.free.pop_front().or_else(|| {
            let fresh = (self.used < SLOT_LIMIT).then_some(self.used)?;
            self.used += 1;
            Some(fresh)
        })
    }
}

/// The live endpoints at one moment, ordered by namespace and name. Positions are indexes into `endpoints`.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The same, reduced to what `gather` reads: one pointer to follow instead of two.
    rows: Vec<(Arc<State>, u32)>,
    rates: Arc<Rates>,
    /// Built when first asked for: most snapshots of a pool that is just being filled are never looked into.
    lookup: OnceLock<Lookup>,
}

#[derive(Debug, Default)]
struct Lookup {
    by_authority: HashMap<SocketAddr, SmallVec<[u32; 1]>>,
    by_address: HashMap<IpAddr, SmallVec<[u32; 4]>>,
}

impl Snapshot {
    fn new(endpoints: Vec<Arc<Endpoint>>, rates: &Arc<Rates>) -> Self {
        let rows = endpoints
            .iter()
            .map(|endpoint| (Arc::clone(&endpoint.state), endpoint.slot))
            .collect();
        Self {
            endpoints,
            rows,
            rates: Arc::clone(rates),
            lookup: OnceLock::new(),
        }
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// True when no endpoint is live.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The endpoint at `authority` (`ip:port`, IPv6 bracketed); the first by name where several share it.
    pub fn by_authority(&self, authority: &str) -> Option<&Arc<Endpoint>> {
        let address = canonical(authority.parse().ok()?);
        let position = self.lookup().by_authority.get(&address)?.first()?;
        self.endpoints.get(*position as usize)
    }

    /// Positions of the endpoints at an IP address, whatever their ports.
    pub fn by_address(&self, address: IpAddr) -> &[u32] {
        self.lookup()
            .by_address
            .get(&address.to_canonical())
            .map_or(&[], SmallVec::as_slice)
    }

    /// Positions that a subset hint allows, ascending and distinct. An entry is `ip:port`, `ip`, `[v6]:port`, `[v6]` or `v6`.
    ///
    /// An entry with a port means the endpoints with exactly that authority; where there is none it means all endpoints of that IP, which
    /// is how the reference reads every entry (gateways that know a pod by another port than the picker still get their pods).
    /// Entries that are no addresses mean nothing.
    pub fn subset(&self, hint: &[Box<str>]) -> Vec<u32> {
        let lookup = self.lookup();
        let mut positions = Vec::with_capacity(hint.len());
        for entry in hint {
            let entry = entry.trim();
            if let Ok(authority) = entry.parse::<SocketAddr>() {
                match lookup.by_authority.get(&canonical(authority)) {
                    Some(exact) => positions.extend_from_slice(exact),
                    None => positions.extend_from_slice(self.by_address(authority.ip())),
                }
            } else if let Ok(address) = entry
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<IpAddr>()
            {
                positions.extend_from_slice(self.by_address(address));
            }
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// Fills `out` with one row for each of `positions` (all endpoints when `None`; positions out of range are left out).
    /// `prefixes` are by slot; slots beyond the end of a column hold nothing.
    /// In-flight tokens are, as in the reference, those without a first token, or with an output estimate (`to_the_end`) those of all requests.
    pub fn gather(
        &self,
        positions: Option<&[u32]>,
        prefixes: &[PrefixColumn],
        to_the_end: bool,
        out: &mut Candidates,
    ) {
        out.position.clear();
        match positions {
            Some(positions) => out.position.extend(
                positions
                    .iter()
                    .filter(|position| (**position as usize) < self.rows.len()),
            ),
            None => out.position.extend(0..self.rows.len() as u32),
        }
        let count = out.position.len();
        for column in [
            &mut out.waiting,
            &mut out.running,
            &mut out.kv_usage,
            &mut out.inflight_requests,
            &mut out.inflight_tokens,
            &mut out.prefill_tokens,
            &mut out.pending_prefills,
            &mut out.prefill_gap,
            &mut out.prefill_factor,
            &mut out.decode_factor,
            &mut out.slots,
            &mut out.sent_since_page,
            &mut out.kv_tokens,
        ] {
            column.clear();
            column.reserve(count);
        }
        out.page_at.clear();
        out.page_at.reserve(count);
        out.media_matched.clear();
        out.curve = self.rates.curve();
        for position in &out.position {
            let numbers = &self.rows[*position as usize].0.numbers;
            out.waiting.push(numbers.waiting());
            out.running.push(numbers.running());
            out.kv_usage.push(numbers.kv_usage());
            out.inflight_requests
                .push(numbers.requests.load(Ordering::Relaxed) as f64);
            let prefill_tokens = numbers.prefill_tokens.load(Ordering::Relaxed) as f64;
            out.inflight_tokens.push(if to_the_end {
                numbers.tokens.load(Ordering::Relaxed) as f64
            } else {
                prefill_tokens
            });
            out.prefill_tokens.push(prefill_tokens);
            out.pending_prefills
                .push(numbers.pending.load(Ordering::Relaxed) as f64);
            out.prefill_gap.push(numbers.prefill_gap());
            out.prefill_factor.push(numbers.prefill_factor());
            out.decode_factor.push(numbers.decode_factor());
            out.slots.push(numbers.slots());
            out.sent_since_page.push(numbers.sent_since_page() as f64);
            out.kv_tokens.push(numbers.kv_tokens());
            out.page_at.push(numbers.page_at());
        }
        let Candidates {
            position,
            prefixes: columns,
            ..
        } = out;
        let slots = position.iter();
        let slots = slots.map(|position| self.rows[*position as usize].1);
        gather_columns(prefixes, &slots, columns);
    }

    fn lookup(&self) -> &Lookup {
        self.lookup.get_or_init(|| {
            let mut lookup = Lookup::default();
            for (position, endpoint) in self.endpoints.iter().enumerate() {
                let address = endpoint.identity.address.to_canonical();
                lookup
                    .by_authority
                    .entry(SocketAddr::new(address, endpoint.identity.port))
                    .or_default()
                    .push(position as u32);
                lookup
                    .by_address
                    .entry(address)
                    .or_default()
                    .push(position as u32);
            }
            lookup
        })
    }
}

/// One form for an IPv4 address however it is written; scope and flow of an IPv6 address do not count.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nanos;
    use crate::pool::{EngineMetrics, Reservation};

    fn identity(name: &str, authority: &str) -> EndpointIdentity {
        let address: SocketAddr = authority.parse().expect("an authority");
        EndpointIdentity {
            namespace: "default".into(),
            name: name.into(),
            address: address.ip(),
            port: address.port(),
            metrics_host: None,
            labels: BTreeMap::new(),
        }
    }

    fn hint(entries: &[&str]) -> Vec<Box<str>> {
        entries.iter().map(|entry| (*entry).into()).collect()
    }

    #[test]
    fn an_unchanged_endpoint_is_kept() {
        let pool = Pool::new();
        let first = pool.upsert(identity("a", "10.0.0.1:8000"));
        let generation = pool.generation();
        assert!(Arc::ptr_eq(
            &first,
            &pool.upsert(identity("a", "10.0.0.1:8000"))
        ));
        assert_eq!(pool.generation(), generation);
    }

    #[test]
    fn new_labels_keep_slot_load_and_metrics() {
        let pool = Pool::new();
        let before = pool.upsert(identity("a", "10.0.0.1:8000"));
        let reservation = Reservation::reserve(&before, 5, 0, Nanos(0));
        before.refresh(
            EngineMetrics {
                waiting: Some(3.0),
                ..EngineMetrics::default()
            },
            Nanos(1),
        );
        let mut labelled = identity("a", "10.0.0.1:8000");
        labelled.labels.insert("gpu".into(), "h100".into());
        let after = pool.upsert(labelled);
        assert_eq!(
            (
                after.slot,
                after.inflight_requests(),
                after.metrics.load().waiting
            ),
            (before.slot, 1, Some(3.0))
        );
        drop(reservation);
        assert_eq!(after.inflight_requests(), 0);
    }

    #[test]
    fn a_new_address_is_a_new_endpoint() {
        let pool = Pool::new();
        let before = pool.upsert(identity("a", "10.0.0.1:8000"));
        let _reservation = Reservation::reserve(&before, 5, 0, Nanos(0));
        let after = pool.upsert(identity("a", "10.0.0.2:8000"));
        assert_eq!((after.inflight_requests(), pool.snapshot().len()), (0, 1));
        assert!(pool.snapshot().by_authority("10.0.0.1:8000").is_none());
    }

    #[test]
    fn slots_are_dense_and_reused_and_the_hook_hears_of_it() {
        let pool = Pool::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&heard);
        assert!(pool.on_slot_change(move |change| listener.lock().push(change)));
        pool.upsert(identity("a", "10.0.0.1:8000"));
        pool.upsert(identity("b", "10.0.0.2:8000"));
        assert!(pool.remove("default", "a"));
        assert!(!pool.remove("default", "a"));
        assert_eq!(pool.upsert(identity("c", "10.0.0.3:8000")).slot, 0);
        assert_eq!(
            *heard.lock(),
            [
                SlotChange::Taken(0),
                SlotChange::Taken(1),
                SlotChange::Freed(0),
                SlotChange::Taken(0)
            ]
        );
    }

    #[test]
    fn a_full_pool_refuses_and_counts() {
        let pool = Pool::new();
        pool.table.lock().used = SLOT_LIMIT;
        assert_eq!(
            pool.try_upsert(identity("a", "10.0.0.1:8000"))
                .expect_err("a full pool"),
            PoolFull
        );
        assert_eq!(pool.upsert(identity("a", "10.0.0.1:8000")).slot, SLOT_LIMIT);
        assert_eq!((pool.refused(), pool.snapshot().len()), (1, 0));
    }

    #[test]
    fn subset_entries_match_by_authority_then_by_address() {
        let pool = Pool::new();
        for (name, authority) in [
            ("a", "10.0.0.1:8000"),
            ("b", "10.0.0.1:8001"),
            ("c", "10.0.0.2:8000"),
            ("d", "[fd00::1]:8000"),
        ] {
            pool.upsert(identity(name, authority));
        }
        let snapshot = pool.snapshot();
        for (entries, positions) in [
            (vec!["10.0.0.1:8001"], vec![1]),
            (vec!["10.0.0.1:9999"], vec![0, 1]),
            (vec!["10.0.0.1"], vec![0, 1]),
            (vec!["[fd00::1]:8000"], vec![3]),
            (vec!["[fd00:0::1]"], vec![3]),
            (vec!["fd00::1"], vec![3]),
            (vec!["::ffff:10.0.0.2"], vec![2]),
            (
                vec!["10.0.0.2:8000", " 10.0.0.1:8000 ", "10.0.0.2"],
                vec![0, 2],
            ),
            (vec!["", "no address", "10.9.9.9:8000"], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(snapshot.subset(&hint(&entries)), positions, "{entries:?}");
        }
    }

    #[test]
    fn gather_fills_each_column_for_the_chosen_positions() {
        let pool = Pool::new();
        pool.upsert(identity("a", "10.0.0.1:8000"));
        let second = pool.upsert(identity("b", "10.0.0.2:8000"));
        let metrics = EngineMetrics {
            waiting: Some(2.0),
            running: Some(4.0),
            kv_usage: Some(0.5),
            block_size: Some(16),
            num_blocks: Some(100),
            ..EngineMetrics::default()
        };
        second.metrics.store(Arc::new(metrics));
        let mut reservation = Reservation::reserve(&second, 70, 0, Nanos(0));
        let _other = Reservation::reserve(&second, 30, 0, Nanos(0));
        reservation.release_prefill();
        let mut out = Candidates::default();
        let prefix = |blocks: &[u32]| PrefixColumn {
            blocks: blocks.to_vec(),
            ..PrefixColumn::default()
        };
        pool.load().gather(None, &[prefix(&[0])], true, &mut out);
        assert_eq!(
            (out.position.as_slice(), out.prefixes[0].blocks.as_slice()),
            ([0, 1].as_slice(), [0, 0].as_slice())
        );
        let prefixes = [prefix(&[9, 8]), prefix(&[7, 6])];
        pool.load().gather(Some(&[1, 7]), &prefixes, true, &mut out);
        let rows = (
            out.waiting[0],
            out.running[0],
            out.kv_usage[0],
            out.inflight_requests[0],
            out.inflight_tokens[0],
            out.prefill_tokens[0],
        );
        assert_eq!(rows, (2.0, 4.0, 0.5, 2.0, 100.0, 30.0));
        let rows = (
            out.pending_prefills[0],
            out.sent_since_page[0],
            out.kv_tokens[0],
            out.prefill_factor[0],
            out.decode_factor[0],
            out.prefill_gap[0],
            out.page_at[0],
        );
        assert_eq!(rows, (1.0, 100.0, 1600.0, 1.0, 1.0, 0.0, Nanos(0)));
        assert_eq!(out.curve, pool.rates().curve());
        assert_eq!((out.len(), out.prefixes[0].blocks[0]), (1, 8));
        assert_eq!(out.prefixes[1].blocks, [6]);
    }
}
