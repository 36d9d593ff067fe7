//! TLS of the host: one certificate that can be replaced while the server runs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio_rustls::TlsAcceptor;

use super::ServerError;

/// The lowest TLS version that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 or 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

impl FromStr for TlsVersion {
    type Err = ServerError;

    /// Reads the reference's names, `VersionTLS12` and `VersionTLS13`. The older ones that it also knows are refused: rustls has no TLS below 1.2.
    fn from_str(name: &str) -> Result<Self, ServerError> {
        match name {
            "VersionTLS12" => Ok(Self::Tls12),
            "VersionTLS13" => Ok(Self::Tls13),
            _ => Err(ServerError::TlsVersion(name.to_owned())),
        }
    }
}

/// What the server shows in a handshake, both in PEM.
#[derive(Clone)]
pub struct TlsOptions {
    /// The server's certificate first, then its chain.
    pub certificate_pem: Vec<u8>,
    /// The private key, PKCS#8, PKCS#1 or SEC1.
    pub key_pem: Vec<u8>,
    /// The lowest version accepted.
    pub minimum_version: TlsVersion,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        formatter
            .debug_struct("TlsOptions")
            .field("minimum_version", &self.minimum_version)
            .finish_non_exhaustive()
    }
}

/// The acceptor and the handle to replace its certificate.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    resolver: Arc<Resolver>,
}

impl Tls {
    pub(super) fn new(options: &TlsOptions) -> Result<Self, ServerError> {
        let resolver = Arc::new(Resolver(ArcSwap::from_pointee(certified_key(
            &options.certificate_pem,
            &options.key_pem,
        )?)));
        let versions: &[_] = match options.minimum_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(ServerError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            resolver,
        })
    }

    /// Handshakes from now on show this certificate; open connections go on.
    pub(super) fn replace(
        &self,
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<(), ServerError> {
        self.resolver
            .0
            .store(Arc::new(certified_key(certificate_pem, key_pem)?));
        Ok(())
    }
}

#[derive(Debug)]
struct Resolver(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Reads a certificate and its key and checks that they belong together.
fn certified_key(certificate_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, ServerError> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ServerError::CertificatePem(error.to_string()))?;
    if chain.is_empty() {
        return Err(ServerError::CertificatePem(
            "no CERTIFICATE section found".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| ServerError::KeyPem(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(ServerError::Tls)
}
