"""From what was decided to the octets that are signed.

Source: RFC 5280 section 4.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat import asn1

from spork.x509.algorithms import Algorithm
from spork.x509.authority import Authority
from spork.x509.der import CertificateTBS, TBSCertificate, Validity, raw, time
from spork.x509.extensions import extensions_for
from spork.x509.names import SubjectName
from spork.x509.profile import CAConstraints, Profile

_V3 = 2


def build_tbs(
    *,
    profile: Profile,
    authority: Authority,
    subject: x509.Name,
    names: Sequence[SubjectName],
    spki: bytes,
    serial: int,
    not_before: datetime,
    not_after: datetime,
    signature: Algorithm,
    constraints: CAConstraints | None = None,
    policies: Sequence[str] = (),
) -> CertificateTBS:
    """The TBSCertificate. Judges nothing: rules came before, lint comes after.

    `authority` is the issuer; for a root that signs itself it is that root's own description. Its subject and the
    SubjectPublicKeyInfo are copied octet for octet, for others compare them so. Times are UTC, `not_after` is inclusive.
    Raises SporkError(BAD_PUBLIC_KEY), ValueError for a name that its kind cannot hold.
    """
    extensions = extensions_for(
        profile,
        authority,
        names=names,
        subject=subject,
        spki=spki,
        serial=serial,
        constraints=constraints,
        policies=policies,
    )
    return CertificateTBS(
        asn1.encode_der(
            TBSCertificate(
                version=_V3,
                serial_number=serial,
                signature=raw(signature.identifier),
                issuer=raw(authority.subject_der),
                validity=Validity(not_before=time(not_before), not_after=time(not_after)),
                subject=raw(_subject_octets(subject, authority, spki)),
                subject_public_key_info=raw(spki),
                extensions=extensions,
            )
        )
    )


def _subject_octets(subject: x509.Name, authority: Authority, spki: bytes) -> bytes:
    """A self-signed certificate has its issuer's very octets as its subject (RFC 5280 section 4.1.2.6)."""
    if spki == authority.spki and subject == authority.subject:
        return authority.subject_der
    return subject.public_bytes()
