"""Which certificate policies hold for the end of a path.

The policy tree of RFC 5280 is kept as the set of its lowest level, which is enough where policy mappings are inhibited from the
start: every value of a node equals that of its parent, or its parent is anyPolicy.
Source: RFC 5280 section 6.1.2 (a) to (f), 6.1.3 (d) to (f), 6.1.4 (a), (b) and (h) to (j), 6.1.5 (a) and (b).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat import asn1

from spork.errors import Code, SporkError
from spork.x509.bounds import check_der, elements

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)

ANY_POLICY = "2.5.29.32.0"
_MAPPINGS_LIMIT = 16 * 1024
"""Octets of a policyMappings extension."""


@dataclass(slots=True)
class _State:
    valid: frozenset[str]
    """The lowest level of the tree; empty is the NULL tree."""
    explicit_policy: int
    inhibit_any_policy: int


def path_policies(path: Sequence[x509.Certificate]) -> frozenset[str]:
    """The policies that the whole path grants its last certificate; `2.5.29.32.0` in it stands for all others.

    `path` runs from the certificate below the trust anchor to the end entity. Policies of the anchor itself do not count.
    Raises SporkError(UNAUTHENTICATED) where a CA demands an explicit policy and there is none, or what is there cannot be read.
    """
    count = len(path)
    state = _State(frozenset({ANY_POLICY}), explicit_policy=count + 1, inhibit_any_policy=count + 1)
    for index, certificate in enumerate(path, start=1):
        final = index == count
        self_issued = certificate.subject == certificate.issuer
        any_allowed = state.inhibit_any_policy > 0 or (not final and self_issued)
        state.valid = _descend(state.valid, _asserted(certificate), any_allowed=any_allowed)
        if state.explicit_policy == 0 and not state.valid:
            raise _refused()
        if not final:
            _prepare_next(state, certificate, self_issued=self_issued)
    _wrap_up(state, path)
    return state.valid


def _descend(valid: frozenset[str], asserted: frozenset[str], *, any_allowed: bool) -> frozenset[str]:
    own = asserted - {ANY_POLICY}
    kept = own if ANY_POLICY in valid else own & valid
    return kept | valid if ANY_POLICY in asserted and any_allowed else kept


def _prepare_next(state: _State, certificate: x509.Certificate, *, self_issued: bool) -> None:
    # Mappings are inhibited: a policy that the CA maps to another one ends here.
    state.valid -= _mapped(certificate)
    if not self_issued:
        state.explicit_policy = max(0, state.explicit_policy - 1)
        state.inhibit_any_policy = max(0, state.inhibit_any_policy - 1)
    limits = _extension(certificate, x509.PolicyConstraints)
    if limits is not None and limits.require_explicit_policy is not None:
        state.explicit_policy = min(state.explicit_policy, limits.require_explicit_policy)
    inhibit = _extension(certificate, x509.InhibitAnyPolicy)
    if inhibit is not None:
        state.inhibit_any_policy = min(state.inhibit_any_policy, inhibit.skip_certs)


def _wrap_up(state: _State, path: Sequence[x509.Certificate]) -> None:
    explicit = max(0, state.explicit_policy - 1)
    limits = _extension(path[-1], x509.PolicyConstraints) if path else None
    if limits is not None and limits.require_explicit_policy == 0:
        explicit = 0
    if explicit == 0 and not state.valid:
        raise _refused()


def _asserted(certificate: x509.Certificate) -> frozenset[str]:
    policies = _extension(certificate, x509.CertificatePolicies)
    return frozenset() if policies is None else frozenset(info.policy_identifier.dotted_string for info in policies)


def _mapped(certificate: x509.Certificate) -> frozenset[str]:
    """The issuer's side of each policy mapping. `cryptography` does not read this extension."""
    try:
        found = certificate.extensions.get_extension_for_oid(x509.oid.ExtensionOID.POLICY_MAPPINGS).value
    except x509.ExtensionNotFound:
        return frozenset()
    value = found.public_bytes()
    try:
        check_der(value, max_octets=_MAPPINGS_LIMIT)
        pairs = [elements(pair) for pair in elements(value)]
        return frozenset(asn1.decode_der(x509.ObjectIdentifier, pair[0]).dotted_string for pair in pairs)
    except (SporkError, ValueError, IndexError):
        raise SporkError(Code.UNAUTHENTICATED, "A CA's policy mappings cannot be read.") from None


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _refused() -> SporkError:
    return SporkError(
        Code.UNAUTHENTICATED, "A CA on the path demands a certificate policy, and none is valid at its end."
    )
