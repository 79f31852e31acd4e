"""A certificate in words: what is in it, as lines of label and text."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from spork.errors import SporkError
from spork.ids import serial_text
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.names import from_general_name

_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign",
)  # fmt: skip


def certificate_fields(certificate: x509.Certificate) -> list[tuple[str, Any]]:
    """Labels and texts, in the order in which people look for them."""
    der = certificate.public_bytes(Encoding.DER)
    return [
        ("Subject", certificate.subject.rfc4514_string() or "(empty)"),
        ("Names", _names(certificate)),
        ("Issuer", certificate.issuer.rfc4514_string()),
        ("Serial", serial_text(certificate.serial_number)),
        ("Not before", f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S}Z"),
        ("Not after", f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S}Z"),
        ("Public key", _public_key(certificate)),
        ("Signed with", _signature(certificate)),
        *_extension_fields(certificate),
        ("SHA-256", hashlib.sha256(der).hexdigest().upper()),
    ]


def _extension_fields(certificate: x509.Certificate) -> list[tuple[str, Any]]:
    fields = []
    for extension in certificate.extensions:
        label, text = _described(extension.value)
        if label:
            fields.append((label, f"{text}{' (critical)' if extension.critical else ''}"))
    return fields


def _described(value: x509.ExtensionType) -> tuple[str, str]:
    """Label and text of an extension; an empty label for those that other lines show already."""
    match value:
        case x509.SubjectAlternativeName():
            return "", ""
        case x509.KeyUsage():
            return "Key usage", ", ".join(name.replace("_", " ") for name in _KEY_USAGES if getattr(value, name))
        case x509.ExtendedKeyUsage():
            return "Extended usage", ", ".join(_oid_name(oid) for oid in value)
        case x509.BasicConstraints():
            limit = "" if value.path_length is None else f", path length {value.path_length}"
            return "CA", f"yes{limit}" if value.ca else "no"
        case x509.CertificatePolicies():
            return "Policies", ", ".join(policy.policy_identifier.dotted_string for policy in value)
        case x509.CRLDistributionPoints():
            return "CRL", "\n".join(name.value for point in value for name in point.full_name or () if _is_uri(name))
        case x509.FreshestCRL():
            return "Delta CRL", "\n".join(
                name.value for point in value for name in point.full_name or () if _is_uri(name)
            )
        case x509.AuthorityInformationAccess():
            return "Access", "\n".join(_access(description) for description in value)
        case x509.SubjectKeyIdentifier():
            return "Key id", value.digest.hex().upper()
        case x509.AuthorityKeyIdentifier():
            return "Issuer key id", (value.key_identifier or b"").hex().upper()
        case x509.NameConstraints():
            parts = [f"permit {n.value}" for n in value.permitted_subtrees or ()]
            return "Name constraints", "\n".join(parts + [f"exclude {n.value}" for n in value.excluded_subtrees or ()])
        case x509.OCSPNoCheck():
            return "OCSP", "no check"
        case _:
            return "Extension", value.oid.dotted_string


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(from_general_name(name) or type(name).__name__) for name in names]


def _public_key(certificate: x509.Certificate) -> str:
    try:
        key = load_public_key(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except (SporkError, ValueError):
        return certificate.public_key_algorithm_oid.dotted_string
    row = algorithm_of(key)
    return row.name if row is not None else type(key).__name__


def _signature(certificate: x509.Certificate) -> str:
    return _oid_name(certificate.signature_algorithm_oid)


def _oid_name(oid: x509.ObjectIdentifier) -> str:
    # cryptography offers the names that it knows only in this attribute.
    name = str(getattr(oid, "_name", "Unknown OID"))
    return oid.dotted_string if name == "Unknown OID" else name


def _is_uri(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.UniformResourceIdentifier)


def _access(description: x509.AccessDescription) -> str:
    kind = "OCSP" if description.access_method == AuthorityInformationAccessOID.OCSP else "issuer"
    return f"{kind} {description.access_location.value}"
