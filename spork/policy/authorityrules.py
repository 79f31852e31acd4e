"""Rules about who may ask for what of which CA, for how long, and what the CA's own certificate allows.

Source: RFC 5280 sections 4.1.2.5 (validity), 4.2.1.9 (path length), 4.2.1.10 (name constraints), 4.2.1.12 (extended key usage).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from cryptography import x509

from spork.policy.levels import PROFILE_PREFIX, AdminLevel, is_at_or_below
from spork.policy.proposal import Door, Proposal, Violation
from spork.x509.authority import AuthorityKind
from spork.x509.nameconstraints import constrained_names, constraint_fault
from spork.x509.names import SubjectName, to_general_name

_ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"
_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
_SECOND = timedelta(seconds=1)
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a CA certificate says about what stands below it."""

    may_sign: bool
    self_issued: bool
    path_length: int | None
    names: x509.NameConstraints | None
    usages: frozenset[str]
    """Dotted OIDs of extendedKeyUsage; empty means no limit."""


@lru_cache(maxsize=256)
def _limits(certificate: x509.Certificate) -> _Limits:
    basic = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    usages = frozenset(oid.dotted_string for oid in extended) if extended is not None else frozenset()
    return _Limits(
        may_sign=basic is not None and basic.ca and (usage is None or usage.key_cert_sign),
        self_issued=certificate.subject == certificate.issuer,
        path_length=basic.path_length if basic is not None else None,
        names=_extension(certificate, x509.NameConstraints),
        usages=frozenset() if _ANY_EXTENDED_KEY_USAGE in usages else usages,
    )


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _path(proposal: Proposal) -> list[_Limits]:
    """The CA's own certificate first, then those above it; empty while a root signs itself."""
    authority = proposal.authority
    if authority.certificate is None:
        return []
    return [_limits(certificate) for certificate in (authority.certificate, *authority.chain)]


def issuer_binds_authority(proposal: Proposal) -> Violation | None:
    """The issuer belongs to the CA that would sign. Without an issuer ask only the host and the management CA's administrators."""
    if proposal.issuer is None:
        management = proposal.authority.kind is AuthorityKind.MANAGEMENT
        if proposal.requester.door is Door.BOOTSTRAP or (management and proposal.requester.door is Door.REST):
            return None
        return Violation("issuer_binds_authority", "A certificate is issued through an issuer, and none was given.")
    if proposal.issuer.authority_id != proposal.authority.id:
        return Violation(
            "issuer_binds_authority",
            f"The issuer {proposal.issuer.label} does not belong to the CA {proposal.authority.id}.",
        )
    return None


def profile_is_allowed(proposal: Proposal) -> Violation | None:
    """The issuer offers the profile, and the requester is entitled to it."""
    name, issuer, granted = proposal.profile.name, proposal.issuer, proposal.grant.profiles
    if issuer is not None and name not in issuer.profiles:
        offered = ", ".join(issuer.profiles) or "none"
        return Violation(
            "profile_is_allowed", f"The issuer {issuer.label} does not offer the profile {name}; it offers {offered}."
        )
    if granted is not None and name not in granted:
        return Violation("profile_is_allowed", f"The requester is not entitled to certificates of the profile {name}.")
    return None


def profile_is_requestable(proposal: Proposal) -> Violation | None:
    """Some profiles only the host itself may use."""
    if proposal.profile.requestable or proposal.requester.door is Door.BOOTSTRAP:
        return None
    return Violation(
        "profile_is_requestable", f"Certificates of the profile {proposal.profile.name} cannot be requested."
    )


def ca_profile_only_for_ca(proposal: Proposal) -> Violation | None:
    """Limits of a CA are stated for CA profiles and for no others, and no issuer ever makes a CA."""
    if proposal.constraints is not None and not proposal.profile.ca:
        return Violation("ca_profile_only_for_ca", f"The profile {proposal.profile.name} is not one of CAs.")
    if proposal.profile.ca and proposal.issuer is not None:
        return Violation("ca_profile_only_for_ca", "Certificates of CAs are not issued through an issuer.")
    return None


