//! How a stream ends: a gRPC status code with a message, as HTTP/2 trailers.
//!
//! Source: "gRPC over HTTP2", sections "Status" and "Status-Message"; codes of `google.rpc.Code`.

use std::borrow::Cow;
use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    code: &'static str,
    message: Cow<'static, str>,
}

impl Status {
    pub(super) const OK: Self = Self {
        code: "0",
        message: Cow::Borrowed(""),
    };
    pub(super) const CANCELLED: Self = Self {
        code: "1",
        message: Cow::Borrowed(""),
    };

    pub(super) fn invalid_argument(message: String) -> Self {
        Self {
            code: "3",
            message: Cow::Owned(message),
        }
    }

    pub(super) fn resource_exhausted(message: String) -> Self {
        Self {
            code: "8",
            message: Cow::Owned(message),
        }
    }

    pub(super) fn unimplemented(message: &'static str) -> Self {
        Self {
            code: "12",
            message: Cow::Borrowed(message),
        }
    }

    pub(super) fn internal(message: &'static str) -> Self {
        Self {
            code: "13",
            message: Cow::Borrowed(message),
        }
    }

    /// The number of `google.rpc.Code`.
    pub(super) fn code(&self) -> u8 {
        self.code.parse().unwrap_or(2)
    }

    /// Writes the status into `headers`: trailers, or the headers of an answer that is nothing but a status.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(STATUS, HeaderValue::from_static(self.code));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message))
            && !message.is_empty()
        {
            headers.insert(MESSAGE, message);
        }
    }

    /// The status as trailers.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(2);
        self.write(&mut headers);
        headers
    }
}

fn percent_encoded(message: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return Cow::Borrowed(message);
    }
    let mut encoded = String::with_capacity(message.len() + 16);
    for byte in message.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(percent_encoded("100 % sûr\n"), "100 %25 s%C3%BBr%0A");
    }

    #[test]
    fn success_has_no_message() {
        assert_eq!(Status::OK.trailers().len(), 1);
    }
}
