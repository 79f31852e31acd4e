"""What is in a Secret, read once: the key by its public half, the certificate by its facts. Never the private key itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from spork.controller.certificate import marks
from spork.controller.cluster import Object, annotation
from spork.errors import Code, SporkError
from spork.keys.ephemeral import EphemeralKey
from spork.keys.software import PrivateKey
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.authority import Authority
from spork.x509.der import KeyPurpose, unwrap
from spork.x509.names import SubjectName, from_general_name
from spork.x509.signatures import accepted_algorithm, verify_signature

_LARGEST = 64 * 1024
_PARSER_ERRORS = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, Warning)


@dataclass(frozen=True, slots=True)
class Stored:
    """A Secret and what can be said of it."""

    item: Object
    key_spki: bytes | None
    """None: `tls.key` is missing or no key that SPORK can use."""
    leaf: x509.Certificate | None
    """The first certificate of `tls.crt`; None: missing or unreadable."""
    leaf_spki: bytes | None
    names: frozenset[SubjectName]
    purposes: frozenset[str]
    """Extended key usages as dotted OIDs."""

    @property
    def owner_name(self) -> str | None:
        return annotation(self.item, marks.CERTIFICATE_NAME)

    @property
    def revision(self) -> int:
        """0 where nothing is said."""
        text = annotation(self.item, marks.REVISION) or ""
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0

    def said(self, name: str) -> str:
        """An annotation, empty where it is missing."""
        return annotation(self.item, name) or ""

    @property
    def der(self) -> bytes:
        assert self.leaf is not None
        return self.leaf.public_bytes(Encoding.DER)


def octets(item: Object, key: str) -> bytes | None:
    """One value of the Secret's data; None where it is missing, too large, or no base64."""
    text = (item.get("data") or {}).get(key)
    if not isinstance(text, str) or len(text) > 4 * _LARGEST:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def key_of(item: Object) -> EphemeralKey | None:
    """The private key in `tls.key`, or None for what is none. Its octets never appear in an error."""
    pem = octets(item, "tls.key")
    if pem is None or len(pem) > _LARGEST:
        return None
    try:
        key = load_pem_private_key(pem, password=None)
        return EphemeralKey(key, KeyPurpose.LEAF) if isinstance(key, PrivateKey) else None
    except (*_PARSER_ERRORS, SporkError):
        return None


def stored_of(item: Object) -> Stored:
    """Reads a Secret. What is damaged in it is None in the result."""
    key, leaf = key_of(item), _leaf(octets(item, "tls.crt"))
    facts: dict[str, Any] = {"leaf_spki": None, "names": frozenset(), "purposes": frozenset()}
    if leaf is not None:
        try:
            facts = _facts(leaf)
        except _PARSER_ERRORS:
            leaf = None
    return Stored(item=item, key_spki=key.spki if key is not None else None, leaf=leaf, **facts)


def algorithm_name(spki: bytes) -> str | None:
    """The name of a public key's algorithm in the one table."""
    try:
        row = algorithm_of(load_public_key(spki))
    except SporkError:
        return None
    return row.name if row is not None else None


def is_signed_by(stored: Stored, authority: Authority) -> bool:
    """Whether the certificate names this generation of the CA, and is signed with its key."""
    return stored.leaf is not None and _is_signed_by(stored.der, authority.subject_der, authority.spki)


@lru_cache(maxsize=4096)
def _is_signed_by(der: bytes, subject_der: bytes, spki: bytes) -> bool:
    if x509.load_der_x509_certificate(der).issuer.public_bytes() != subject_der:
        return False
    tbs, identifier, signature = unwrap(der)
    try:
        verify_signature(load_public_key(spki), accepted_algorithm(identifier), tbs, signature)
    except SporkError as error:
        if error.code in (Code.BAD_SIGNATURE, Code.BAD_SIGNATURE_ALGORITHM):
            return False
        raise
    return True


def _leaf(pem: bytes | None) -> x509.Certificate | None:
    if pem is None or len(pem) > 2 * _LARGEST:
        return None
    try:
        return x509.load_pem_x509_certificate(pem)
    except _PARSER_ERRORS:
        return None


def _facts(leaf: x509.Certificate) -> dict[str, Any]:
    extensions = leaf.extensions
    try:
        general = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        general = []
    try:
        purposes = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        purposes = []
    names = [from_general_name(name) for name in general]
    return {
        "leaf_spki": leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "names": frozenset(name for name in names if name is not None),
        "purposes": frozenset(oid.dotted_string for oid in purposes),
    }
