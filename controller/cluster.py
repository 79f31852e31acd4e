"""The one port to where resources live: a Kubernetes API server, or a folder of files.

Objects are plain JSON values as Kubernetes writes them (`apiVersion`, `kind`, `metadata`, `spec`, `status`, ...). What a reconciler
reads it reads from the adapter's own copy, without a request; what it writes goes through at once and is in that copy when
the call returns. Both adapters pass the same contract tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from spork.controller.models.schema import GROUP, VERSION
from spork.errors import Code, SporkError

Object = Mapping[str, Any]
FIELD_MANAGER = "spork-controller"
"""The one name under which everything here is applied."""
LABEL_MANAGED = f"{GROUP}/managed"
"""On each Secret, ConfigMap and ClusterTrustBundle of this operator, with the value `true`: only those are watched."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object that the operator reads or writes."""

    name: str
    api_version: str
    plural: str
    namespaced: bool
    watched: bool = True
    """Whether a copy of all objects is kept, so that `get` and `all` know them. Others are reached by `read` and writes alone."""
    selector: str = ""
    """Label selector of what is watched."""
    optional: bool = False
    """Whether the API server may not have it at all. Then there are none."""
    older: tuple[str, ...] = ()
    """Versions of the same form, newest first, for API servers that do not serve `api_version` yet. What is read and written has
    `api_version`; the adapter puts the served one in its place."""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("Hierarchy", f"{GROUP}/{VERSION}", "hierarchies", False),
        Kind("ClusterIssuer", f"{GROUP}/{VERSION}", "clusterissuers", False),
        Kind("Issuer", f"{GROUP}/{VERSION}", "issuers", True),
        Kind("Certificate", f"{GROUP}/{VERSION}", "certificates", True),
        Kind("Ceremony", f"{GROUP}/{VERSION}", "ceremonies", False),
        Kind("Namespace", "v1", "namespaces", False),
        Kind("Secret", "v1", "secrets", True, selector=f"{LABEL_MANAGED}=true"),
        Kind("ConfigMap", "v1", "configmaps", True, selector=f"{LABEL_MANAGED}=true"),
        Kind("Ingress", "networking.k8s.io/v1", "ingresses", True, optional=True),
        Kind("CertificateSigningRequest", "certificates.k8s.io/v1", "certificatesigningrequests", False, optional=True),
        Kind(
            "ClusterTrustBundle",
            "certificates.k8s.io/v1",
            "clustertrustbundles",
            False,
            selector=f"{LABEL_MANAGED}=true",
            optional=True,
            older=("certificates.k8s.io/v1beta1", "certificates.k8s.io/v1alpha1"),
        ),
        Kind("CertificateRequest", "cert-manager.io/v1", "certificaterequests", True, optional=True),
    )
}


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of an object; it need not be there. Cluster-wide objects have an empty namespace."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def ref_of(item: Object) -> Ref:
    """The name of an object that is there."""
    metadata = item["metadata"]
    return Ref(item["kind"], metadata.get("namespace") or "", metadata["name"])


@dataclass(frozen=True, slots=True)
class Change:
    """An object came, changed or went. After a gap in the watch several changes may arrive as one."""

    ref: Ref
    new: Object | None
    """None: it is gone."""
    old: Object | None
    """What the copy held before, if anything."""


class ClusterError(SporkError):
    """The API server refused, or cannot be reached."""


class AlreadyExists(ClusterError):
    """`create` found an object of that name."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(Code.CONFLICT, f"{ref} exists already.")


class Conflict(ClusterError):
    """A write named a resourceVersion or uid that the object no longer has, or the object is gone. Look again, then decide anew."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(Code.CONFLICT, f"{ref} was changed in the meantime.", retry_after_s=1)


class Refused(ClusterError):
    """The API server does not allow it: a role is missing, or admission says no. `detail` has its own words."""


