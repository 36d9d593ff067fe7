//! The numbers by which the lines of a recording name endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::Serialize;

use crate::pool::{Endpoint, EndpointIdentity, Snapshot};

/// An endpoint as a line introduces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Its number, for ever: one that changed its address or labels is another.
    index: u32,
    namespace: Box<str>,
    name: Box<str>,
    /// `ip:port`.
    address: Box<str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<Box<str>, Box<str>>,
}

/// Those that lines have introduced. No longer than the file that they stand in.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    known: HashMap<Identity, u32>,
    /// The pool that was seen last, and the numbers of its endpoints.
    last: Option<(Arc<Snapshot>, Vec<u32>)>,
}

type Identity = (Box<str>, Box<str>, Box<str>, Vec<(Box<str>, Box<str>)>);

impl Endpoints {
    /// Numbers all of a pool; gives those that are new.
    pub(super) fn enter(&mut self, snapshot: &Arc<Snapshot>) -> Vec<Row> {
        let seen = self.last.as_ref();
        if seen.is_some_and(|(last, _)| Arc::ptr_eq(last, snapshot)) {
            return Vec::new();
        }
        let mut rows = Vec::new();
        let numbers = snapshot.endpoints.iter();
        let numbers = numbers.map(|endpoint| self.number(endpoint, &mut rows));
        let numbers = numbers.collect();
        self.last = Some((Arc::clone(snapshot), numbers));
        rows
    }

    /// The number of the endpoint at a position of the pool that was entered last.
    pub(super) fn at(&self, position: u32) -> u32 {
        let numbers = self.last.as_ref().map(|(_, numbers)| numbers);
        let number = numbers.and_then(|numbers| numbers.get(position as usize));
        number.copied().unwrap_or(u32::MAX)
    }

    /// The number of an endpoint; it is added to `rows` where it is new.
    pub(super) fn number(&mut self, endpoint: &Endpoint, rows: &mut Vec<Row>) -> u32 {
        let EndpointIdentity {
            namespace,
            name,
            labels,
            ..
        } = &endpoint.identity;
        let pairs = labels.iter();
        let identity = (
            namespace.clone(),
            name.clone(),
            endpoint.authority.clone(),
            pairs
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        );
        let next = self.known.len() as u32;
        *self.known.entry(identity).or_insert_with(|| {
            rows.push(Row {
                index: next,
                namespace: namespace.clone(),
                name: name.clone(),
                address: endpoint.authority.clone(),
                labels: labels.clone(),
            });
            next
        })
    }
}
