"""The extensions of a certificate, from its profile and its issuer.

What is the same for all certificates of one profile, issuer and key family is encoded once and kept. The values come from the
encoders of `cryptography.x509`.
Source: RFC 5280 section 4.2; RFC 6960 section 4.2.2.2.1 (OCSP nocheck); RFC 9881 section 5 (key usage of ML-DSA).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cryptography import x509

from spork.x509.algorithms import Family
from spork.x509.authority import Authority, AuthorityURLs
from spork.x509.der import Extension
from spork.x509.names import SubjectName, to_general_name
from spork.x509.profile import CAConstraints, Profile
from spork.x509.spki import family_of, key_identifier

ANY_POLICY = "2.5.29.32.0"

_USAGES = (
    ("digitalSignature", "digital_signature"),
    ("nonRepudiation", "content_commitment"),
    ("keyEncipherment", "key_encipherment"),
    ("dataEncipherment", "data_encipherment"),
    ("keyAgreement", "key_agreement"),
    ("keyCertSign", "key_cert_sign"),
    ("cRLSign", "crl_sign"),
    ("encipherOnly", "encipher_only"),
    ("decipherOnly", "decipher_only"),
)
_FAMILIES_OF_USAGE: dict[str, frozenset[Family]] = {
    "keyEncipherment": frozenset({"rsa"}),
    "dataEncipherment": frozenset({"rsa"}),
    "keyAgreement": frozenset({"ecdsa"}),
    "encipherOnly": frozenset({"ecdsa"}),
    "decipherOnly": frozenset({"ecdsa"}),
}
"""Families whose keys can do it at all. What is not listed is signing, which every family of the table can."""


def extensions_for(
    profile: Profile,
    authority: Authority,
    *,
    names: Sequence[SubjectName],
    subject: x509.Name,
    spki: bytes,
    serial: int,
    constraints: CAConstraints | None = None,
    policies: Sequence[str] = (),
) -> list[Extension]:
    """All extensions, in the order in which they are signed.

    `constraints` are for CA profiles only; `policies` are further certificate policy OIDs beside the profile's.
    Raises SporkError(BAD_PUBLIC_KEY) for a key that cannot be read, ValueError for a name that its kind cannot hold.
    """
    self_signed = spki == authority.spki
    limits = (constraints or CAConstraints()) if profile.ca else None
    extensions = [*_usage_extensions(profile, family_of(spki), limits)]
    extensions.append(_extension(x509.SubjectKeyIdentifier(key_identifier(spki))))
    if not self_signed:
        extensions.append(_authority_key_identifier(authority.subject_key_identifier))
    if names:
        # RFC 5280 section 4.2.1.6: critical where the subject is empty, for then nothing else names the subject.
        alternative = x509.SubjectAlternativeName([to_general_name(name) for name in names])
        extensions.append(_extension(alternative, critical=not subject.rdns))
    asserted = _policies(profile, limits, tuple(policies), self_signed=self_signed)
    if asserted:
        extensions.append(_certificate_policies(asserted))
    if limits is not None and limits.name_constraints is not None:
        extensions.append(_extension(limits.name_constraints, critical=True))
    if not self_signed:
        extensions.extend(location_extensions(profile, authority, serial))
    if profile.ocsp_no_check:
        extensions.append(_extension(x509.OCSPNoCheck()))
    return extensions


def key_usage_bits(profile: Profile, family: Family) -> frozenset[str]:
    """The usages of the profile that a key of this family can have."""
    every: frozenset[Family] = frozenset({family})
    return frozenset(bit for bit in profile.key_usage if family in _FAMILIES_OF_USAGE.get(bit, every))


def location_extensions(profile: Profile, authority: Authority, serial: int) -> tuple[Extension, ...]:
    """Where the CRL that will list this serial, OCSP answers and the issuer's certificate are found."""
    return _location_extensions(authority.urls, authority.shard_of(serial), revocation=profile.revocation_urls)


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> Extension:
    return Extension(oid=value.oid, critical=critical, value=value.public_bytes())


@lru_cache(maxsize=1024)
def _usage_extensions(profile: Profile, family: Family, limits: CAConstraints | None) -> tuple[Extension, ...]:
    """basicConstraints, keyUsage and extendedKeyUsage: what the key may do."""
    extensions = []
    if limits is not None:
        extensions.append(_extension(x509.BasicConstraints(ca=True, path_length=limits.path_length), critical=True))
    bits = key_usage_bits(profile, family)
    flags = {parameter: name in bits for name, parameter in _USAGES}
    extensions.append(_extension(x509.KeyUsage(**flags), critical=True))
    purposes = limits.extended_key_usage if limits is not None else profile.extended_key_usage
    if purposes:
        value = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in purposes])
        extensions.append(_extension(value, critical=profile.critical_extended_key_usage))
    return tuple(extensions)


@lru_cache(maxsize=1024)
def _authority_key_identifier(identifier: bytes) -> Extension:
    return _extension(x509.AuthorityKeyIdentifier(identifier, None, None))


def _policies(
    profile: Profile, limits: CAConstraints | None, further: tuple[str, ...], *, self_signed: bool
) -> tuple[str, ...]:
    """Each OID once. A self-signed certificate does not repeat that any policy is allowed: a trust anchor's are not read."""
    own = limits.policies if limits is not None else ()
    asserted = tuple(dict.fromkeys((*profile.policies, *own, *further)))
    return () if self_signed and asserted == (ANY_POLICY,) else asserted


@lru_cache(maxsize=1024)
def _certificate_policies(policies: tuple[str, ...]) -> Extension:
    return _extension(
        x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in policies])
    )


@lru_cache(maxsize=8192)
def _location_extensions(urls: AuthorityURLs, shard: int, *, revocation: bool) -> tuple[Extension, ...]:
    extensions = []
    if revocation and urls.crl:
        extensions.append(_extension(x509.CRLDistributionPoints(_distribution_point(urls.crl, shard))))
        if urls.delta_crl:
            extensions.append(_extension(x509.FreshestCRL(_distribution_point(urls.delta_crl, shard))))
    method = x509.oid.AuthorityInformationAccessOID
    places = [(method.OCSP, url) for url in urls.ocsp if revocation]
    places += [(method.CA_ISSUERS, url) for url in urls.ca_issuers]
    if places:
        descriptions = [x509.AccessDescription(oid, x509.UniformResourceIdentifier(url)) for oid, url in places]
        extensions.append(_extension(x509.AuthorityInformationAccess(descriptions)))
    return tuple(extensions)


def _distribution_point(urls: tuple[str, ...], shard: int) -> list[x509.DistributionPoint]:
    """One point with all its URLs: they are ways to the same CRL (RFC 5280 section 4.2.1.13)."""
    names = [x509.UniformResourceIdentifier(url.replace("{shard}", str(shard))) for url in urls]
    return [x509.DistributionPoint(full_name=names, relative_name=None, reasons=None, crl_issuer=None)]
