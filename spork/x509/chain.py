"""Certification paths: from an end entity to a trust anchor, for every algorithm of the table.

Revocation is not looked at here; callers ask the database. The trust anchors are certificates, and are held to their own
validity and constraints as well.
Source: RFC 5280 section 6.1; RFC 4158 for the order in which issuers are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from spork.errors import Code, SporkError
from spork.x509.algorithms import PublicKey, algorithm_of, load_public_key
from spork.x509.bounds import check_der, elements
from spork.x509.certpolicies import path_policies
from spork.x509.der import unwrap
from spork.x509.nameconstraints import constrained_names, constraint_fault
from spork.x509.signatures import accepted_algorithm, verify_signature

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)

MAX_OCTETS = 64 * 1024
"""A certificate with an ML-DSA-87 key and signature and a thousand names stays below 48 KiB."""
MAX_LENGTH = 10
"""Certificates in a path, end entity and anchor included."""
_SIGNATURES_LIMIT = 64
"""Signatures that one call may verify: bounds the search among certificates that somebody sent to be searched among."""
_RSA_BITS = range(2048, 8192 + 1)
"""Smaller ones are weak; larger ones make verifying expensive for whoever did not choose them."""

_ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"
_UNDERSTOOD = frozenset(
    {
        "2.5.29.15",  # keyUsage
        "2.5.29.17",  # subjectAltName
        "2.5.29.19",  # basicConstraints
        "2.5.29.30",  # nameConstraints
        "2.5.29.32",  # certificatePolicies
        "2.5.29.33",  # policyMappings
        "2.5.29.36",  # policyConstraints
        "2.5.29.37",  # extKeyUsage
        "2.5.29.54",  # inhibitAnyPolicy
    }
)
"""Extensions that may be critical, because they are processed here or by every caller (extKeyUsage)."""


def verify_chain(
    leaf: bytes,
    intermediates: Sequence[x509.Certificate | bytes],
    anchors: Sequence[x509.Certificate | bytes],
    at: datetime,
    *,
    purpose: str | None = None,
) -> list[x509.Certificate]:
    """The valid path from the leaf (DER) to one of the anchors, leaf first and anchor last.

    `at` is an aware instant. With `purpose`, an extended key usage OID, the leaf must assert it, and no CA on the path may be
    limited to others. Policies: see `leaf_policies`. Raises SporkError(UNAUTHENTICATED) with the reason of the path that came
    furthest.
    """
    end = _loaded(leaf)
    search = _Search([_loaded(item) for item in anchors], [_loaded(item) for item in intermediates], at)
    path = search.path([end])
    if path is None:
        raise search.failure or _refused(f"No trusted CA issued the certificate of {_named(end)}.")
    if purpose is not None:
        _check_purpose(path, purpose)
    return [link.certificate for link in path]


def leaf_policies(path: Sequence[x509.Certificate]) -> frozenset[str]:
    """The certificate policies that a path from `verify_chain` grants its leaf; `2.5.29.32.0` in it stands for all others."""
    return path_policies(list(reversed(path[:-1])))


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """One certificate, taken apart once."""

    certificate: x509.Certificate
    der: bytes
    tbs: bytes
    identifier: bytes
    signature: bytes
    issuer: bytes
    subject: bytes
    spki: bytes
    extensions: x509.Extensions

    @property
    def self_issued(self) -> bool:
        return self.subject == self.issuer


def _loaded(certificate: x509.Certificate | bytes) -> _Link:
    der = certificate if isinstance(certificate, bytes) else certificate.public_bytes(Encoding.DER)
    try:
        check_der(der, max_octets=MAX_OCTETS)
        parsed = x509.load_der_x509_certificate(der) if isinstance(certificate, bytes) else certificate
        tbs, identifier, signature = unwrap(der)
        fields = elements(tbs)
        # The version is absent, and the rest one place further to the front, in certificates of version 1.
        first = 1 if fields[0][0] == 0xA0 else 0
        inner, issuer, _, subject, spki = fields[first + 1 : first + 6]
        extensions = parsed.extensions
        # Reading them is what finds what is wrong in them.
        _ = parsed.issuer, parsed.subject
    except SporkError as error:
        raise _refused(f"A certificate was refused: {error.detail}") from None
    except (ValueError, TypeError, OverflowError, IndexError, UnsupportedAlgorithm, Warning) as error:
        raise _refused("A certificate cannot be read.") from error
    except (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _refused(f"A certificate cannot be used: {error}.") from error
    if inner != identifier:
        raise _refused("A certificate names one signature algorithm inside and another one outside.")
    return _Link(parsed, der, tbs, identifier, signature, issuer, subject, spki, extensions)


class _Search:
    """Depth-first, anchors before intermediates, with a budget of signatures."""

    def __init__(self, anchors: Sequence[_Link], intermediates: Sequence[_Link], at: datetime) -> None:
        self._anchors = anchors
        self._pool = intermediates
        self._at = at
        self._budget = _SIGNATURES_LIMIT
        self._failed_at = 0
        self.failure: SporkError | None = None

    def path(self, path: list[_Link]) -> list[_Link] | None:
        """The first completion of `path` that is valid as a whole, or None; `failure` then says how far the best one came."""
        end = path[-1]
        if any(anchor.der == end.der for anchor in self._anchors):
            return path if self._holds(path) else None
        if len(path) == MAX_LENGTH:
            self._note(path, _refused(f"The path is longer than {MAX_LENGTH} certificates."))
            return None
        for issuer in self._issuers(path):
            if self._signed(path, issuer) and (found := self.path([*path, issuer])) is not None:
                return found
        return None

    def _issuers(self, path: list[_Link]) -> Iterator[_Link]:
        end = path[-1]
        wanted = _authority_key_identifier(end)
        for candidate in (*self._anchors, *self._pool):
            if candidate.subject != end.issuer:
                continue
            # One key under one name twice is a loop, whichever certificates say so.
            if any(candidate.subject == seen.subject and candidate.spki == seen.spki for seen in path):
                continue
            own = _subject_key_identifier(candidate)
            if wanted is None or own is None or wanted == own:
                yield candidate

    def _signed(self, path: list[_Link], issuer: _Link) -> bool:
        if self._budget == 0:
            # This says more than whatever failed on the way: a path may exist that nobody looked at.
            self._failed_at, self.failure = MAX_LENGTH + 1, _refused("There are too many certificates to choose from.")
            return False
        self._budget -= 1
        try:
            algorithm = accepted_algorithm(path[-1].identifier)
            verify_signature(_strong_key(issuer), algorithm, path[-1].tbs, path[-1].signature)
        except SporkError as error:
            self._note(path, _refused(f"The signature on the certificate of {_named(path[-1])} fails. {error.detail}"))
            return False
        return True

    def _holds(self, path: list[_Link]) -> bool:
        try:
            _strong_key(path[0])
            _check_path(path, self._at)
        except SporkError as error:
            self._note([*path, path[-1]], error)
            return False
        return True

    def _note(self, path: list[_Link], failure: SporkError) -> None:
        if len(path) > self._failed_at:
            self._failed_at, self.failure = len(path), failure


def _check_path(path: Sequence[_Link], at: datetime) -> None:
    """RFC 5280 section 6.1.3 to 6.1.5 from the anchor down. The signatures were verified on the way up."""
    constraints: list[x509.NameConstraints] = []
    for index in range(len(path) - 1, -1, -1):
        link = path[index]
        _check_dates(link, at)
        _check_critical(link)
        # RFC 5280 section 6.1.3 (b): a CA's certificate for its own next key may step out of the constraints above it.
        if index == 0 or not link.self_issued:
            _check_names(link, constraints)
        if index > 0:
            between = sum(1 for below in path[1:index] if not below.self_issued)
            _check_ca(link, between)
            constraints += _found(link, x509.NameConstraints)
    path_policies([link.certificate for link in reversed(path[:-1])])


def _check_dates(link: _Link, at: datetime) -> None:
    if at < link.certificate.not_valid_before_utc:
        raise _refused(f"The certificate of {_named(link)} is not valid yet.")
    # Both ends belong to the validity, and certificates know whole seconds only (RFC 5280 section 4.1.2.5).
    if at.replace(microsecond=0) > link.certificate.not_valid_after_utc:
        raise _refused(f"The certificate of {_named(link)} has expired.")


def _check_critical(link: _Link) -> None:
    for extension in link.extensions:
        if extension.critical and extension.oid.dotted_string not in _UNDERSTOOD:
            oid = extension.oid.dotted_string
            raise _refused(
                f"The certificate of {_named(link)} has the critical extension {oid}, which is not understood."
            )


def _check_names(link: _Link, constraints: Sequence[x509.NameConstraints]) -> None:
    if not constraints:
        return
    alternative = [name for names in _found(link, x509.SubjectAlternativeName) for name in names]
    names = constrained_names(link.certificate.subject, alternative)
    for one in constraints:
        if (fault := constraint_fault(one, names)) is not None:
            raise _refused(fault)


def _check_ca(link: _Link, between: int) -> None:
    """`between` counts the CA certificates below this one that are not self-issued."""
    basic = _found(link, x509.BasicConstraints)
    if not basic or not basic[0].ca:
        raise _refused(f"The certificate of {_named(link)} is not one of a CA, but issued another one.")
    if basic[0].path_length is not None and between > basic[0].path_length:
        raise _refused(
            f"The path below {_named(link)} is longer than its path length of {basic[0].path_length} allows."
        )
    usage = _found(link, x509.KeyUsage)
    if usage and not usage[0].key_cert_sign:
        raise _refused(f"The key of {_named(link)} may not sign certificates.")


def _check_purpose(path: Sequence[_Link], purpose: str) -> None:
    for index, link in enumerate(path):
        listed = [oid.dotted_string for usage in _found(link, x509.ExtendedKeyUsage) for oid in usage]
        # The end entity must say what it is for; a CA that says nothing is not limited.
        allowed = (
            purpose in listed if index == 0 else not listed or bool({purpose, _ANY_EXTENDED_KEY_USAGE} & {*listed})
        )
        if not allowed:
            raise _refused(f"The certificate of {_named(link)} is not one for the purpose {purpose}.")


def _strong_key(link: _Link) -> PublicKey:
    """Raises SporkError(UNAUTHENTICATED) for a key that cannot be read or is too weak to rest anything on."""
    try:
        key = load_public_key(link.spki)
    except SporkError as error:
        raise _refused(f"The key of {_named(link)} cannot be used. {error.detail}") from None
    acceptable = key.key_size in _RSA_BITS if isinstance(key, rsa.RSAPublicKey) else algorithm_of(key) is not None
    if not acceptable:
        raise _refused(f"The key of {_named(link)} has a size or curve that is not accepted.")
    return key


def _found(link: _Link, kind: type[_Kind]) -> list[_Kind]:
    return [extension.value for extension in link.extensions if isinstance(extension.value, kind)]


def _authority_key_identifier(link: _Link) -> bytes | None:
    found = _found(link, x509.AuthorityKeyIdentifier)
    return found[0].key_identifier if found else None


def _subject_key_identifier(link: _Link) -> bytes | None:
    found = _found(link, x509.SubjectKeyIdentifier)
    return found[0].digest if found else None


def _named(link: _Link) -> str:
    return repr(link.certificate.subject.rfc4514_string()) if link.certificate.subject.rdns else "an empty subject"


def _refused(detail: str) -> SporkError:
    return SporkError(Code.UNAUTHENTICATED, detail)
