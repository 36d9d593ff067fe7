//! `_core.KvEvents`: from the sockets of `warmroute.kv_events` to the engine's exact index.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use warmroute_core::kv_events::{Engine as Form, KvEvents as Events, PublisherId, Received};
use warmroute_core::pool::{Endpoint, Pool};

/// Slot, incarnation, namespace, name, address, port and labels of an endpoint.
type Row = (
    u32,
    u64,
    String,
    String,
    String,
    u16,
    BTreeMap<String, String>,
);

/// What publishers say, on its way into the engine.
#[pyclass(frozen, module = "warmroute._core")]
pub(crate) struct KvEvents {
    engine: Arc<warmroute_core::Engine>,
    servers: Mutex<Servers>,
}

impl KvEvents {
    pub(crate) fn new(engine: Arc<warmroute_core::Engine>) -> Self {
        Self {
            engine,
            servers: Mutex::default(),
        }
    }

    fn events(&self) -> &Events {
        self.engine.kv_events()
    }

    /// Whether the publisher's endpoint is still the one that it was opened for: between a change of the pool and the moment at which the
    /// sockets follow it, messages of the server that left must not count for the one that has its slot now.
    fn is_current(&self, publisher: u64) -> bool {
        let mut servers = self.servers.lock();
        servers.follow(self.engine.pool());
        servers.is_current(publisher)
    }
}

#[pymethods]
impl KvEvents {
    fn pool_generation(&self) -> u64 {
        self.engine.pool().generation()
    }

    fn pool(&self, py: Python<'_>) -> Vec<Row> {
        // Nobody may wait for the GIL and hold the lock, or the other way round.
        py.detach(|| {
            let mut servers = self.servers.lock();
            servers.follow(self.engine.pool());
            servers.rows()
        })
    }

    fn open(
        &self,
        py: Python<'_>,
        slot: u32,
        incarnation: u64,
        pod: &str,
        rank: u32,
        engine: &str,
    ) -> PyResult<Option<u64>> {
        let form = Form::named(engine).ok_or_else(|| {
            PyValueError::new_err(format!(
                "engine {engine:?} is not known; use vllm or sglang"
            ))
        })?;
        Ok(py.detach(|| {
            let mut servers = self.servers.lock();
            servers.follow(self.engine.pool());
            servers.has(slot, incarnation).then(|| {
                let publisher = self.events().open(slot, pod, rank, form).number();
                servers.publishers.insert(publisher, (slot, incarnation));
                publisher
            })
        }))
    }

    fn close(&self, py: Python<'_>, publisher: u64) {
        py.detach(|| {
            self.servers.lock().publishers.remove(&publisher);
            self.events().close(PublisherId::from_number(publisher));
        });
    }

    #[pyo3(signature = (publisher, *, connected))]
    fn connected(&self, py: Python<'_>, publisher: u64, connected: bool) {
        py.detach(|| {
            self.events()
                .connected(PublisherId::from_number(publisher), connected);
        });
    }

    fn join(&self, py: Python<'_>, publisher: u64) -> Option<u64> {
        py.detach(|| wanted(self.events().join(PublisherId::from_number(publisher))))
    }

    fn receive(
        &self,
        py: Python<'_>,
        publisher: u64,
        topic: &[u8],
        sequence: &[u8],
        payload: &[u8],
    ) -> Option<u64> {
        py.detach(|| {
            if !self.is_current(publisher) {
                return None;
            }
            let publisher = PublisherId::from_number(publisher);
            wanted(self.events().receive(publisher, topic, sequence, payload))
        })
    }

    fn replayed(&self, py: Python<'_>, publisher: u64, sequence: &[u8], payload: &[u8]) {
        py.detach(|| {
            if self.is_current(publisher) {
                self.events()
                    .replayed(PublisherId::from_number(publisher), sequence, payload);
            }
        });
    }

    #[pyo3(signature = (publisher, *, complete))]
    fn replay_ended(&self, py: Python<'_>, publisher: u64, complete: bool) -> Option<u64> {
        py.detach(|| {
            if !self.is_current(publisher) {
                return None;
            }
            wanted(
                self.events()
                    .replay_ended(PublisherId::from_number(publisher), complete),
            )
        })
    }

    fn reconnected(&self, publisher: u64) {
        self.events()
            .reconnected(PublisherId::from_number(publisher));
    }

    fn socket_error(&self, publisher: u64, operation: &str) {
        self.events()
            .socket_error(PublisherId::from_number(publisher), operation);
    }
}

/// Where a replay has to start, if one is wanted.
fn wanted(received: Received) -> Option<u64> {
    match received {
        Received::Replay { from } => Some(from),
        Received::Applied | Received::Held | Received::Ignored => None,
    }
}

/// Who has which slot: each server that ever had one gets a number of its own.
#[derive(Default)]
struct Servers {
    generation: Option<u64>,
    by_slot: HashMap<u32, (u64, Arc<Endpoint>)>,
    last: u64,
    /// Publisher to the slot and the server that it was opened for.
    publishers: HashMap<u64, (u32, u64)>,
}

impl Servers {
    /// Looks at the pool if it has changed.
    fn follow(&mut self, pool: &Pool) {
        // Read first: a change in between is seen by the next look.
        let generation = pool.generation();
        if self.generation == Some(generation) {
            return;
        }
        let snapshot = pool.snapshot();
        let mut before = std::mem::take(&mut self.by_slot);
        for endpoint in &snapshot.endpoints {
            let known = before.remove(&endpoint.slot);
            // The one before is kept until now, so that no new server can look like it.
            let incarnation = match known {
                Some((incarnation, known)) if known.is_same_server(endpoint) => incarnation,
                _ => {
                    self.last += 1;
                    self.last
                }
            };
            self.by_slot
                .insert(endpoint.slot, (incarnation, Arc::clone(endpoint)));
        }
        self.generation = Some(generation);
    }

    fn has(&self, slot: u32, incarnation: u64) -> bool {
        self.by_slot
            .get(&slot)
            .is_some_and(|(current, _)| *current == incarnation)
    }

    fn is_current(&self, publisher: u64) -> bool {
        self.publishers
            .get(&publisher)
            .is_some_and(|(slot, incarnation)| self.has(*slot, *incarnation))
    }

    fn rows(&self) -> Vec<Row> {
        let row = |(slot, (incarnation, endpoint)): (&u32, &(u64, Arc<Endpoint>))| {
            let identity = &endpoint.identity;
            let labels = identity.labels.iter();
            (
                *slot,
                *incarnation,
                identity.namespace.to_string(),
                identity.name.to_string(),
                identity.address.to_string(),
                identity.port,
                labels
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect(),
            )
        };
        self.by_slot.iter().map(row).collect()
    }
}
