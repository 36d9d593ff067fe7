//! `session-id-producer`: the id of the session that a request belongs to, from a header or a cookie.

use std::sync::Arc;

use crate::control::RequestProcessor;
use crate::exchange::Header;
use crate::plugin::{Data, ParameterError, ParameterKind, Parts, PluginKind, Role};
use crate::schedule::RequestAttributes;

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "session-id-producer",
    roles: &[Role::Producer],
    summary: "Makes the request attribute SessionID from a request header or a cookie; exactly one of both is to be named.",
    parameters: &[
        ParameterKind {
            name: "headerName",
            summary: "Request header whose value is the id.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "cookieName",
            summary: "Cookie whose value is the id.",
            ..ParameterKind::BASE
        },
    ],
    produces: Some(Data::SessionId),
    build: |parameters| {
        let header = parameters
            .optional_text("headerName")
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty());
        let cookie = parameters
            .optional_text("cookieName")
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let source = match (header, cookie) {
            (Some(name), None) => Source::Header(name.into()),
            (None, Some(name)) => Source::Cookie(name.into()),
            (Some(_), Some(_)) => {
                return Err(ParameterError::new(
                    "cookieName",
                    "exactly one of headerName and cookieName must be given, not both",
                ));
            }
            (None, None) => {
                return Err(ParameterError::new(
                    "headerName",
                    "exactly one of headerName and cookieName must be given",
                ));
            }
        };
        let producer = SessionIdProducer {
            name: parameters.plugin().into(),
            source,
        };
        Ok(Parts::default().with_request(Arc::new(producer)))
    },
    ..PluginKind::BASE
};

/// See the type.
#[derive(Debug)]
pub struct SessionIdProducer {
    name: Arc<str>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Lower-case name.
    Header(Box<str>),
    Cookie(Box<str>),
}

impl RequestProcessor for SessionIdProducer {
    fn process(&self, headers: &[Header], attributes: &mut RequestAttributes) {
        let id = match &self.source {
            Source::Header(name) => values(headers, name).next(),
            Source::Cookie(name) => values(headers, "cookie")
                .flat_map(|cookies| cookies.split(';'))
                .filter_map(|pair| pair.trim().split_once('='))
                .find_map(|(key, value)| (key == &**name).then_some(value)),
        };
        if let Some(id) = id {
            attributes.push(RequestAttributes::SESSION_ID, &self.name, id.trim());
        }
    }
}

/// The values of a header that are text.
fn values<'a>(headers: &'a [Header], name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| header.key == name.as_bytes())
        .filter_map(|header| std::str::from_utf8(&header.value).ok())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};

    fn found(parameters: &serde_json::Value, headers: &[(&str, &[u8])]) -> Option<String> {
        let headers: Vec<Header> = headers
            .iter()
            .map(|(key, value)| Header {
                key: Bytes::copy_from_slice(key.as_bytes()),
                value: Bytes::copy_from_slice(value),
            })
            .collect();
        let mut attributes = RequestAttributes::default();
        let plugin = built(&KIND, parameters);
        let part = plugin.request.as_ref().expect("a request part");
        part.process(&headers, &mut attributes);
        assert_eq!(attributes.get("SessionID", Some("another")), None);
        attributes
            .get("SessionID", Some("mine"))
            .map(ToOwned::to_owned)
    }

    #[test]
    fn the_id_is_the_headers_value() {
        let parameters = json!({"headerName": " X-Session-ID "});
        for (value, id) in [
            (&b"abc"[..], Some("abc")),
            (b" a b ", Some("a b")),
            (b"  ", None),
            (b"", None),
            (b"\xff", None),
        ] {
            let headers = [("cookie", &b"x-session-id=c"[..]), ("x-session-id", value)];
            assert_eq!(found(&parameters, &headers).as_deref(), id);
        }
        assert_eq!(found(&parameters, &[]), None);
    }

    #[test]
    fn the_id_is_the_cookies_value() {
        let parameters = json!({"cookieName": "sid"});
        for (cookies, id) in [
            (&["a=1; sid=abc; b=2"][..], Some("abc")),
            (&["sid=a=b"], Some("a=b")),
            (&["a=1;sid= abc "], Some("abc")),
            (&["Sid=no; sid"], None),
            (&["xsid=no"], None),
            (&["sid=; sid=late"], None),
            (&["a=1", "sid=second"], Some("second")),
            (&[], None),
        ] {
            let headers: Vec<(&str, &[u8])> = cookies
                .iter()
                .map(|value| ("cookie", value.as_bytes()))
                .collect();
            assert_eq!(found(&parameters, &headers).as_deref(), id, "{cookies:?}");
        }
    }

    #[test]
    fn exactly_one_source_is_named() {
        for (parameters, message) in [
            (
                json!({}),
                "headerName: exactly one of headerName and cookieName must be given",
            ),
            (
                json!({"headerName": " "}),
                "headerName: exactly one of headerName and cookieName must be given",
            ),
            (
                json!({"headerName": "a", "cookieName": "b"}),
                "cookieName: exactly one of headerName and cookieName must be given, not both",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), message);
        }
    }
}
