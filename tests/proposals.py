"""Builders of proposals: a good one by default, and each test changes what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.ids import AuthorityId, IssuerId
from spork.policy.issuer import Issuer, KeyPolicy, NamePolicy
from spork.policy.proposal import Door, Evidence, Grant, Proposal, Requester
from spork.x509.algorithms import BY_NAME
from spork.x509.authority import Authority, AuthorityKind, AuthorityURLs, KeyMode
from spork.x509.names import SubjectName, dns
from spork.x509.profiles import profile_named

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
CA_BEGINS, CA_ENDS = NOW - timedelta(days=100), NOW + timedelta(days=1000)
CA_KEY = ec.generate_private_key(ec.SECP256R1())
LEAF_KEY = ec.generate_private_key(ec.SECP256R1())

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def spki_of(key: Any) -> bytes:
    octets: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


def name_of(text: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(text)


def ca_certificate(
    *,
    subject: str = "CN=Issuing",
    issuer: str = "CN=Root",
    path_length: int | None = None,
    ca: bool = True,
    names: x509.NameConstraints | None = None,
    usages: Sequence[str] = (),
) -> x509.Certificate:
    """A certificate of the test CA's key. Who signed it does not matter to the rules."""
    builder = (
        x509.CertificateBuilder(
            issuer_name=name_of(issuer), subject_name=name_of(subject), public_key=CA_KEY.public_key(), serial_number=7
        )
        .not_valid_before(CA_BEGINS)
        .not_valid_after(CA_ENDS)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=True)
    if usages:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in usages]), critical=False
        )
    return builder.sign(CA_KEY, hashes.SHA256())


ISSUING = ca_certificate()


def an_authority(certificate: x509.Certificate | None = ISSUING, **changes: Any) -> Authority:
    subject = certificate.subject if certificate is not None else name_of("CN=Root")
    return replace(
        Authority(
            id=AuthorityId("issuing"),
            kind=AuthorityKind.ISSUING,
            generation=1,
            key_mode=KeyMode.ONLINE,
            key_id=None,
            subject=subject,
            subject_der=subject.public_bytes(),
            spki=spki_of(CA_KEY),
            subject_key_identifier=bytes(20),
            algorithm=BY_NAME["ecdsa-p256"],
            certificate=certificate,
            chain=(),
            not_after=CA_ENDS,
            urls=AuthorityURLs(),
        ),
        **changes,
    )


def an_issuer(**changes: Any) -> Issuer:
    return replace(
        Issuer(
            id=IssuerId(1),
            namespace="",
            name="web",
            authority_id=AuthorityId("issuing"),
            profiles=("tls-server", "tls-client", "email", "device"),
            names=NamePolicy(
                permit={
                    "dns": ("**.example.com", "example.com"),
                    "ip": ("192.0.2.0/24",),
                    "email": ("@example.com",),
                    "dn": ("O=Example",),
                    "uri": ("https://example.com/app",),
                },
                deny={"dns": ("secret.example.com",)},
            ),
            keys=KeyPolicy(),
            max_validity=None,
            protocols={},
            origin="file",
        ),
        **changes,
    )


def a_csr(
    *names: x509.GeneralName,
    subject: str = "",
    key: Any = LEAF_KEY,
    extensions: Sequence[x509.ExtensionType] = (),
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder(name_of(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def a_proposal(*names: SubjectName | str, profile: str = "tls-server", **changes: Any) -> Proposal:
    """A certificate that every rule lets pass; DNS names may be plain text, and `www.example.com` is the default."""
    wanted = tuple(dns(name) if isinstance(name, str) else name for name in names) or (dns("www.example.com"),)
    not_before = NOW - timedelta(seconds=60)
    return replace(
        Proposal(
            requester=Requester(Door.REST, "admin:alice"),
            grant=Grant(),
            evidence=Evidence("client-certificate", "management/01"),
            authority=an_authority(),
            issuer=an_issuer(),
            profile=profile_named(profile),
            subject=x509.Name([]),
            names=wanted,
            spki=spki_of(LEAF_KEY),
            not_before=not_before,
            not_after=not_before + timedelta(days=90) - timedelta(seconds=1),
        ),
        **changes,
    )
