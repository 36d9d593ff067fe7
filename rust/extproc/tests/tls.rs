//! TLS of the native host: handshakes, versions, replacing the certificate.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::version::{TLS12, TLS13};
use support::client::{Stream, connect_tls, options, port, start, start_with};
use support::request_headers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmroute_extproc::host::{NativeServer, ServerError, ServerOptions, TlsOptions, TlsVersion};
use warmroute_extproc::session::EchoFactory;

/// A self-signed certificate for `localhost` and its key, in PEM.
fn certificate() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn tls(certificate: &str, key: &str, minimum_version: TlsVersion) -> TlsOptions {
    TlsOptions {
        certificate_pem: certificate.into(),
        key_pem: key.into(),
        minimum_version,
    }
}

/// The client may know that a handshake failed before the server has counted it; a count that never comes hangs the test.
async fn one_handshake_error(server: &NativeServer) {
    while server.statistics().handshake_errors == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.statistics().handshake_errors, 1);
}

#[tokio::test]
async fn a_stream_over_tls_works_and_the_certificate_can_be_replaced() {
    let (first, first_key) = certificate();
    let (second, second_key) = certificate();
    let server = start_with(
        &ServerOptions {
            tls: Some(tls(&first, &first_key, TlsVersion::Tls12)),
            ..options()
        },
        EchoFactory::default(),
    );
    let old_connection = connect_tls(&server, &first, &[&TLS12, &TLS13])
        .await
        .unwrap();
    server
        .replace_tls(second.as_bytes(), second_key.as_bytes())
        .unwrap();
    let new_connection = connect_tls(&server, &second, &[&TLS12, &TLS13])
        .await
        .unwrap();
    for channel in [&old_connection, &new_connection] {
        let mut stream = Stream::open(channel).await.unwrap();
        stream.send(&request_headers(None, true)).await;
        stream.expect_reply().await;
    }
    assert!(
        connect_tls(&server, &first, &[&TLS12, &TLS13])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_minimum_version_is_enforced() {
    let (certificate, key) = certificate();
    let server = start_with(
        &ServerOptions {
            tls: Some(tls(&certificate, &key, TlsVersion::Tls13)),
            ..options()
        },
        EchoFactory::default(),
    );
    assert!(connect_tls(&server, &certificate, &[&TLS12]).await.is_err());
    assert!(connect_tls(&server, &certificate, &[&TLS13]).await.is_ok());
    one_handshake_error(&server).await;
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_broken_off() {
    let (certificate, key) = certificate();
    let options = ServerOptions {
        tls: Some(tls(&certificate, &key, TlsVersion::Tls12)),
        handshake_timeout: Duration::from_millis(20),
        ..options()
    };
    let server = start_with(&options, EchoFactory::default());
    let mut silent = TcpStream::connect(("127.0.0.1", port(&server)))
        .await
        .unwrap();
    silent.write_all(b"\x16\x03").await.unwrap();
    // The server hangs up; without its time limit this would wait for ever.
    let _ = silent.read_to_end(&mut Vec::new()).await;
    one_handshake_error(&server).await;
}

#[tokio::test]
async fn a_bad_replacement_is_refused_and_the_old_certificate_stays() {
    let (certificate_pem, key) = certificate();
    let (_, other_key) = certificate();
    let server = start_with(
        &ServerOptions {
            tls: Some(tls(&certificate_pem, &key, TlsVersion::Tls12)),
            ..options()
        },
        EchoFactory::default(),
    );
    assert!(matches!(
        server.replace_tls(b"", key.as_bytes()),
        Err(ServerError::CertificatePem(_))
    ));
    assert!(matches!(
        server.replace_tls(certificate_pem.as_bytes(), b""),
        Err(ServerError::KeyPem(_))
    ));
    assert!(matches!(
        server.replace_tls(certificate_pem.as_bytes(), other_key.as_bytes()),
        Err(ServerError::Tls(_))
    ));
    assert!(
        connect_tls(&server, &certificate_pem, &[&TLS13])
            .await
            .is_ok()
    );
}

#[test]
fn a_plaintext_server_takes_no_certificate() {
    let (certificate, key) = certificate();
    let server = start(EchoFactory::default());
    assert!(matches!(
        server.replace_tls(certificate.as_bytes(), key.as_bytes()),
        Err(ServerError::NotTls)
    ));
}

#[test]
fn a_key_of_another_certificate_does_not_start() {
    let (certificate_pem, _) = certificate();
    let (_, key) = certificate();
    let options = ServerOptions {
        tls: Some(tls(&certificate_pem, &key, TlsVersion::Tls12)),
        ..options()
    };
    assert!(matches!(
        NativeServer::start(&options, Arc::new(EchoFactory::default())),
        Err(ServerError::Tls(_))
    ));
}
