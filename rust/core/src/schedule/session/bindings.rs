//! Which endpoint each session is bound to, for as long as it is used: bounded in number and in time.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::Nanos;
use crate::pool::EndpointIdentity;

/// Sessions that are remembered, at about 150 bytes each; beyond that the one that was not used for longest is forgotten.
const MOST_BINDINGS: usize = 100_000;
/// Expired bindings that one sweep removes at most: it runs while a decision is made.
const SWEPT_AT_ONCE: usize = 256;

/// A session's id, hashed: clients choose ids, and their length must not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionKey(u128);

/// One request among those that are decided at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestKey(u64);

impl RequestKey {
    pub(super) fn new(request_id: &[u8]) -> Self {
        Self(xxh3_64(request_id))
    }
}

/// The bindings of one plugin.
#[derive(Debug)]
pub(super) struct Bindings {
    ttl: Duration,
    sweep_interval: Duration,
    most: usize,
    swept: Nanos,
    /// Of the hash of ids, so that nobody outside can aim at a session's key.
    seed: u64,
    by_session: HashMap<SessionKey, Binding>,
    /// The same, the one that was not used for longest first.
    by_age: BTreeSet<(Nanos, SessionKey)>,
}

#[derive(Debug)]
struct Binding {
    /// `namespace/name`.
    endpoint: Box<str>,
    last_used: Nanos,
    /// The last request that did not find the endpoint among its candidates: only that one may bind the session anew.
    missed_by: Option<RequestKey>,
}

impl Bindings {
    pub(super) fn new(ttl: Duration, sweep_interval: Duration) -> Self {
        Self {
            ttl,
            sweep_interval,
            most: MOST_BINDINGS,
            swept: Nanos(0),
            seed: fastrand::u64(..),
            by_session: HashMap::new(),
            by_age: BTreeSet::new(),
        }
    }

    pub(super) fn key(&self, session_id: &str) -> SessionKey {
        SessionKey(xxh3_128_with_seed(session_id.as_bytes(), self.seed))
    }

    /// What `find` makes of the endpoint (`namespace/name`) that the session is bound to; remembers whether this request found it.
    pub(super) fn look_up<R>(
        &mut self,
        session: SessionKey,
        request: RequestKey,
        now: Nanos,
        find: impl FnOnce(&str) -> Option<R>,
    ) -> Option<R> {
        let ttl = self.ttl;
        let binding = self
            .by_session
            .get_mut(&session)
            .filter(|binding| now - binding.last_used <= ttl)?;
        let found = find(&binding.endpoint);
        match (&found, binding.missed_by) {
            (None, _) => binding.missed_by = Some(request),
            (Some(_), Some(missed_by)) if missed_by == request => binding.missed_by = None,
            (Some(_), _) => {}
        }
        found
    }

    /// The request goes to `endpoint`. A session without a binding gets one, the same endpoint keeps it alive, and another endpoint replaces the one
    /// that this request did not find. Otherwise the picker merely preferred another one, and the session stays where it is.
    pub(super) fn commit(
        &mut self,
        session: SessionKey,
        request: RequestKey,
        now: Nanos,
        endpoint: &EndpointIdentity,
    ) {
        self.sweep(now);
        let ttl = self.ttl;
        match self.by_session.get_mut(&session) {
            Some(binding)
                if is_named(endpoint, &binding.endpoint)
                    || binding.missed_by == Some(request)
                    || now - binding.last_used > ttl =>
            {
                self.by_age.remove(&(binding.last_used, session));
                self.by_age.insert((now, session));
                if !is_named(endpoint, &binding.endpoint) {
                    binding.endpoint = full_name(endpoint);
                }
                binding.last_used = now;
                binding.missed_by = None;
            }
            Some(_) => {}
            None => {
                if self.by_session.len() >= self.most
                    && let Some((_, oldest)) = self.by_age.pop_first()
                {
                    self.by_session.remove(&oldest);
                }
                let binding = Binding {
                    endpoint: full_name(endpoint),
                    last_used: now,
                    missed_by: None,
                };
                self.by_session.insert(session, binding);
                self.by_age.insert((now, session));
            }
        }
    }

    fn sweep(&mut self, now: Nanos) {
        if now - self.swept < self.sweep_interval {
            return;
        }
        for _ in 0..SWEPT_AT_ONCE {
            let Some(&(last_used, session)) = self.by_age.first() else {
                break;
            };
            if now - last_used <= self.ttl {
                break;
            }
            self.by_age.pop_first();
            self.by_session.remove(&session);
        }
        // What is left over goes with the next request.
        let done = self
            .by_age
            .first()
            .is_none_or(|(last_used, _)| now - *last_used <= self.ttl);
        if done {
            self.swept = now;
        }
    }
}

/// `namespace/name`, as the reference writes an endpoint's id.
pub(super) fn full_name(endpoint: &EndpointIdentity) -> Box<str> {
    format!("{}/{}", endpoint.namespace, endpoint.name).into()
}