def authority_may_sign(proposal: Proposal) -> Violation | None:
    """The CA has a CA certificate, or is a root that signs itself just now; and it was not stopped.

    Answers about what it issued must go on, so its own OCSP responder gets a certificate all the same.
    """
    if proposal.authority.stopped is not None and not proposal.profile.ocsp_no_check:
        return Violation(
            "authority_may_sign", f"The CA {proposal.authority.id} issues no more: {proposal.authority.stopped}."
        )
    path = _path(proposal)
    if path:
        if all(limits.may_sign for limits in path):
            return None
        return Violation(
            "authority_may_sign", f"The certificate of {proposal.authority.id}, or one above it, is not a CA's."
        )
    authority = proposal.authority
    if proposal.profile.ca and proposal.spki == authority.spki and proposal.subject == authority.subject:
        return None
    return Violation("authority_may_sign", f"The CA {authority.id} has no certificate yet.")


def path_length_holds(proposal: Proposal) -> Violation | None:
    """A CA certificate fits below the path lengths above it (RFC 5280 section 4.2.1.9: self-issued ones do not count)."""
    if not proposal.profile.ca or proposal.subject == proposal.authority.subject:
        return None
    own = proposal.constraints.path_length if proposal.constraints is not None else None
    below = 1  # The new certificate itself; each CA between it and the limit adds one.
    for limits in _path(proposal):
        if limits.path_length is not None and below + (own or 0) > limits.path_length:
            return Violation(
                "path_length_holds",
                f"A CA above allows {limits.path_length} CA certificates below it; this one would need {below + (own or 0)}.",
            )
        below += 0 if limits.self_issued else 1
    return None


def name_constraints_hold(proposal: Proposal) -> list[Violation]:
    """Subject and names stay within the name constraints of the CA's certificate and of those above it."""
    constraints = [limits.names for limits in _path(proposal) if limits.names is not None]
    if not constraints:
        return []
    named: list[tuple[SubjectName | None, x509.GeneralName]] = []
    for name in proposal.names:
        try:
            named.append((name, to_general_name(name)))
        except ValueError:
            continue  # Another rule refuses it.
    alternative = [general for _, general in named]
    named += [
        (None, general) for general in constrained_names(proposal.subject, alternative) if general not in alternative
    ]
    return [
        Violation("name_constraints_hold", fault, name)
        for one in constraints
        for name, general in named
        if (fault := constraint_fault(one, [general])) is not None
    ]


def extended_key_usage_holds(proposal: Proposal) -> list[Violation]:
    """Purposes stay within those that the CA's certificates are limited to. A CA's own responder is outside of that custom."""
    wanted = set(proposal.profile.extended_key_usage)
    if proposal.profile.ca:
        wanted = set(proposal.constraints.extended_key_usage) if proposal.constraints is not None else set()
    return [
        Violation(
            "extended_key_usage_holds",
            f"The CA is limited to other purposes than {', '.join(sorted(outside))} (extendedKeyUsage).",
        )
        for limits in _path(proposal)
        if limits.usages and (outside := wanted - limits.usages - {_OCSP_SIGNING})
    ]


def policies_within_arc(proposal: Proposal, *, admin_arc: str) -> list[Violation]:
    """Only the management CA asserts policies at or below the arc of the administrators' levels."""
    if proposal.authority.kind is AuthorityKind.MANAGEMENT:
        return []
    return [
        Violation("policies_within_arc", f"Only the management CA may assert the policy {oid}.")
        for oid in _asserted(proposal)
        if is_at_or_below(oid, admin_arc)
    ]


