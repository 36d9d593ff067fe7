//! What the session affinity scorer and filter share: who a request's session is, which endpoint it is bound to, and how that is remembered.
//!
//! Two strategies, as in the reference. `encoded_endpoint_header` remembers nothing: the answer carries a token that names the endpoint, and
//! the client sends it back. `session_id` keeps, in each plugin apart, the endpoint of each id that clients send.

mod bindings;
mod parameters;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use parking_lot::Mutex;

pub(crate) use parameters::PARAMETERS;

use super::Context;
use crate::control::{Chosen, HeaderPairs, PreRequest, RequestEdits, Response, ResponseReceived};
use bindings::{Bindings, RequestKey, full_name, is_named};

/// The reference's encoding: padded, and as lax about unused bits as Go's decoder.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// One session affinity plugin.
#[derive(Debug)]
pub(crate) struct SessionAffinity {
    strategy: Strategy,
    /// Whose endpoint is remembered; `None`: whichever profile ran.
    profile: Option<Box<str>>,
}

#[derive(Debug)]
enum Strategy {
    EncodedEndpoint {
        header: Bytes,
    },
    SessionId {
        sources: Vec<Source>,
        bindings: Mutex<Bindings>,
    },
}

/// Where a session's id is read.
#[derive(Debug)]
enum Source {
    Header(Box<str>),
    Attribute {
        key: &'static str,
        producer: Option<Box<str>>,
    },
}

impl Source {
    fn read<'a>(&self, context: &Context<'a>) -> Option<&'a str> {
        let request = context.request;
        let value = match self {
            Self::Header(name) => request.header(name),
            Self::Attribute { key, producer } => request.attributes.get(key, producer.as_deref()),
        };
        value.map(str::trim).filter(|value| !value.is_empty())
    }
}

impl SessionAffinity {
    /// The row of the session's endpoint among those that are `open`; `None` without a session, without a binding, or where its endpoint is no candidate.
    pub(super) fn preferred(
        &self,
        context: &Context<'_>,
        open: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let row_of = |wanted: &str| {
            (0..context.candidates.len()).find(|&row| {
                open(row)
                    && context
                        .endpoint(row)
                        .is_some_and(|endpoint| is_named(&endpoint.identity, wanted))
            })
        };
        match &self.strategy {
            Strategy::EncodedEndpoint { header } => {
                let name = std::str::from_utf8(header).ok()?;
                let wanted = BASE64.decode(context.header(name)?).ok()?;
                row_of(std::str::from_utf8(&wanted).ok()?)
            }
            Strategy::SessionId { sources, bindings } => {
                let id = session_id(sources, context)?;
                let mut bindings = bindings.lock();
                let key = bindings.key(id);
                let request = RequestKey::new(&context.request.request_id);
                bindings.look_up(key, request, context.now, row_of)
            }
        }
    }

    fn is_about(&self, profile: &str) -> bool {
        self.profile.as_deref().is_none_or(|own| own == profile)
    }
}

impl PreRequest for SessionAffinity {
    fn pre_request(&self, context: &Context<'_>, chosen: &Chosen<'_>, _edits: &mut RequestEdits) {
        let Strategy::SessionId { sources, bindings } = &self.strategy else {
            return;
        };
        if !self.is_about(chosen.profile) {
            return;
        }
        let first = chosen.ranked.first();
        let endpoint = first.and_then(|row| context.endpoint(*row as usize));
        if let (Some(id), Some(endpoint)) = (session_id(sources, context), endpoint) {
            let mut bindings = bindings.lock();
            let key = bindings.key(id);
            let request = RequestKey::new(&context.request.request_id);
            bindings.commit(key, request, context.now, &endpoint.identity);
        }
    }
}

impl ResponseReceived for SessionAffinity {
    fn response_received(&self, response: &Response<'_>, set: &mut HeaderPairs) {
        if let Strategy::EncodedEndpoint { header } = &self.strategy
            && self.is_about(response.profile)
        {
            let token = BASE64.encode(full_name(&response.endpoint.identity).as_bytes());
            set.push((header.clone(), Bytes::from(token)));
        }
    }
}

fn session_id<'a>(sources: &[Source], context: &Context<'a>) -> Option<&'a str> {
    sources.iter().find_map(|source| source.read(context))
}

#[cfg(test)]
mod tests;