class Unreachable(ClusterError):
    """No answer, too many requests, or a failure of the API server; trying again later helps."""

    def __init__(self, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(Code.UNAVAILABLE, detail, retry_after_s=retry_after_s or 1)


class Cluster(Protocol):
    """Where resources live. Every method that writes is one request; raises Conflict, Refused, Unreachable as said above.

    `metadata` of what is given out always has `name`, `uid`, `resourceVersion`, `creationTimestamp`, and `generation` for the kinds
    of SPORK. `managedFields` is left out. What is given out must not be changed by the receiver.
    """

    @property
    def origin(self) -> Literal["file", "kubernetes"]:
        """Whose the issuers are that are declared through it."""
        ...

    def get(self, ref: Ref) -> Object | None:
        """From the copy, of a watched kind."""
        ...

    def all(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        """From the copy, of a watched kind."""
        ...

    def has(self, kind: str) -> bool:
        """Whether the API server knows the kind at all; only optional kinds may be missing."""
        ...

    async def read(self, ref: Ref) -> Object | None:
        """The object as it is at this moment. One request."""
        ...

    async def create(self, item: Object) -> Object:
        """Raises AlreadyExists."""
        ...

    async def replace(self, item: Object) -> Object:
        """Puts it in the place of the one with the same `metadata.resourceVersion`, which must be given. Raises Conflict."""
        ...

    async def apply(self, item: Object) -> Object:
        """Server-side apply under FIELD_MANAGER, by force: makes it, or makes its fields so. Fields of others stay."""
        ...

    async def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str | None = None) -> None:
        """Raises Conflict if it is another one by now. One that is gone already is no error."""
        ...

    async def set_status(self, item: Object, status: Mapping[str, Any]) -> Object:
        """Makes this the whole status, as far as FIELD_MANAGER is concerned. Raises Conflict if that uid is gone."""
        ...

    async def set_finalizer(self, item: Object, finalizer: str, *, present: bool) -> Object:
        """Adds or takes away one finalizer. Raises Conflict if the object changed. One that is so already costs no request."""
        ...

    async def annotate(self, item: Object, annotations: Mapping[str, str | None]) -> Object:
        """Sets annotations; None takes one away. Raises Conflict if the object with that uid is gone."""
        ...

    async def report(self, item: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """An Event about the object, for people. What goes wrong with it is logged and not raised."""
        ...

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """From `run` on it is called for each change, in order for each object, also for what is there at the start."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps the copy true until `stop` is set; a lost connection is taken up again. Raises only what no retry mends."""
        ...

    async def synced(self) -> None:
        """Returns when the copy holds everything that was there when `run` began. Nothing is reconciled before."""
        ...


@dataclass(frozen=True, slots=True)
class Attributes:
    """What an access review asks about: a verb on one object of a resource."""

    verb: str
    group: str
    resource: str
    namespace: str
    """Empty for what is cluster-wide."""
    name: str


class Reviews(Protocol):
    """Asks the API server what it allows others. A folder has nobody to ask."""

    async def may(self, user: Mapping[str, Any], attributes: Attributes) -> bool:
        """Whether that user may do that, by a SubjectAccessReview. One request.

        `user` has `username`, `uid`, `groups` and `extra` as a CertificateSigningRequest's spec has them. Raises Refused if the
        operator may not ask, Unreachable if the authorizer could not decide.
        """
        ...


def owner_reference(owner: Object, *, controller: bool = True) -> dict[str, Any]:
    """The entry of `metadata.ownerReferences` for what belongs to `owner` and goes with it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": controller,
        "blockOwnerDeletion": controller,
    }


def controller_of(item: Object) -> Mapping[str, Any] | None:
    """The owner reference of the object's controller, if it has one."""
    return next((one for one in item["metadata"].get("ownerReferences") or () if one.get("controller")), None)


def annotation(item: Object, name: str) -> str | None:
    """The value of an annotation."""
    value: str | None = (item["metadata"].get("annotations") or {}).get(name)
    return value
