//! TLS towards the endpoints.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::settings::TlsSettings;

/// Longest file of certificates; a system's whole bundle has 0.3 MiB.
const FILE_LIMIT: u64 = 4 << 20;

/// The field at fault and what is wrong.
type Fault = (&'static str, String);

/// How connections of one source are secured. Files that are replaced, as mounted secrets are, count from the next look on.
pub(crate) struct Tls {
    settings: TlsSettings,
    connector: Mutex<TlsConnector>,
    /// Why the files of now are not in use; empty when they are.
    error: Mutex<String>,
}

impl Tls {
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, Fault> {
        Ok(Self {
            connector: Mutex::new(connector(settings)?),
            settings: settings.clone(),
            error: Mutex::default(),
        })
    }

    /// For a new connection.
    pub(crate) fn connector(&self) -> TlsConnector {
        self.connector.lock().clone()
    }

    /// Why the files of now are not in use; empty when they are.
    pub(crate) fn error(&self) -> String {
        self.error.lock().clone()
    }

    /// Reads the files again. When they cannot be used, those in use stay.
    pub(crate) fn reload(&self) {
        let files = [
            &self.settings.ca_cert_path,
            &self.settings.client_cert_path,
            &self.settings.client_key_path,
        ];
        if files.iter().all(|path| path.is_none()) {
            return;
        }
        let error = match connector(&self.settings) {
            Ok(connector) => {
                *self.connector.lock() = connector;
                String::new()
            }
            Err((field, reason)) => format!("{field}: {reason}; what was read before stays in use"),
        };
        *self.error.lock() = error;
    }
}

/// Reads the files and prepares connections.
fn connector(settings: &TlsSettings) -> Result<TlsConnector, Fault> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("scheme", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let certificate = (
        settings.client_cert_path.as_deref(),
        settings.client_key_path.as_deref(),
    );
    let mut config = match certificate {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("clientCertPath", certificate)?;
            let pem = read("clientKeyPath", key)?;
            let private = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|error| ("clientKeyPath", format!("{}: {error}", key.display())))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| {
                    let reason = format!("{} and its key: {error}", certificate.display());
                    ("clientCertPath", reason)
                })?
        }
        (Some(_), None) => {
            return Err(("clientKeyPath", "clientCertPath needs its key".to_owned()));
        }
        (None, Some(_)) => {
            let reason = "clientKeyPath needs its certificate".to_owned();
            return Err(("clientCertPath", reason));
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    if settings.insecure_skip_verify {
        return Ok(Arc::new(AnyCertificate(Arc::clone(provider))));
    }
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    let field = if let Some(path) = &settings.ca_cert_path {
        named = certificates("caCertPath", path)?;
        for certificate in &named {
            roots
                .add(certificate.clone())
                .map_err(|error| ("caCertPath", format!("{}: {error}", path.display())))?;
        }
        "caCertPath"
    } else {
        // A system's bundle may hold single certificates that are not understood; they vouch for nobody then.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let reason = "the system has no certificate authorities; name a file with caCertPath";
            return Err(("insecureSkipVerify", reason.to_owned()));
        }
        "insecureSkipVerify"
    };
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    match verifier.build() {
        Ok(authorities) => Ok(Arc::new(Trusted { authorities, named })),
        Err(error) => Err((field, error.to_string())),
    }
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = read(field, path)?;
    let list = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| (field, format!("{}: {error}", path.display())))?;
    if list.is_empty() {
        return Err((field, format!("{}: no CERTIFICATE section", path.display())));
    }
    Ok(list)
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    let fault = |reason: &dyn std::fmt::Display| (field, format!("{}: {reason}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| fault(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(&error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(fault(&"the file is longer than 4 MiB"));
    }
    Ok(bytes)
}

/// Goes by authorities, and by the very certificates of `caCertPath`: a server often shows the authority's certificate as its own
/// (`openssl req -x509` makes such), which path building refuses and the reference takes. Of those only the name is checked, not the dates.
#[derive(Debug)]
struct Trusted {
    authorities: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.named.iter().any(|named| named == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Takes every certificate, as `insecureSkipVerify` says. Signatures are not looked at either: made with a key that nobody vouches for, they prove nothing,
/// and reading the key would refuse certificates older than X.509 version 3, which the reference takes.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
