"""Every certificate of a tree as it would be signed now: the real template, with a throw-away key of the right kind.

Nothing is stored, and no key of the tree is made. What depends on the key (its identifier, the signature) is left out.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.hierarchy.describe import Described, describe_extensions
from spork.hierarchy.model import DeclaredAuthority, DeclaredCrossCertificate, Hierarchy, Validity
from spork.hierarchy.snapshot import PROFILE_OF, declared_snapshot
from spork.ids import AuthorityId
from spork.issuance.resolve import BACKDATE
from spork.x509.algorithms import algorithm_named, algorithm_of, load_public_key
from spork.x509.authority import Authority
from spork.x509.der import wrap
from spork.x509.profile import CAConstraints
from spork.x509.profiles import profile_named
from spork.x509.template import build_tbs


@dataclass(frozen=True, slots=True)
class PreviewedCertificate:
    """One certificate that would be signed. Times are UTC, `not_after` is inclusive."""

    id: str
    """Of the CA or the cross-certificate."""
    kind: str
    """root, policy, issuing or cross."""
    issuer_id: AuthorityId
    subject: str
    algorithm: str
    """Of the key that is certified."""
    signed_with: str
    key_mode: str
    not_before: datetime
    not_after: datetime
    extensions: tuple[Described, ...]
    authority: DeclaredAuthority | None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "issuer": self.issuer_id,
            "subject": self.subject,
            "algorithm": self.algorithm,
            "signed_with": self.signed_with,
            "key_mode": self.key_mode,
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "extensions": [extension.as_json() for extension in self.extensions],
        }


def preview(hierarchy: Hierarchy, *, status_url: str, now: datetime) -> tuple[PreviewedCertificate, ...]:
    """All CA certificates, parents first, then all cross-certificates."""
    snapshots: dict[AuthorityId, Authority] = {}
    certificates = []
    for declared in hierarchy.authorities:
        previewed, snapshots[declared.id] = _authority(declared, snapshots, status_url, now)
        certificates.append(previewed)
    certificates += [_cross(cross, hierarchy, snapshots, now) for cross in hierarchy.cross_certificates]
    return tuple(certificates)


def validity_window(validity: Validity, issuer: Authority | None, now: datetime) -> tuple[datetime, datetime]:
    """The validity of a CA certificate that is signed now: never before nor after its issuer's own.

    A tree that gives a CA as long a life as its parent is meant to end together; the minute between two signatures must not
    make that impossible, so the end is cut. `plan` refuses what would be cut by more than a day.
    """
    not_before = now - BACKDATE
    if issuer is not None and issuer.certificate is not None:
        not_before = max(not_before, issuer.certificate.not_valid_before_utc)
    not_after = validity.end(not_before)
    return not_before, min(not_after, issuer.not_after) if issuer is not None and issuer.not_after else not_after


def _authority(
    declared: DeclaredAuthority, above: dict[AuthorityId, Authority], status_url: str, now: datetime
) -> tuple[PreviewedCertificate, Authority]:
    spki = _throw_away_key(declared.algorithm.name, declared.id)
    own = declared_snapshot(
        declared,
        generation=1,
        key_id=None,
        spki=spki,
        certificate=None,
        chain=(),
        urls=declared.urls_of(1, status_url),
    )
    issuer = own if declared.parent_id is None else above[declared.parent_id]
    window = validity_window(declared.validity, issuer, now)
    certificate = _certificate(PROFILE_OF[declared.kind], issuer, declared.subject, spki, window, declared.constraints)
    previewed = PreviewedCertificate(
        id=declared.id,
        kind=declared.kind.value,
        issuer_id=issuer.id,
        subject=declared.subject.rfc4514_string(),
        algorithm=declared.algorithm.name,
        signed_with=issuer.algorithm.name,
        key_mode=declared.key_mode.value,
        not_before=window[0],
        not_after=window[1],
        extensions=_shown(certificate, issuer),
        authority=declared,
    )
    return previewed, replace(own, certificate=certificate, not_after=window[1])


def _cross(
    cross: DeclaredCrossCertificate, hierarchy: Hierarchy, snapshots: dict[AuthorityId, Authority], now: datetime
) -> PreviewedCertificate:
    issuer = snapshots[cross.issuer_id]
    if cross.subject_id is not None:
        subject = snapshots[cross.subject_id]
        name, spki = subject.subject, subject.spki
    else:
        assert cross.foreign_subject is not None
        assert cross.foreign_spki is not None
        name, spki = cross.foreign_subject, cross.foreign_spki
    window = validity_window(cross.validity, issuer, now)
    certificate = _certificate("cross", issuer, name, spki, window, cross.constraints)
    algorithm = algorithm_of(load_public_key(spki))
    return PreviewedCertificate(
        id=cross.id,
        kind="cross",
        issuer_id=cross.issuer_id,
        subject=name.rfc4514_string(),
        algorithm=algorithm.name if algorithm is not None else "unknown",
        signed_with=issuer.algorithm.name,
        key_mode=hierarchy.by_id[cross.subject_id].key_mode.value if cross.subject_id is not None else "offline",
        not_before=window[0],
        not_after=window[1],
        extensions=_shown(certificate, issuer),
        authority=None,
    )


def _certificate(
    profile: str,
    issuer: Authority,
    subject: x509.Name,
    spki: bytes,
    window: tuple[datetime, datetime],
    constraints: CAConstraints,
) -> x509.Certificate:
    tbs = build_tbs(
        profile=profile_named(profile),
        authority=issuer,
        subject=subject,
        names=(),
        spki=spki,
        # Any serial: which shard a real one falls into is not known before.
        serial=1,
        not_before=window[0],
        not_after=window[1],
        signature=issuer.algorithm,
        constraints=constraints,
    )
    # The parser does not look at the signature, and nobody else sees this certificate.
    return x509.load_der_x509_certificate(wrap(tbs, issuer.algorithm, bytes(64)))


def _shown(certificate: x509.Certificate, issuer: Authority) -> tuple[Described, ...]:
    shards = issuer.crl_shards if issuer.crl_shards > 1 else None
    return describe_extensions(certificate.extensions, shards)


@lru_cache(maxsize=64)
def _throw_away_key(name: str, owner: str) -> bytes:
    """A SubjectPublicKeyInfo for an algorithm of the table. Each owner has its own, so that no CA looks self-signed."""
    algorithm = algorithm_named(name)
    if algorithm.family == "rsa":
        # A number of the right size is enough for a key that never verifies anything, and making a real one takes seconds.
        modulus = secrets.randbits(algorithm.key_bits) | 1 << (algorithm.key_bits - 1) | 1
        return _spki(rsa.RSAPublicNumbers(65537, modulus).public_key())
    if algorithm.family == "ecdsa":
        curves: Iterable[ec.EllipticCurve] = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
        curve = next(curve for curve in curves if curve.key_size == algorithm.key_bits)
        return _spki(ec.generate_private_key(curve).public_key())
    if algorithm.family == "ed25519":
        return _spki(ed25519.Ed25519PrivateKey.generate().public_key())
    kinds: dict[str, Any] = {
        "ml-dsa-44": mldsa.MLDSA44PublicKey,
        "ml-dsa-65": mldsa.MLDSA65PublicKey,
        "ml-dsa-87": mldsa.MLDSA87PublicKey,
    }
    return _spki(kinds[name].from_public_bytes(secrets.token_bytes(algorithm.key_bits // 8)))


def _spki(key: Any) -> bytes:
    octets: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets
