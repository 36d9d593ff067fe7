//! Why a server does not start or does not take a certificate.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::Error as RustlsError;

use super::ListenAddress;

/// Why a server does not start or does not take a certificate.
#[derive(Debug)]
pub enum ServerError {
    /// The text is no address to listen on.
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be bound.
    Bind {
        /// What was asked for.
        address: ListenAddress,
        /// Why not.
        source: io::Error,
    },
    /// Threads cannot be started.
    Runtime(io::Error),
    /// An HTTP/2 setting is outside its range.
    Setting {
        /// Name of the option.
        name: &'static str,
        /// Smallest value.
        minimum: u32,
        /// Largest value.
        maximum: u32,
        /// What was asked for.
        value: u32,
    },
    /// The certificate file is not PEM with a certificate.
    CertificatePem(String),
    /// The key file is not PEM with a private key.
    KeyPem(String),
    /// The certificate or the key cannot be used, or they do not belong together.
    Tls(RustlsError),
    /// Not the name of a TLS version that can be the minimum.
    TlsVersion(String),
    /// A certificate for a server that runs without TLS.
    NotTls,
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { text, reason } => {
                write!(
                    formatter,
                    "cannot listen on {text:?}: {reason}; write host:port or unix:/path"
                )
            }
            Self::Bind { address, source } => {
                write!(formatter, "cannot listen on {address}: {source}")
            }
            Self::Runtime(source) => {
                write!(formatter, "cannot start the server's threads: {source}")
            }
            Self::Setting {
                name,
                minimum,
                maximum,
                value,
            } => {
                write!(
                    formatter,
                    "{name} must be between {minimum} and {maximum}, not {value}"
                )
            }
            Self::CertificatePem(reason) => {
                write!(formatter, "cannot read the certificate: {reason}")
            }
            Self::KeyPem(reason) => write!(formatter, "cannot read the private key: {reason}"),
            Self::Tls(source) => write!(formatter, "cannot use the certificate and key: {source}"),
            Self::TlsVersion(name) => write!(
                formatter,
                "TLS version {name:?} cannot be the minimum; use VersionTLS12 or VersionTLS13"
            ),
            Self::NotTls => {
                formatter.write_str("this server runs without TLS and takes no certificate")
            }
        }
    }
}

impl Error for ServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Runtime(source) => Some(source),
            Self::Tls(source) => Some(source),
            Self::Address { .. }
            | Self::Setting { .. }
            | Self::CertificatePem(_)
            | Self::KeyPem(_)
            | Self::TlsVersion(_)
            | Self::NotTls => None,
        }
    }
}