/// Whether that is the endpoint's `namespace/name`.
pub(super) fn is_named(endpoint: &EndpointIdentity, full_name: &str) -> bool {
    let name = full_name.strip_prefix(&*endpoint.namespace);
    name.and_then(|name| name.strip_prefix('/')) == Some(&endpoint.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn endpoint(name: &str) -> EndpointIdentity {
        EndpointIdentity {
            namespace: "ns".into(),
            name: name.into(),
            address: [10, 0, 0, 1].into(),
            port: 8000,
            metrics_host: None,
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn bindings(ttl: u64, sweep: u64) -> Bindings {
        Bindings::new(Duration::from_secs(ttl), Duration::from_secs(sweep))
    }

    fn bind(bindings: &mut Bindings, id: &str, now: u64, name: &str) {
        let key = bindings.key(id);
        bindings.commit(
            key,
            RequestKey::new(b"r"),
            Nanos(now * SECOND),
            &endpoint(name),
        );
    }

    fn bound(bindings: &mut Bindings, id: &str, now: u64) -> Option<String> {
        let key = bindings.key(id);
        let now = Nanos(now * SECOND);
        bindings.look_up(key, RequestKey::new(b"looks"), now, |name| {
            Some(name.to_owned())
        })
    }

    #[test]
    fn a_binding_lives_for_its_time_from_the_last_use() {
        let mut bindings = bindings(300, 10);
        bind(&mut bindings, "s", 1000, "a");
        assert_eq!(bound(&mut bindings, "s", 1300).as_deref(), Some("ns/a"));
        assert_eq!(bound(&mut bindings, "s", 1301), None);
        assert_eq!(bound(&mut bindings, "other", 1000), None);
        bind(&mut bindings, "s", 1200, "a");
        assert_eq!(bound(&mut bindings, "s", 1500).as_deref(), Some("ns/a"));
        // What has expired does not hold the session back.
        bind(&mut bindings, "s", 1501, "b");
        assert_eq!(bound(&mut bindings, "s", 1501).as_deref(), Some("ns/b"));
    }

    #[test]
    fn a_binding_changes_only_for_the_request_that_missed_its_endpoint() {
        let mut bindings = bindings(300, 10);
        bind(&mut bindings, "s", 0, "a");
        bind(&mut bindings, "s", 1, "b");
        assert_eq!(bound(&mut bindings, "s", 1).as_deref(), Some("ns/a"));
        let key = bindings.key("s");
        let (this, other) = (RequestKey::new(b"this"), RequestKey::new(b"other"));
        assert_eq!(
            bindings.look_up(key, this, Nanos(0), |_| None::<usize>),
            None
        );
        bindings.commit(key, other, Nanos(0), &endpoint("b"));
        assert_eq!(bound(&mut bindings, "s", 1).as_deref(), Some("ns/a"));
        bindings.commit(key, this, Nanos(0), &endpoint("b"));
        assert_eq!(bound(&mut bindings, "s", 1).as_deref(), Some("ns/b"));
        // The request that missed it once and finds it then has nothing to change.
        assert_eq!(
            bindings.look_up(key, this, Nanos(0), |_| None::<usize>),
            None
        );
        assert_eq!(bindings.look_up(key, this, Nanos(0), |_| Some(0)), Some(0));
        bindings.commit(key, this, Nanos(0), &endpoint("a"));
        assert_eq!(bound(&mut bindings, "s", 1).as_deref(), Some("ns/b"));
    }

    #[test]
    fn a_sweep_frees_what_expired_but_not_before_its_time() {
        let mut bindings = bindings(5, 10);
        for number in 0..1000 {
            bind(&mut bindings, &number.to_string(), 0, "a");
        }
        bind(&mut bindings, "late", 9, "a");
        assert_eq!(bindings.by_session.len(), 1001, "not due yet");
        for turn in 1..=4 {
            bind(&mut bindings, "late", 10 + turn, "a");
        }
        assert_eq!((bindings.by_session.len(), bindings.by_age.len()), (1, 1));
    }

    #[test]
    fn beyond_the_limit_the_session_unused_for_longest_is_forgotten() {
        let mut bindings = bindings(300, 10);
        bindings.most = 3;
        for (now, id) in (1..).zip(["a", "b", "c", "a", "d", "e"]) {
            bind(&mut bindings, id, now, "x");
        }
        let known = ["a", "b", "c", "d", "e"].map(|id| bound(&mut bindings, id, 7).is_some());
        assert_eq!(known, [true, false, false, true, true]);
        assert_eq!((bindings.by_session.len(), bindings.by_age.len()), (3, 3));
    }

    #[test]
    fn a_name_is_compared_with_its_namespace() {
        assert_eq!(&*full_name(&endpoint("pod-rank-0")), "ns/pod-rank-0");
        for (name, same) in [
            ("ns/pod", true),
            ("ns/pod-1", false),
            ("n/spod", false),
            ("ns", false),
            ("", false),
            ("other/pod", false),
        ] {
            assert_eq!(is_named(&endpoint("pod"), name), same, "{name}");
        }
    }
}
