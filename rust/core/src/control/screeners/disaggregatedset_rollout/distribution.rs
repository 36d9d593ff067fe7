//! How many endpoints of each role each revision has, and the share of requests that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::plugin::LabelSelector;
use crate::pool::{Endpoint, Snapshot};

/// What is counted, and how it is weighed.
#[derive(Debug)]
pub(super) struct Gating {
    /// Endpoints that count.
    pub(super) scope: LabelSelector,
    pub(super) revision_label: Box<str>,
    pub(super) role_label: Box<str>,
    /// A revision without an endpoint in one of them gets no requests; not empty.
    pub(super) roles: Vec<Box<str>>,
    pub(super) weight: Weight,
}

/// What a revision's share is proportional to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Its endpoints in all required roles.
    Sum,
    /// Its endpoints in the role that has most of them over all complete revisions; the first of `roles` among equals.
    MaxRole,
}

impl Weight {
    /// As the configuration writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::MaxRole => "max-role",
        }
    }
}

/// One revision.
#[derive(Debug, PartialEq)]
pub(super) struct Revision {
    pub(super) name: Arc<str>,
    /// 0 to 1; 0 where a required role is missing.
    pub(super) share: f64,
}

/// The revisions of one set of endpoints.
#[derive(Debug)]
pub(super) struct Distribution {
    /// Kept to tell whether they are still the same.
    endpoints: Vec<Arc<Endpoint>>,
    /// By name.
    pub(super) revisions: Vec<Revision>,
    /// For each endpoint of the snapshot, the place of its revision; `None`: it has none that counts.
    pub(super) revision_of: Vec<Option<u32>>,
}

impl Distribution {
    pub(super) fn new(gating: &Gating, snapshot: &Snapshot) -> Self {
        let label = |endpoint: &Endpoint, key: &str| -> Option<Box<str>> {
            let value = endpoint.identity.labels.get(key)?;
            (!value.is_empty()).then(|| value.clone())
        };
        // Endpoints in each required role, by revision.
        let mut counts: BTreeMap<Box<str>, Vec<u64>> = BTreeMap::new();
        for endpoint in &snapshot.endpoints {
            if !gating.scope.matches(&endpoint.identity.labels) {
                continue;
            }
            let revision = label(endpoint, &gating.revision_label);
            let (Some(revision), Some(role)) = (revision, label(endpoint, &gating.role_label))
            else {
                continue;
            };
            let counts = counts
                .entry(revision)
                .or_insert_with(|| vec![0; gating.roles.len()]);
            if let Some(place) = gating.roles.iter().position(|known| *known == role) {
                counts[place] += 1;
            }
        }
        let weights = weigh(gating, &counts);
        let total: u64 = weights.iter().sum();
        let revisions: Vec<Revision> = counts
            .keys()
            .zip(weights)
            .map(|(name, weight)| Revision {
                name: name.as_ref().into(),
                share: if total == 0 {
                    0.0
                } else {
                    weight as f64 / total as f64
                },
            })
            .collect();
        let place = |endpoint: &Arc<Endpoint>| {
            let name = endpoint.identity.labels.get(&gating.revision_label)?;
            let place = revisions.binary_search_by(|revision| (*revision.name).cmp(name));
            place.ok().map(|place| place as u32)
        };
        Self {
            revision_of: snapshot.endpoints.iter().map(place).collect(),
            endpoints: snapshot.endpoints.clone(),
            revisions,
        }
    }

    /// Whether it was made of just these endpoints: any change of one makes another object.
    pub(super) fn is_of(&self, snapshot: &Snapshot) -> bool {
        let pairs = || self.endpoints.iter().zip(&snapshot.endpoints);
        self.endpoints.len() == snapshot.endpoints.len()
            && pairs().all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

/// The weight of each revision, in the order of `counts`.
fn weigh(gating: &Gating, counts: &BTreeMap<Box<str>, Vec<u64>>) -> Vec<u64> {
    let complete = |counts: &[u64]| !counts.contains(&0);
    let mut totals = vec![0; gating.roles.len()];
    for counts in counts.values().filter(|counts| complete(counts)) {
        for (total, count) in totals.iter_mut().zip(counts) {
            *total += count;
        }
    }
    let most = totals.iter().max();
    let largest = totals.iter().position(|total| Some(total) == most);
    counts
        .values()
        .map(|counts| match (complete(counts), gating.weight, largest) {
            (true, Weight::Sum, _) => counts.iter().sum(),
            (true, Weight::MaxRole, Some(role)) => counts[role],
            _ => 0,
        })
        .collect()
}
