//! `data-parallel-profile-handler`: the chosen rank in a header, the request itself to the pod's primary port.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::control::{Chosen, PreRequest, RequestEdits};
use crate::plugin::{ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::handlers::SingleProfileHandler;
use crate::schedule::{Context, ProfileHandler, RequestFacts};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "data-parallel-profile-handler",
    roles: &[Role::ProfileHandler, Role::PreRequest],
    deprecated: Some(
        "single-profile-handler, with a gateway that takes the port of the destination",
    ),
    summary: "Deprecated. Runs the one profile, sends the request to primaryPort of the chosen address and names the chosen address and port in the header x-data-parallel-host-port.",
    parameters: &[ParameterKind {
        name: "primaryPort",
        shape: Shape::Integer {
            least: 1,
            most: 65_535,
        },
        default: "8000",
        summary: "Port of the process that hands requests on to the ranks.",
        ..ParameterKind::BASE
    }],
    build: |parameters| {
        let handler = Arc::new(DataParallelProfileHandler {
            primary_port: u16::try_from(parameters.integer("primaryPort")).unwrap_or(8000),
        });
        Ok(Parts {
            handler: Some(Arc::clone(&handler) as _),
            ..Parts::default()
        }
        .with_pre_request(handler))
    },
    ..PluginKind::BASE
};

/// The header that names the chosen rank.
const HEADER: Bytes = Bytes::from_static(b"x-data-parallel-host-port");

/// The one profile, with the destination's ports replaced.
#[derive(Clone, Copy, Debug)]
pub struct DataParallelProfileHandler {
    /// The port that requests are sent to.
    pub primary_port: u16,
}

impl ProfileHandler for DataParallelProfileHandler {
    fn pick(&self, request: &RequestFacts, profiles: &[Arc<str>]) -> Option<usize> {
        SingleProfileHandler.pick(request, profiles)
    }

    fn check(&self, profiles: &[Arc<str>]) -> Result<(), Box<str>> {
        match profiles.len() {
            1 => Ok(()),
            count => Err(format!("runs one profile, not {count}").into()),
        }
    }
}

impl PreRequest for DataParallelProfileHandler {
    fn pre_request(&self, context: &Context<'_>, chosen: &Chosen<'_>, edits: &mut RequestEdits) {
        let ranked = chosen.ranked.iter();
        let endpoints: Vec<_> = ranked
            .filter_map(|row| context.endpoint(*row as usize))
            .collect();
        let Some(first) = endpoints.first() else {
            return;
        };
        let rank = Bytes::copy_from_slice(first.authority.as_bytes());
        edits.set.push((HEADER, rank));
        let primary: Vec<String> = endpoints
            .iter()
            .map(|endpoint| {
                SocketAddr::new(endpoint.identity.address, self.primary_port).to_string()
            })
            .collect();
        edits.destination = Some(primary.join(",").into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn edits(parameters: &Value, ranked: &[u32]) -> RequestEdits {
        let plugin = built(&KIND, parameters)
            .pre_request
            .expect("a pre-request part");
        let mut edits = RequestEdits::default();
        let chosen = Chosen {
            ranked,
            profile: "default",
        };
        plugin.pre_request(&Scene::new(3).context(), &chosen, &mut edits);
        edits
    }

    #[test]
    fn the_first_rank_is_named_and_every_destination_gets_the_primary_port() {
        for (parameters, ranked, rank, destination) in [
            (json!({}), &[1][..], "10.0.0.2:8000", "10.0.0.2:8000"),
            (
                json!({"primaryPort": 9000}),
                &[1],
                "10.0.0.2:8000",
                "10.0.0.2:9000",
            ),
            (
                json!({"primaryPort": 9000}),
                &[2, 0],
                "10.0.0.3:8000",
                "10.0.0.3:9000,10.0.0.1:9000",
            ),
        ] {
            let edits = edits(&parameters, ranked);
            assert_eq!(
                edits.set,
                [(Bytes::from("x-data-parallel-host-port"), Bytes::from(rank))]
            );
            assert_eq!(edits.destination, Some(Bytes::from(destination)));
        }
    }

    #[test]
    fn it_wants_exactly_one_profile_and_runs_it() {
        let handler = built(&KIND, &json!({})).handler.expect("a handler");
        let names = |count: usize| vec![Arc::from("profile"); count];
        assert_eq!(handler.pick(&RequestFacts::default(), &names(1)), Some(0));
        assert_eq!(handler.check(&names(1)), Ok(()));
        assert_eq!(
            handler.check(&names(2)),
            Err("runs one profile, not 2".into())
        );
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        for port in [0, 65_536] {
            assert_eq!(
                refused(&KIND, &json!({"primaryPort": port})),
                format!("primaryPort: must be a whole number from 1 to 65535, not {port}")
            );
        }
    }
}
