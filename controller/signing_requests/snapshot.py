"""What is read of a CertificateSigningRequest (certificates.k8s.io/v1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from spork.controller.cluster import Attributes, Object
from spork.controller.conditions import condition_of
from spork.controller.models.schema import GROUP
from spork.controller.requests.asked import Asked, approval_of, csr_of, user_of
from spork.controller.requests.usages import check_usages
from spork.errors import Code, SporkError

_SERVICE_ACCOUNT = "system:serviceaccount:"
VERB = "reference"
"""What a user needs on an issuer to name it in a request that has no namespace."""


@dataclass(frozen=True, slots=True)
class Signer:
    """The issuer that a signer name stands for."""

    kind: str
    namespace: str
    name: str

    @property
    def review(self) -> Attributes:
        """What its user must be allowed."""
        return Attributes(VERB, GROUP, f"{self.kind.lower()}s", self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def is_ours(item: Object) -> bool:
    """Whether the signer is of this group. Any other is none of our business."""
    return str(item["spec"].get("signerName") or "").startswith(f"{GROUP}/")


def signer_of(item: Object) -> Signer:
    """Raises SporkError(MALFORMED) for a name that stands for no issuer."""
    name: str = item["spec"]["signerName"]
    match name.removeprefix(f"{GROUP}/").split("."):
        case [cluster_wide] if cluster_wide:
            return Signer("ClusterIssuer", "", cluster_wide)
        case [namespace, namespaced] if namespace and namespaced:
            return Signer("Issuer", namespace, namespaced)
    raise SporkError(
        Code.MALFORMED,
        f"The signer {name[:256]!r} is not {GROUP}/<namespace>.<issuer> for an Issuer or {GROUP}/<name> for a ClusterIssuer.",
    )


def namespace_of_user(item: Object) -> str:
    """The namespace of the ServiceAccount that asks; empty for any other user."""
    username = str(item["spec"].get("username") or "")
    if not username.startswith(_SERVICE_ACCOUNT):
        return ""
    return username.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]


def asked_of(item: Object) -> Asked:
    """Reads and bounds the whole request. Raises SporkError for what no issuer of ours could ever sign."""
    spec, metadata = item["spec"], item["metadata"]
    usages, seconds = tuple(spec.get("usages") or ()), spec.get("expirationSeconds")
    check_usages(usages)
    user = user_of(spec)
    return Asked(
        kind="CertificateSigningRequest",
        namespace="",
        name=metadata["name"],
        uid=metadata["uid"],
        csr=csr_of(spec.get("request")),
        usages=usages,
        validity=timedelta(seconds=seconds) if seconds else None,
        # The API calls it a wish: a signer may issue for another time, and clients look at what they got.
        shorten=True,
        requester=f"kubernetes-user:{user['username']}",
        requester_namespace=namespace_of_user(item),
        approval=approval_of(condition_of(item, "Approved") or {}),
        user=user,
    )