def admin_level_matches_profile(proposal: Proposal, *, admin_arc: str) -> Violation | None:
    """An administrator's certificate carries exactly its profile's level, comes from the management CA; others carry none."""
    levels = {f"{PROFILE_PREFIX}{level.name.lower()}": f"{admin_arc}.{level.value}" for level in AdminLevel}
    expected = levels.get(proposal.profile.name)
    asserted = [oid for oid in _asserted(proposal) if is_at_or_below(oid, admin_arc)]
    if asserted != ([] if expected is None else [expected]):
        carries = "no administrator's level" if expected is None else f"exactly the level {expected}"
        return Violation(
            "admin_level_matches_profile",
            f"A certificate of the profile {proposal.profile.name} carries {carries}, not {', '.join(asserted) or 'none'}.",
        )
    if expected is not None and proposal.authority.kind is not AuthorityKind.MANAGEMENT:
        return Violation("admin_level_matches_profile", "Only the management CA issues to administrators.")
    return None


def _asserted(proposal: Proposal) -> tuple[str, ...]:
    own = proposal.constraints.policies if proposal.constraints is not None else ()
    return (*proposal.profile.policies, *own, *proposal.policies)


def validity_in_order(proposal: Proposal) -> Violation | None:
    """Whole seconds, UTC, and an end that is not before the beginning."""
    dates = (proposal.not_before, proposal.not_after)
    if any(date.utcoffset() != timedelta(0) or date.microsecond for date in dates):
        return Violation("validity_in_order", "Dates are whole seconds in UTC.")
    if proposal.not_after < proposal.not_before:
        return Violation("validity_in_order", "The validity would end before it begins.")
    # RFC 5280 section 4.1.2.5.2: the last second of 9999 says that there is no good end, which no profile here means.
    if proposal.not_after >= datetime(9999, 12, 31, tzinfo=UTC):
        return Violation("validity_in_order", "The validity has no end.")
    return None


def validity_within_limits(proposal: Proposal) -> list[Violation]:
    """No longer than profile, issuer and grant allow. Both ends belong to the validity, so one second is added."""
    if not _comparable(proposal):
        return []
    lifetime = proposal.not_after - proposal.not_before + _SECOND
    limits = [(f"the profile {proposal.profile.name}", proposal.profile.max_validity)]
    if proposal.issuer is not None and proposal.issuer.max_validity is not None:
        limits.append((f"the issuer {proposal.issuer.label}", proposal.issuer.max_validity))
    if proposal.grant.max_validity is not None:
        limits.append(("the requester's grant", proposal.grant.max_validity))
    return [
        Violation(
            "validity_within_limits", f"A validity of {_text(lifetime)} is longer than {who} allows ({_text(limit)})."
        )
        for who, limit in limits
        if lifetime > limit
    ]


def validity_within_authority(proposal: Proposal) -> list[Violation]:
    """Neither begins before the CA's own certificate nor outlives it."""
    authority = proposal.authority
    if authority.certificate is None or not _comparable(proposal):
        return []
    found = []
    begins, ends = authority.certificate.not_valid_before_utc, authority.certificate.not_valid_after_utc
    if authority.not_after is not None:
        ends = min(ends, authority.not_after)
    if proposal.not_before < begins:
        found.append(
            Violation(
                "validity_within_authority",
                f"The validity would begin before that of the CA ({begins:%Y-%m-%d %H:%M:%S} UTC).",
            )
        )
    if proposal.not_after > ends:
        found.append(
            Violation(
                "validity_within_authority",
                f"The certificate would outlive the CA, which ends at {ends:%Y-%m-%d %H:%M:%S} UTC.",
            )
        )
    return found


def _comparable(proposal: Proposal) -> bool:
    """Dates without a zone cannot be compared; the rule of their order refuses them."""
    return proposal.not_before.utcoffset() is not None and proposal.not_after.utcoffset() is not None


def _text(duration: timedelta) -> str:
    days, rest = divmod(duration, timedelta(days=1))
    if not rest:
        return f"{days} days"
    return f"{days} days and {rest.seconds} seconds" if days else f"{rest.seconds} seconds"
