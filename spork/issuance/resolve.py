"""What a request leaves open is filled in here, before anything is judged: dates and the subject."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from spork.errors import Code, SporkError
from spork.issuance.request import IssuanceRequest
from spork.x509.names import EMPTY_NAME, NameKind, common_name
from spork.x509.profile import SubjectRule

BACKDATE = timedelta(seconds=60)
"""notBefore lies this far back, so that clients whose clocks are slow accept a fresh certificate."""

MAX_BACKDATE = timedelta(hours=1)
"""A certificate that began before it was issued could vouch for signatures from before a revocation."""
MAX_POSTDATE = timedelta(days=30)

_COMMON_NAME_LIMIT = 64
"""ub-common-name (RFC 5280 appendix A.1)."""


def validity_of(request: IssuanceRequest, now: datetime) -> tuple[datetime, datetime]:
    """The validity, notBefore and notAfter in UTC, whole seconds; notAfter is inclusive (RFC 5280 section 4.1.2.5).

    Where the request leaves the end open, it is the earliest of what profile, issuer, grant and the CA itself allow.
    What the request states is taken as it is, for the rules to judge; only a beginning that lies too far back or ahead is
    refused here, since rules know no time. Raises SporkError(POLICY_REFUSED).
    """
    if request.not_before is not None and not now - MAX_BACKDATE <= request.not_before <= now + MAX_POSTDATE:
        raise SporkError(
            Code.POLICY_REFUSED,
            f"notBefore {request.not_before:%Y-%m-%dT%H:%M:%SZ} is more than an hour ago or more than thirty days ahead.",
        )
    floor = request.authority.certificate.not_valid_before_utc if request.authority.certificate else None
    not_before = request.not_before or max(now - BACKDATE, floor or now - BACKDATE)
    if request.not_after is not None:
        return not_before, request.not_after
    if request.validity is not None:
        return not_before, not_before + request.validity - timedelta(seconds=1)
    limits = [request.profile.default_validity, request.profile.max_validity, request.grant.max_validity]
    limits.append(request.issuer.max_validity if request.issuer else None)
    not_after = not_before + min(limit for limit in limits if limit is not None) - timedelta(seconds=1)
    return not_before, min(not_after, request.authority.not_after or not_after)


def subject_of(request: IssuanceRequest) -> x509.Name:
    """The subject: as given; else for server-like profiles the commonName of the CSR, or the first name that fits.

    The same holds for whoever was found entitled to certain names: that says nothing of a person or an organisation.
    """
    if request.subject is not None:
        return request.subject
    if request.profile.subject is not SubjectRule.EMPTY_OR_CN and request.grant.names is None:
        return request.csr.subject if request.csr is not None else EMPTY_NAME
    wanted = common_name(request.csr.subject) if request.csr is not None else None
    if wanted is None:
        candidates = (n.value for n in request.names if n.kind in (NameKind.DNS, NameKind.IP))
        wanted = next((value for value in candidates if len(value) <= _COMMON_NAME_LIMIT), None)
    else:
        # A commonName repeats a name, and names are compared in lower case.
        wanted = wanted.lower()
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, wanted)]) if wanted else EMPTY_NAME
