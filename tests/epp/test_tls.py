"""Certificates: self-signed, from a directory, reloaded over real handshakes."""

import ipaddress
import socket
import ssl

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmroute.host.tls import CertificateError, load_pair, self_signed

from .conftest import eventually


def served_certificate(address):
    """The certificate of a fresh handshake that offers h2, as gRPC clients do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection, context.wrap_socket(connection) as secured:
        assert secured.selected_alpn_protocol() == "h2"
        return secured.getpeercert(binary_form=True)


def der(pair):
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


def install(directory, pair):
    """A new version of the directory, swapped in by a link, as Kubernetes mounts secrets."""
    version = directory / f"..{len(list(directory.iterdir()))}"
    version.mkdir()
    (version / "tls.crt").write_bytes(pair.certificate)
    (version / "tls.key").write_bytes(pair.key)
    (directory / "..next").symlink_to(version.name)
    (directory / "..next").replace(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def test_self_signed_certificate_has_the_stated_properties():
    certificate = x509.load_pem_x509_certificate(self_signed().certificate)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.subject.rfc4514_string() == "O=Inference Ext"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3650
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert ipaddress.ip_address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]


def test_key_of_another_certificate_is_refused(tmp_path):
    (tmp_path / "tls.crt").write_bytes(self_signed().certificate)
    (tmp_path / "tls.key").write_bytes(self_signed().key)
    with pytest.raises(CertificateError, match="is not the key of"):
        load_pair(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_unreadable_certificate_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "tls.crt").write_bytes(content)
    (tmp_path / "tls.key").write_bytes(self_signed().key)
    with pytest.raises(CertificateError):
        load_pair(tmp_path)


def test_picker_serves_tls_with_a_self_signed_certificate_by_default(start_picker, host):
    picker = start_picker(f"--host={host}", "--secure-serving")
    assert x509.load_der_x509_certificate(served_certificate(picker.grpc)).subject.rfc4514_string() == "O=Inference Ext"


def test_certificate_of_a_directory_is_served_and_reloaded(start_picker, host, tmp_path):
    first, second = self_signed(), self_signed()
    install(tmp_path, first)
    picker = start_picker(f"--host={host}", f"--cert-path={tmp_path}", "--enable-cert-reload")
    assert served_certificate(picker.grpc) == der(first)
    bad = self_signed()
    install(tmp_path, type(bad)(bad.certificate, second.key))
    eventually(lambda: picker.logged("new certificate refused"))
    assert served_certificate(picker.grpc) == der(first)
    install(tmp_path, second)
    eventually(lambda: served_certificate(picker.grpc) == der(second))


def test_without_reload_the_first_certificate_stays(start_picker, host, tmp_path):
    first = self_signed()
    install(tmp_path, first)
    picker = start_picker(f"--host={host}", f"--cert-path={tmp_path}")
    install(tmp_path, self_signed())
    assert served_certificate(picker.grpc) == der(first)


def test_missing_certificate_ends_the_start(start_process, tmp_path):
    process = start_process("--endpoint=http://127.0.0.1:9", f"--cert-path={tmp_path}")
    assert process.wait() == 2
    assert "--cert-path:" in "".join(process.errors)


def test_client_that_verifies_the_certificate_gets_through(start_picker, tmp_path):
    pair = self_signed()
    install(tmp_path, pair)
    picker = start_picker("--host=grpcio", "--health-checking", f"--cert-path={tmp_path}", "--tls-min-version=VersionTLS12")
    with grpc.secure_channel(picker.grpc, grpc.ssl_channel_credentials(pair.certificate)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_native_host_refuses_tls_below_the_minimum(start_picker):
    picker = start_picker("--secure-serving", "--tls-min-version=VersionTLS13")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = picker.grpc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(connection)
