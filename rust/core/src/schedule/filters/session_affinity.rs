//! `session-affinity-filter`: only the endpoint that served the session before, where it is there.

use std::sync::Arc;

use crate::plugin::{Parts, PluginKind, Role, Stability};
use crate::schedule::session::{self, SessionAffinity};
use crate::schedule::{Context, Filter};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "session-affinity-filter",
    roles: &[Role::Filter, Role::PreRequest, Role::ResponseReceived],
    stability: Stability::Alpha,
    summary: "Only the endpoint that the request's session is bound to; all where it is bound to none or its endpoint is not among them.",
    parameters: session::PARAMETERS,
    build: |parameters| {
        let (affinity, needs) = SessionAffinity::new(parameters)?;
        let affinity = Arc::new(affinity);
        Ok(Parts::default()
            .with_filter(Arc::clone(&affinity) as _)
            .with_pre_request(Arc::clone(&affinity) as _)
            .with_response(affinity)
            .with_needs(needs))
    },
    ..PluginKind::BASE
};

impl Filter for SessionAffinity {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        if let Some(row) = self.preferred(context, |row| keep[row]) {
            keep.fill(false);
            keep[row] = true;
        }
    }
}
