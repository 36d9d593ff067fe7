//! HTTPS: who is trusted, what is shown, and files that cannot be used.

use std::path::PathBuf;

use warmroute_scrape::{Scheme, ScrapeSettings, ScrapeState, Scraper, SourceSettings, TlsSettings};

use crate::certificates::{Authority, file, self_signed};
use crate::server::{Server, page};
use crate::support::{settings, start, state_of};

const PAGE: &str = "vllm:num_requests_waiting 3\n";

fn https(tls: TlsSettings) -> ScrapeSettings {
    ScrapeSettings {
        sources: vec![SourceSettings {
            scheme: Scheme::Https,
            tls,
            ..SourceSettings::metrics()
        }],
        ..settings()
    }
}

fn verified(authority: Option<PathBuf>) -> TlsSettings {
    TlsSettings {
        insecure_skip_verify: false,
        ca_cert_path: authority,
        ..TlsSettings::default()
    }
}

#[test]
fn any_certificate_will_do_without_verification_and_the_connection_is_kept() {
    let config = Authority::new("authority").server("elsewhere.example", false);
    let server = Server::start_tls(config, |_, _| page(PAGE));
    let (_pool, endpoint, scraper) = start(&server, https(TlsSettings::default()));
    let state = state_of(&scraper, "five pages", |state| state.scrapes >= 5);
    assert_eq!((state.ok, state.failures), (true, 0), "{}", state.error);
    assert_eq!(endpoint.metrics.load().waiting, Some(3.0));
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_certificate_of_the_named_authority_for_the_endpoints_address_is_trusted() {
    let authority = Authority::new("authority");
    let path = file("trusted-authority.pem", &authority.certificate);
    let server = Server::start_tls(authority.server("127.0.0.1", false), |_, _| page(PAGE));
    let (_pool, _endpoint, scraper) = start(&server, https(verified(Some(path))));
    let state = state_of(&scraper, "a page", |state| state.scrapes > 0);
    assert_eq!((state.ok, state.failures), (true, 0), "{}", state.error);
}

#[test]
fn a_self_signed_certificate_that_the_file_holds_is_trusted_for_its_own_names() {
    for (host, trusted) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let (config, certificate) = self_signed(host);
        let path = file(&format!("self-signed-{host}.pem"), &certificate);
        let server = Server::start_tls(config, |_, _| page(PAGE));
        let (_pool, _endpoint, scraper) = start(&server, https(verified(Some(path))));
        let tried = |state: &ScrapeState| state.scrapes + state.failures > 0;
        let state = state_of(&scraper, "an attempt", tried);
        assert_eq!(state.ok, trusted, "{}", state.error);
        assert!(
            trusted || state.error.contains("not valid for name"),
            "{}",
            state.error
        );
    }
}

