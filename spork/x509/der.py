"""The one DER path: what SPORK signs is declared here as ASN.1 types, encoded once, signed by a `Signer`, and wrapped.

`ToBeSigned` has one subclass per kind of signed object. A Signer takes nothing else, and only the kinds that its key's
purpose allows, so that no bytes of unknown meaning are ever signed.
Source: RFC 5280 section 4.1 (Certificate) and 5.1 (CertificateList), RFC 2986 (CertificationRequest), RFC 6960 section 4.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Protocol

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from spork.x509.algorithms import Algorithm

Time = asn1.UTCTime | asn1.GeneralizedTime


class KeyPurpose(StrEnum):
    """What a private key is for. It decides which kinds of object the key may sign."""

    CA = "ca"
    OCSP = "ocsp"
    LISTENER = "listener"
    AUDIT = "audit"
    ADMIN = "admin"
    LEAF = "leaf"


@dataclass(frozen=True, slots=True)
class ToBeSigned:
    """The encoded octets that a signature covers. Only the subclasses below are ever signed."""

    der: bytes


class CertificateTBS(ToBeSigned):
    """A TBSCertificate."""


class CRLTBS(ToBeSigned):
    """A TBSCertList."""


class CSRTBS(ToBeSigned):
    """A CertificationRequestInfo."""


class OCSPResponseTBS(ToBeSigned):
    """An OCSP ResponseData."""


class AuditCheckpointTBS(ToBeSigned):
    """A checkpoint over the audit log."""


ALLOWED_KINDS: dict[KeyPurpose, tuple[type[ToBeSigned], ...]] = {
    KeyPurpose.CA: (CertificateTBS, CRLTBS, CSRTBS),
    KeyPurpose.OCSP: (OCSPResponseTBS, CSRTBS),
    KeyPurpose.LISTENER: (CSRTBS,),
    KeyPurpose.AUDIT: (AuditCheckpointTBS, CSRTBS),
    KeyPurpose.ADMIN: (CSRTBS,),
    KeyPurpose.LEAF: (CSRTBS,),
}


class Signer(Protocol):
    """A private key that signs typed objects. Implemented in `keys`; nothing else holds private keys."""

    @property
    def algorithm(self) -> Algorithm:
        """The row of the algorithm table that this key signs with."""
        ...

    @property
    def purpose(self) -> KeyPurpose:
        """What the key is for."""
        ...

    @property
    def spki(self) -> bytes:
        """DER of the SubjectPublicKeyInfo."""
        ...

    def sign(self, tbs: ToBeSigned) -> bytes:
        """The signature's octets (BIT STRING content). Raises SporkError(FORBIDDEN) for a kind that the purpose does not allow."""
        ...


@asn1.sequence
class Validity:
    not_before: asn1.UTCTime | asn1.GeneralizedTime
    not_after: asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class Extension:
    """One extension; `value` is the content of the OCTET STRING, that is, the DER of the extension's own type."""

    oid: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class TBSCertificate:
    version: Annotated[int, asn1.Explicit(0), asn1.Default(0)]
    serial_number: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: Validity
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    extensions: Annotated[list[Extension] | None, asn1.Explicit(3)]


@asn1.sequence
class _Signed:
    tbs: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


def raw(der: bytes) -> asn1.TLV:
    """One encoded value, to be placed as it is inside another. Raises ValueError for anything but one whole TLV."""
    return asn1.decode_der(asn1.TLV, der)


def time(instant: datetime) -> asn1.UTCTime | asn1.GeneralizedTime:
    """UTCTime through 2049 and GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5); fractions of a second are cut."""
    whole = instant.astimezone(UTC).replace(microsecond=0)
    return asn1.UTCTime(whole) if 1950 <= whole.year < 2050 else asn1.GeneralizedTime(whole)


def wrap(tbs: ToBeSigned, algorithm: Algorithm, signature: bytes) -> bytes:
    """SEQUENCE { tbs, signatureAlgorithm, signature }: the form that certificates, CRLs, CSRs share.

    The TBS of certificates and CRLs names the algorithm too; it must be the same octets (RFC 5280 section 4.1.1.2).
    """
    return asn1.encode_der(
        _Signed(tbs=raw(tbs.der), algorithm=raw(algorithm.identifier), signature=asn1.BitString(signature, 0))
    )


def unwrap(der: bytes) -> tuple[bytes, bytes, bytes]:
    """Inverse of `wrap` for signed objects from anywhere: TBS, AlgorithmIdentifier (both whole TLVs), signature octets.

    Raises ValueError, also for a signature whose number of bits is not a multiple of eight.
    """
    signed = asn1.decode_der(_Signed, der)
    if signed.signature.padding_bits():
        raise ValueError("the signature is not a whole number of octets")
    return asn1.encode_der(signed.tbs), asn1.encode_der(signed.algorithm), signed.signature.as_bytes()


def sign(tbs: ToBeSigned, signer: Signer) -> bytes:
    """Signs and wraps in one step. Slow algorithms (`Algorithm.slow`) belong off the event loop."""
    return wrap(tbs, signer.algorithm, signer.sign(tbs))
