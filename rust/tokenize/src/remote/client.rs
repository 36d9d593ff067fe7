//! One POST to the model server, with a bound on everything about it.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use warmroute_core::tokens::TokenizeError;

use super::circuit::Circuit;
use crate::error::OpenError;
use crate::json::Json;

/// Connections that are kept open; the threads that tokenise are fewer.
const CONNECTIONS: usize = 16;

/// Largest answer that is read, in bytes: a million tokens with their commas have ten.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// How much of an answer that is an error is passed on, in bytes.
const MAX_ERROR_BYTES: u64 = 1024;

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// Without a slash at its end.
    url: String,
    circuit: Circuit,
}

/// How long a request for tokens may take in all, however often the server is asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    total: Duration,
    deadline: Instant,
}

impl Budget {
    pub(crate) fn start(total: Duration) -> Self {
        Self {
            total,
            deadline: Instant::now() + total,
        }
    }

    /// What is left of it; never nothing, which would mean no bound.
    fn left(self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Ok(Vec<u8>),
    /// The server does not know the path.
    NoSuchPath,
    /// The server refuses the request.
    Refused(String),
}

impl Client {
    pub(crate) fn new(url: &str) -> Result<Self, OpenError> {
        let invalid = |reason: &str| OpenError::Address {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let url = url.trim_end_matches('/');
        let uri: Uri = url.parse().map_err(|_| invalid("it cannot be read"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(tls_config()),
            _ => return Err(invalid("it begins with neither http:// nor https://")),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(invalid("it has no host"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .max_idle_age(Duration::from_secs(90))
            .user_agent(concat!("warmroute/", env!("CARGO_PKG_VERSION")));
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            url: url.to_owned(),
            circuit: Circuit::default(),
        })
    }

    /// Posts a JSON body; the budget bounds all of it, from the look-up of the name to the last byte.
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        budget: Budget,
    ) -> Result<Answer, TokenizeError> {
        if let Err(pause) = self.circuit.admit(Instant::now()) {
            return Err(self.unavailable(
                path,
                &format!(
                    "it failed several times in a row and is left alone for another {:.1} s",
                    pause.as_secs_f64()
                ),
            ));
        }
        let answer = self.exchange(path, body, budget);
        match answer {
            Ok(_) => self.circuit.answered(),
            Err(_) => self.circuit.failed(Instant::now()),
        }
        answer.map_err(|reason| self.unavailable(path, &reason))
    }

    fn exchange(&self, path: &str, body: &[u8], budget: Budget) -> Result<Answer, String> {
        let mut response = self
            .agent
            .post(format!("{}{path}", self.url))
            .config()
            .timeout_global(Some(budget.left()))
            .build()
            .content_type("application/json")
            .send(body)
            .map_err(|error| describe(&error, budget))?;
        let status = response.status().as_u16();
        if status == 200 {
            return response
                .body_mut()
                .with_config()
                .limit(MAX_ANSWER_BYTES)
                .read_to_vec()
                .map(Answer::Ok)
                .map_err(|error| describe(&error, budget));
        }
        let mut text = Vec::new();
        let reader = response.body_mut().as_reader();
        // Whatever could be read of it is shown.
        let _partial = reader.take(MAX_ERROR_BYTES).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        match status {
            // A path that is there answers in OpenAI's form when it is the model that is not.
            404 | 405 if !is_openai_error(&text) => Ok(Answer::NoSuchPath),
            400..=428 | 430..=499 => Ok(Answer::Refused(format!("status {status}: {text}"))),
            _ => Err(format!("status {status}: {text}")),
        }
    }

    /// An answer that cannot be used.
    pub(crate) fn unavailable(&self, path: &str, reason: &str) -> TokenizeError {
        TokenizeError::Unavailable(format!("POST {}{path}: {reason}", self.url).into())
    }
}

fn is_openai_error(text: &str) -> bool {
    serde_json::from_str::<Json>(text).is_ok_and(|answer| {
        answer
            .get("error")
            .is_some_and(|error| error.as_object().is_some())
    })
}

fn describe(error: &ureq::Error, budget: Budget) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {:.1} s", budget.total.as_secs_f64()),
        error => error.to_string(),
    }
}

fn tls_config() -> TlsConfig {
    // What cannot be read of the system's store is missing from it, and the first handshake says so.
    let certificates: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}