#[test]
fn other_certificates_are_refused_under_verification() {
    let authority = Authority::new("authority");
    let path = file("refusing-authority.pem", &authority.certificate);
    let others = Authority::new("others");
    for (config, ca_cert_path, reason) in [
        (
            others.server("127.0.0.1", false),
            Some(path.clone()),
            "UnknownIssuer",
        ),
        (others.server("127.0.0.1", false), None, "UnknownIssuer"),
        (
            authority.server("127.0.0.2", false),
            Some(path),
            "not valid for name",
        ),
    ] {
        let server = Server::start_tls(config, |_, _| page(PAGE));
        let (_pool, endpoint, scraper) = start(&server, https(verified(ca_cert_path)));
        let state = state_of(&scraper, "a failure", |state| state.failures > 0);
        assert!(state.error.starts_with("no TLS: "), "{}", state.error);
        assert!(state.error.contains(reason), "{}", state.error);
        assert!(endpoint.refreshed().is_none());
    }
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_the_configured_one() {
    let authority = Authority::new("authority");
    let server = Server::start_tls(authority.server("127.0.0.1", true), |_, _| page(PAGE));
    let (_pool, _endpoint, scraper) = start(&server, https(TlsSettings::default()));
    let state = state_of(&scraper, "a failure", |state| state.failures > 0);
    assert!(
        !state.ok && state.error.contains("CertificateRequired"),
        "{}",
        state.error
    );
    drop(scraper);

    let pair = authority.sign("picker");
    let (_pool, _endpoint, scraper) = start(
        &server,
        https(TlsSettings {
            client_cert_path: Some(file("client.pem", &pair.certificate)),
            client_key_path: Some(file("client.key", &pair.key)),
            ..TlsSettings::default()
        }),
    );
    let state = state_of(&scraper, "a page", |state| state.scrapes > 0);
    assert_eq!((state.ok, state.failures), (true, 0), "{}", state.error);
}

#[test]
fn replaced_files_are_used_without_a_restart_unless_they_are_bad() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let path = file("replaced-authority.pem", &old.certificate);
    let server = Server::start_tls(new.server("127.0.0.1", false), |_, _| page(PAGE));
    let settings = ScrapeSettings {
        tls_reload: std::time::Duration::from_millis(10),
        ..https(verified(Some(path)))
    };
    let (_pool, _endpoint, scraper) = start(&server, settings);
    state_of(&scraper, "a failure", |state| state.failures > 0);
    file("replaced-authority.pem", &new.certificate);
    state_of(&scraper, "a page", |state| state.ok);
    file("replaced-authority.pem", "damaged");
    let state = state_of(&scraper, "a complaint", |state| !state.tls_error.is_empty());
    assert!(
        state.tls_error.starts_with("caCertPath: ") && state.tls_error.ends_with("stays in use"),
        "{}",
        state.tls_error
    );
    let before = state.scrapes;
    state_of(&scraper, "more pages", |state| state.scrapes > before + 2);
    file("replaced-authority.pem", &new.certificate);
    state_of(&scraper, "no complaint", |state| state.tls_error.is_empty());
}

#[test]
fn plain_text_where_tls_is_expected_is_named() {
    let server = Server::start(|_, _| page(PAGE));
    let settings = ScrapeSettings {
        timeout: std::time::Duration::from_millis(100),
        ..https(TlsSettings::default())
    };
    let (_pool, _endpoint, scraper) = start(&server, settings);
    let state = state_of(&scraper, "a failure", |state| state.failures > 0);
    // The server waits for the end of a request that never comes.
    assert_eq!(state.error, "no complete page in time");
}

#[test]
fn files_that_cannot_be_used_are_refused_by_source_and_field() {
    let authority = Authority::new("authority");
    let (pair, other) = (authority.sign("picker"), authority.sign("other"));
    let nowhere = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nowhere.pem");
    let certificate = file("refused-client.pem", &pair.certificate);
    let key = file("refused-client.key", &other.key);
    let empty = file("refused-empty.pem", "nothing\n");
    let client =
        |client_cert_path: Option<&PathBuf>, client_key_path: Option<&PathBuf>| TlsSettings {
            client_cert_path: client_cert_path.cloned(),
            client_key_path: client_key_path.cloned(),
            ..TlsSettings::default()
        };
    for (tls, field, reason) in [
        (
            verified(Some(nowhere.clone())),
            "caCertPath",
            "No such file",
        ),
        (
            verified(Some(empty.clone())),
            "caCertPath",
            "no CERTIFICATE section",
        ),
        (
            client(Some(&certificate), None),
            "clientKeyPath",
            "needs its key",
        ),
        (
            client(None, Some(&key)),
            "clientCertPath",
            "needs its certificate",
        ),
        (
            client(Some(&certificate), Some(&nowhere)),
            "clientKeyPath",
            "No such file",
        ),
        (
            client(Some(&certificate), Some(&empty)),
            "clientKeyPath",
            "refused-empty.pem",
        ),
        (
            client(Some(&certificate), Some(&key)),
            "clientCertPath",
            "key",
        ),
    ] {
        let error = Scraper::start(std::sync::Arc::default(), https(tls), 1)
            .expect_err("bad files")
            .to_string();
        let start = format!("source \"metrics-data-source\": {field}: ");
        assert!(
            error.starts_with(&start) && error.contains(reason),
            "{error}"
        );
    }
    let plain = ScrapeSettings {
        sources: vec![SourceSettings {
            tls: verified(Some(nowhere)),
            ..SourceSettings::metrics()
        }],
        ..settings()
    };
    assert!(Scraper::start(std::sync::Arc::default(), plain, 1).is_ok());
}
