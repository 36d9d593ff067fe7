//! `session-affinity-scorer`: prefer the endpoint that served the session before.

use std::sync::Arc;

use crate::plugin::{Parts, PluginKind, Role, Stability};
use crate::schedule::session::{self, SessionAffinity};
use crate::schedule::{Context, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "session-affinity-scorer",
    roles: &[Role::Scorer, Role::PreRequest, Role::ResponseReceived],
    stability: Stability::Alpha,
    summary: "1 for the endpoint that the request's session is bound to, 0 for all others and without a session.",
    parameters: session::PARAMETERS,
    build: |parameters| {
        let (affinity, needs) = SessionAffinity::new(parameters)?;
        let affinity = Arc::new(affinity);
        Ok(Parts::default()
            .with_scorer(Arc::clone(&affinity) as _)
            .with_pre_request(Arc::clone(&affinity) as _)
            .with_response(affinity)
            .with_needs(needs))
    },
    ..PluginKind::BASE
};

impl Scorer for SessionAffinity {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        if let Some(row) = self.preferred(context, |_| true) {
            scores[row] = 1.0;
        }
    }
}
