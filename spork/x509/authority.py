"""A CA as those see it who issue under it: names, keys, limits and URLs of one generation, without its private key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from spork.ids import HIERARCHY_FILE, AuthorityId, KeyId
from spork.x509.algorithms import Algorithm


class AuthorityKind(StrEnum):
    """Where a CA stands in the tree."""

    ROOT = "root"
    POLICY = "policy"
    ISSUING = "issuing"
    MANAGEMENT = "management"


class KeyMode(StrEnum):
    """Where a CA's private key is and who may open it."""

    SEALED = "sealed"
    ONLINE = "online"
    OFFLINE = "offline"
    PKCS11 = "pkcs11"


@dataclass(frozen=True, slots=True)
class AuthorityURLs:
    """The URLs that certificates signed by this CA carry (one generation's). Empty tuples leave the extension out."""

    crl: tuple[str, ...] = ()
    """cRLDistributionPoints. `{shard}` is replaced by the certificate's shard where the CA has shards."""
    delta_crl: tuple[str, ...] = ()
    """freshestCRL; `{shard}` as above."""
    ocsp: tuple[str, ...] = ()
    ca_issuers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authority:
    """One generation of a CA. Immutable snapshot; `certificate` is None only while a root signs itself."""

    id: AuthorityId
    kind: AuthorityKind
    generation: int
    key_mode: KeyMode
    key_id: KeyId | None
    subject: x509.Name
    subject_der: bytes
    spki: bytes
    subject_key_identifier: bytes
    """SHA-1 of the subjectPublicKey BIT STRING's content (RFC 5280 section 4.2.1.2 method 1)."""
    algorithm: Algorithm
    """What the CA's key signs with."""
    certificate: x509.Certificate | None
    chain: tuple[x509.Certificate, ...]
    """Issuer certificates from the one that signed `certificate` up to, and with, the root; empty for a root."""
    not_after: datetime | None
    urls: AuthorityURLs
    crl_shards: int = 1
    parent_id: AuthorityId | None = None
    stopped: str | None = None
    """Why it signs no more certificates, as the end of a sentence (`it is disabled`), or None. Its CRLs and OCSP answers go on."""
    profiles: tuple[str, ...] = ()
    """Profiles that issuers on this CA may offer; empty means all."""
    declared_by: str = HIERARCHY_FILE
    """Whose declaration it comes from; see `ids.HIERARCHY_FILE`."""

    def shard_of(self, serial: int) -> int:
        """The CRL shard that covers this serial: 0 where there is only one CRL, else 1 to `crl_shards`."""
        return 0 if self.crl_shards <= 1 else 1 + serial % self.crl_shards
