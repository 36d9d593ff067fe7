//! `header-based-testing-filter`: only the endpoints that the client names, for conformance tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::plugin::{Parts, PluginKind, Role};
use crate::schedule::{Context, Filter, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "header-based-testing-filter",
    roles: &[Role::Filter, Role::Scorer],
    summary: "Only the endpoints listed in the request header test-epp-endpoint-selection, in that order; none without the header. For tests.",
    build: |_| {
        Ok(Parts::filter(HeaderBasedTestingFilter).with_scorer(Arc::new(HeaderBasedTestingFilter)))
    },
    ..PluginKind::BASE
};

/// The header that names the endpoints.
const HEADER: &[u8] = b"test-epp-endpoint-selection";

/// Keeps one endpoint for each entry (`IP` or `IP:port`) of the header, and scores them by the order of their entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderBasedTestingFilter;

/// An entry of the header.
#[derive(Clone, Copy)]
enum Wanted {
    Address(IpAddr),
    Socket(SocketAddr),
}

impl HeaderBasedTestingFilter {
    /// Calls back with each entry's number and the first row that it names and `open` allows.
    fn each(
        context: &Context<'_>,
        mut open: impl FnMut(usize) -> bool,
        mut call: impl FnMut(usize, usize),
    ) {
        let header = context
            .request
            .headers
            .iter()
            .find(|header| header.key == HEADER);
        let entries = header
            .and_then(|header| std::str::from_utf8(&header.value).ok())
            .unwrap_or_default();
        for (number, entry) in entries.split(',').enumerate() {
            let Some(wanted) = parse(entry.trim()) else {
                continue;
            };
            let row = (0..context.candidates.len())
                .find(|&row| open(row) && is_wanted(context, row, wanted));
            if let Some(row) = row {
                call(number, row);
            }
        }
    }
}

impl Filter for HeaderBasedTestingFilter {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        let mut named = vec![false; keep.len()];
        Self::each(context, |row| keep[row], |_, row| named[row] = true);
        for (keep, named) in keep.iter_mut().zip(named) {
            *keep &= named;
        }
    }
}

impl Scorer for HeaderBasedTestingFilter {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        // An endpoint that is named twice counts where it is named first.
        Self::each(
            context,
            |_| true,
            |number, row| scores[row] = f64::max(scores[row], 1.0 / (number + 1) as f64),
        );
    }
}

fn parse(entry: &str) -> Option<Wanted> {
    let address = entry
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address
        .map(Wanted::Address)
        .or_else(|_| entry.parse::<SocketAddr>().map(Wanted::Socket))
        .ok()
}

fn is_wanted(context: &Context<'_>, row: usize, wanted: Wanted) -> bool {
    let Some(endpoint) = context
        .snapshot
        .endpoints
        .get(context.candidates.position[row] as usize)
    else {
        return false;
    };
    let identity = &endpoint.identity;
    match wanted {
        Wanted::Address(address) => identity.address == address,
        Wanted::Socket(socket) => (identity.address, identity.port) == (socket.ip(), socket.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Header;
    use crate::schedule::testing::Scene;

    fn scene(value: Option<&'static str>) -> Scene {
        let mut scene = Scene::new(4);
        scene.request.headers = value
            .map(|value| Header {
                key: HEADER.into(),
                value: value.into(),
            })
            .into_iter()
            .collect();
        scene
    }

    fn kept(scene: &Scene) -> Vec<bool> {
        let mut keep = vec![true; 4];
        HeaderBasedTestingFilter.filter(&scene.context(), &mut keep);
        keep
    }

    #[test]
    fn only_the_listed_endpoints_stay_in_their_order() {
        let scene = scene(Some("10.0.0.3, 10.0.0.1:8000,10.0.0.2:9"));
        assert_eq!(kept(&scene), [true, false, true, false]);
        let scores = scene.scores(&HeaderBasedTestingFilter);
        assert!(scores[2] > scores[0] && scores[0] > 0.0);
        assert_eq!((scores[1], scores[3]), (0.0, 0.0));
    }

    #[test]
    fn without_the_header_or_with_nonsense_in_it_nothing_stays() {
        assert_eq!(kept(&scene(None)), [false; 4]);
        assert_eq!(kept(&scene(Some("localhost,,10.0.0.9"))), [false; 4]);
    }

    #[test]
    fn what_an_earlier_filter_dropped_stays_dropped() {
        let mut keep = [false, true, true, true];
        HeaderBasedTestingFilter.filter(&scene(Some("10.0.0.1,10.0.0.2")).context(), &mut keep);
        assert_eq!(keep, [false, true, false, false]);
    }
}
