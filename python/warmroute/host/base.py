"""What the life cycle needs of a host."""

from dataclasses import dataclass
from typing import Protocol

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD = f"/{SERVICE}/Process"


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """A certificate chain and its private key, PEM."""

    certificate: bytes
    key: bytes


class ExtProcHost(Protocol):
    """An ext_proc server."""

    async def start(self) -> None:
        """Serve. Raises ListenError, and ValueError for a bad certificate."""

    @property
    def address(self) -> str:
        """Where it listens, with the real port."""

    def streams(self) -> int:
        """Streams open now."""

    def replace_tls(self, pair: CertificatePair) -> None:
        """New connections use this certificate; ValueError when it cannot be used (the old one stays)."""

    async def stop(self, drain_seconds: float) -> bool:
        """Accept no more, let open streams end for up to `drain_seconds`, then close. True when all ended by themselves."""
