"""What is read of a CertificateRequest (cert-manager.io/v1)."""

from __future__ import annotations

from datetime import timedelta

from spork.controller.cluster import Object
from spork.controller.conditions import condition_of
from spork.controller.models.schema import GROUP
from spork.controller.requests.asked import Asked, approval_of, csr_of, user_of
from spork.controller.requests.durations import go_duration
from spork.controller.requests.usages import check_usages
from spork.errors import Code, SporkError

KINDS = ("Issuer", "ClusterIssuer")
_DEFAULT_USAGES = ("digital signature", "key encipherment")
"""What cert-manager says that a request without usages means."""


def is_ours(item: Object) -> bool:
    """Whether it names an issuer of this group. Any other is none of our business."""
    found = ((item.get("spec") or {}).get("issuerRef") or {}).get("group")
    return bool(found == GROUP)


def issuer_of(item: Object) -> tuple[str, str]:
    """Kind and name of the issuer. The kind is whatever stands there; left out it is Issuer."""
    reference = item["spec"]["issuerRef"]
    return reference.get("kind") or "Issuer", reference.get("name") or ""


def asked_of(item: Object) -> Asked:
    """Reads and bounds the whole request. Raises SporkError for what no issuer of ours could ever sign."""
    spec, metadata = item["spec"], item["metadata"]
    kind, _ = issuer_of(item)
    if kind not in KINDS:
        raise SporkError(Code.MALFORMED, f"There is no kind {kind[:64]!r} in {GROUP}; it is Issuer or ClusterIssuer.")
    usages = tuple(spec.get("usages") or _DEFAULT_USAGES)
    if spec.get("isCA"):
        raise SporkError(Code.MALFORMED, "isCA is true; CAs are declared in a Hierarchy and nowhere else.")
    check_usages(usages)
    return Asked(
        kind="CertificateRequest",
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        csr=csr_of(spec.get("request")),
        usages=usages,
        validity=_duration(spec.get("duration")),
        shorten=False,
        requester=f"certificate-request:{metadata['namespace']}/{metadata['name']}",
        requester_namespace=metadata["namespace"],
        approval=approval_of(condition_of(item, "Approved") or {}),
        user=user_of(spec),
    )


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return go_duration(text)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, f"The duration {error}.") from None
