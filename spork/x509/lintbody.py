"""Lint rules for the fields of a TBSCertificate, before its extensions are opened.

Source: RFC 5280 section 4.1.2 and appendix A.1 (upper bounds).
"""

from __future__ import annotations

from datetime import timedelta

from cryptography.hazmat import asn1

from spork.errors import SporkError
from spork.x509.algorithms import load_public_key
from spork.x509.lintview import Rule, View

_V3 = 2
_SERIAL_OCTETS_LIMIT = 20
_SERIAL_BITS_AT_LEAST = 64
"""Baseline Requirements section 7.1: 64 bits from a generator. Ours have 127; a number below 2^64 cannot come from there."""
_FIRST_GENERALIZED_YEAR = 2050


def _version(view: View) -> str | None:
    return None if view.fields.version == _V3 else f"the version is {view.fields.version + 1} and must be 3"


def _serial_not_positive(view: View) -> str | None:
    return None if view.fields.serial_number > 0 else "the serial number is not positive"


def _serial_too_long(view: View) -> str | None:
    # The sign bit counts: a twentieth octet with its top bit set is encoded in twenty-one.
    octets = view.fields.serial_number.bit_length() // 8 + 1
    return None if octets <= _SERIAL_OCTETS_LIMIT else f"the serial number has {octets} octets and may have 20"


def _serial_too_short(view: View) -> str | None:
    if 0 < view.fields.serial_number < 1 << _SERIAL_BITS_AT_LEAST:
        return "the serial number is too small to hold 64 random bits"
    return None


def _signature_algorithm(view: View) -> str | None:
    if asn1.encode_der(view.fields.signature) == view.authority.algorithm.identifier:
        return None
    return f"the signature algorithm is not that of the issuer's key, {view.authority.algorithm.name}"


def _issuer_name(view: View) -> str | None:
    return None if view.issuer == view.authority.subject_der else "the issuer differs from the issuing CA's subject"


def _validity_encoding(view: View) -> str | None:
    for instant in (view.fields.validity.not_before, view.fields.validity.not_after):
        generalized = isinstance(instant, asn1.GeneralizedTime)
        if generalized != (instant.as_datetime().year >= _FIRST_GENERALIZED_YEAR):
            return "dates through 2049 must be UTCTime and later ones GeneralizedTime"
    return None


def _validity_order(view: View) -> str | None:
    return None if view.not_before <= view.not_after else "notAfter lies before notBefore"


def _validity_beyond_issuer(view: View) -> str | None:
    limit = view.authority.not_after
    if view.self_signed or limit is None or view.not_after <= limit:
        return None
    return f"notAfter lies beyond the issuer's own, {limit:%Y-%m-%d %H:%M:%S}Z"


def _validity_before_issuer(view: View) -> str | None:
    start = view.limits.not_before
    return None if start is None or view.not_before >= start else "notBefore lies before the issuer's own"


def _validity_beyond_profile(view: View) -> str | None:
    # Both ends belong to the validity (RFC 5280 section 4.1.2.5), hence the second.
    lifetime = view.not_after - view.not_before + timedelta(seconds=1)
    if lifetime <= view.profile.max_validity:
        return None
    return f"it would live {lifetime}, and the profile {view.profile.name} allows {view.profile.max_validity}"


def _duplicate_extension(view: View) -> str | None:
    oids = [extension.oid.dotted_string for extension in view.fields.extensions or ()]
    repeated = sorted({oid for oid in oids if oids.count(oid) > 1})
    return f"the extension {', '.join(repeated)} is there more than once" if repeated else None


def _no_extensions(view: View) -> str | None:
    return None if view.fields.extensions else "there are no extensions"


def _public_key(view: View) -> str | None:
    try:
        load_public_key(view.spki)
    except SporkError as error:
        return f"the public key is unusable: {error.detail}"
    return None


def _unexpected_extension(view: View) -> str | None:
    known = KNOWN_EXTENSIONS
    strange = [e.oid.dotted_string for e in view.fields.extensions or () if e.oid.dotted_string not in known]
    return f"the extension {', '.join(strange)} is not one that a profile asks for" if strange else None


KNOWN_EXTENSIONS = frozenset(
    {
        "2.5.29.14",  # subjectKeyIdentifier
        "2.5.29.15",  # keyUsage
        "2.5.29.17",  # subjectAltName
        "2.5.29.19",  # basicConstraints
        "2.5.29.30",  # nameConstraints
        "2.5.29.31",  # cRLDistributionPoints
        "2.5.29.32",  # certificatePolicies
        "2.5.29.35",  # authorityKeyIdentifier
        "2.5.29.37",  # extKeyUsage
        "2.5.29.46",  # freshestCRL
        "1.3.6.1.5.5.7.1.1",  # authorityInfoAccess
        "1.3.6.1.5.5.7.48.1.5",  # OCSP nocheck
    }
)
"""What the template can write. Whatever else is in a TBS did not come from there."""

BODY_RULES = (
    Rule("rfc5280.version", "error", _version),
    Rule("rfc5280.serial_not_positive", "error", _serial_not_positive),
    Rule("rfc5280.serial_too_long", "error", _serial_too_long),
    Rule("spork.serial_too_short", "error", _serial_too_short),
    Rule("rfc5280.signature_algorithm", "error", _signature_algorithm),
    Rule("rfc5280.issuer_name", "error", _issuer_name),
    Rule("rfc5280.validity_encoding", "error", _validity_encoding),
    Rule("rfc5280.validity_order", "error", _validity_order),
    Rule("spork.validity_beyond_issuer", "error", _validity_beyond_issuer),
    Rule("spork.validity_before_issuer", "error", _validity_before_issuer),
    Rule("spork.validity_beyond_profile", "error", _validity_beyond_profile),
    Rule("rfc5280.duplicate_extension", "error", _duplicate_extension),
    Rule("rfc5280.no_extensions", "error", _no_extensions),
    Rule("spork.unexpected_extension", "error", _unexpected_extension),
    Rule("rfc5280.public_key", "error", _public_key),
)
