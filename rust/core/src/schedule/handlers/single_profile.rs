//! `single-profile-handler`: there is one profile, and it runs.

use std::sync::Arc;

use crate::plugin::{Parts, PluginKind, Role};
use crate::schedule::{ProfileHandler, RequestFacts};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "single-profile-handler",
    roles: &[Role::ProfileHandler],
    summary: "Runs the one profile; added where no other handler is configured.",
    build: |_| {
        Ok(Parts {
            handler: Some(Arc::new(SingleProfileHandler)),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

/// The first profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProfileHandler;

impl ProfileHandler for SingleProfileHandler {
    fn pick(&self, _request: &RequestFacts, profiles: &[Arc<str>]) -> Option<usize> {
        (!profiles.is_empty()).then_some(0)
    }

    fn check(&self, profiles: &[Arc<str>]) -> Result<(), Box<str>> {
        match profiles.len() {
            1 => Ok(()),
            count => Err(format!(
                "runs one profile, not {count}; use header-profile-handler to choose among several"
            )
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wants_exactly_one_profile_and_runs_it() {
        let names = |count: usize| vec![Arc::from("profile"); count];
        let request = RequestFacts::default();
        assert_eq!(SingleProfileHandler.pick(&request, &names(1)), Some(0));
        assert!(SingleProfileHandler.check(&names(1)).is_ok());
        for count in [0, 2] {
            assert!(SingleProfileHandler.check(&names(count)).is_err());
        }
    }
}
