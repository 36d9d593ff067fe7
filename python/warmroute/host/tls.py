"""Certificates of the ext_proc port: a self-signed one, or one from a directory that is watched."""

import ipaddress
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from warmroute.config.errors import UsageError
from warmroute.host.base import CertificatePair
from warmroute.host.watch import FileWatcher
from warmroute.logging import fields

logger = logging.getLogger(__name__)

CERTIFICATE_FILE, KEY_FILE = "tls.crt", "tls.key"
_VALIDITY = timedelta(days=3650)
# Clocks of client and server may differ a little.
_CLOCK_SKEW = timedelta(hours=1)
# The watcher reports once no event has come for _QUIET_MS (the reference's 250 ms), or at the latest after _LONGEST_MS of events.
_QUIET_MS, _LONGEST_MS = 250, 5000
_LARGEST_FILE = 1024 * 1024


class CertificateError(Exception):
    """A certificate or key that cannot be used."""


def self_signed() -> CertificatePair:
    """A fresh self-signed certificate for this machine's names, valid ten years.

    ECDSA P-256 where the reference takes RSA-4096: made in a millisecond instead of seconds, cheaper at each handshake, and equally
    unauthenticated.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Inference Ext")])
    now = datetime.now(UTC)
    hosts = {"localhost", socket.gethostname()} - {""}
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in sorted(hosts) if host.isascii()]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificatePair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def load_pair(directory: Path) -> CertificatePair:
    """Read and check `tls.crt` and `tls.key`: both parse, and the key is the certificate's. Raises CertificateError."""
    pair = CertificatePair(_read(directory / CERTIFICATE_FILE), _read(directory / KEY_FILE))
    try:
        certificate = x509.load_pem_x509_certificates(pair.certificate)[0]
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError, IndexError) as error:
        message = f"{directory}: {CERTIFICATE_FILE} or {KEY_FILE} is not readable PEM: {error}"
        raise CertificateError(message) from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        message = f"{directory}: {KEY_FILE} is not the key of {CERTIFICATE_FILE}"
        raise CertificateError(message)
    return pair


def initial_pair(cert_path: Path | None) -> CertificatePair:
    """The certificate to start with. Raises UsageError naming --cert-path."""
    if cert_path is None:
        return self_signed()
    try:
        return load_pair(cert_path)
    except CertificateError as error:
        message = f"--cert-path: {error}"
        raise UsageError(message) from error


class CertificateWatcher:
    """Follows a certificate directory. Make it before the first certificate is read, so that no change in between is missed."""

    def __init__(self, directory: Path) -> None:
        """Nothing is watched before `follow`."""
        self._directory = directory
        self._watcher = FileWatcher([directory / CERTIFICATE_FILE, directory / KEY_FILE], _QUIET_MS, _LONGEST_MS)

    async def follow(self, current: CertificatePair, apply: Callable[[CertificatePair], None]) -> None:
        """Call `apply` with each new good certificate until cancelled; a bad one is logged and the old one stays."""
        async for _ in self._watcher.changes():
            current = _reload(self._directory, current, apply)


def _reload(directory: Path, current: CertificatePair, apply: Callable[[CertificatePair], None]) -> CertificatePair:
    try:
        pair = load_pair(directory)
        if pair == current:
            return current
        apply(pair)
    except (CertificateError, ValueError) as error:
        details = fields(directory=str(directory), error=str(error))
        logger.error("new certificate refused; serving the old one", extra=details)  # noqa: TRY400 - the trace tells nothing
        return current
    logger.info("certificate replaced", extra=fields(directory=str(directory)))
    return pair


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise CertificateError(message) from error
    if len(content) > _LARGEST_FILE:
        message = f"{path} is larger than {_LARGEST_FILE} bytes"
        raise CertificateError(message)
    return content
