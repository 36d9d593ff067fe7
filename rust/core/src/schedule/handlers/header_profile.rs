//! `header-profile-handler`: a request header names the profile that runs.

use std::sync::Arc;

use crate::plugin::{ParameterKind, Parts, PluginKind, Role, Stability};
use crate::schedule::{ProfileHandler, RequestFacts};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "header-profile-handler",
    roles: &[Role::ProfileHandler],
    stability: Stability::Alpha,
    summary: "Runs the profile that a request header names, or the only one there is; a request that names none of them is refused.",
    parameters: &[
        ParameterKind {
            name: "headerName",
            default: "\"EPP-Profile\"",
            summary: "The request header; upper and lower case are the same.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "defaultProfile",
            default: "\"decode\"",
            summary: "Profile of requests without the header.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        Ok(Parts {
            handler: Some(Arc::new(HeaderProfileHandler {
                header: parameters
                    .text("headerName")
                    .trim()
                    .to_ascii_lowercase()
                    .into(),
                default: parameters.text("defaultProfile").trim().into(),
            })),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

/// The profile that the header names.
#[derive(Clone, Debug)]
pub struct HeaderProfileHandler {
    /// Lower-case name of the header.
    pub header: Box<str>,
    /// Name of the profile for requests without the header.
    pub default: Box<str>,
}

impl ProfileHandler for HeaderProfileHandler {
    fn pick(&self, request: &RequestFacts, profiles: &[Arc<str>]) -> Option<usize> {
        if profiles.len() == 1 {
            return Some(0);
        }
        let wanted = request.header(&self.header).unwrap_or(&self.default);
        profiles.iter().position(|profile| **profile == *wanted)
    }

    fn check(&self, profiles: &[Arc<str>]) -> Result<(), Box<str>> {
        // A default that is no profile is allowed, as in the reference: every client may name one.
        if profiles.is_empty() {
            return Err("has no profile to run".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::built;
    use crate::schedule::testing::Scene;

    fn picked(
        parameters: &Value,
        header: Option<(&'static str, &str)>,
        profiles: &[&str],
    ) -> Option<usize> {
        let handler = built(&KIND, parameters).handler.expect("a handler");
        let profiles: Vec<Arc<str>> = profiles.iter().map(|name| (*name).into()).collect();
        handler.check(&profiles).expect("usable profiles");
        let mut scene = Scene::new(1);
        if let Some((name, value)) = header {
            scene.header(name, value);
        }
        handler.pick(&scene.request, &profiles)
    }

    #[test]
    fn the_header_names_the_profile_and_the_default_stands_in_for_it() {
        let both = ["prefill", "decode"];
        for (header, profiles, expected) in [
            (Some("prefill"), &both[..], Some(0)),
            (Some(" decode "), &both, Some(1)),
            (Some("Prefill"), &both, None),
            (Some("encode"), &both, None),
            (Some(""), &both, Some(1)),
            (None, &both, Some(1)),
            (None, &["prefill", "encode"], None),
            // Nothing to choose.
            (Some("encode"), &["prefill"], Some(0)),
            (None, &["prefill"], Some(0)),
        ] {
            let header = header.map(|value| ("epp-profile", value));
            assert_eq!(
                picked(&json!({}), header, profiles),
                expected,
                "{header:?} {profiles:?}"
            );
        }
    }

    #[test]
    fn header_and_default_can_be_named() {
        let parameters = json!({"headerName": " X-Stage ", "defaultProfile": "b"});
        let profiles = ["a", "b"];
        assert_eq!(
            picked(&parameters, Some(("x-stage", "a")), &profiles),
            Some(0)
        );
        assert_eq!(
            picked(&parameters, Some(("epp-profile", "a")), &profiles),
            Some(1)
        );
    }

    #[test]
    fn no_profile_is_refused() {
        let handler = built(&KIND, &json!({})).handler.expect("a handler");
        assert_eq!(handler.check(&[]), Err("has no profile to run".into()));
    }
}
