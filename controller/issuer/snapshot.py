"""All that is known of an issuer before it is decided upon: read once, from the cluster's copy and the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from spork.controller.cluster import Object, Ref
from spork.controller.hierarchy.declarers import grants
from spork.controller.manifests import ManifestError, load_object
from spork.controller.models import ClusterIssuer, Issuer
from spork.controller.reconciler import Context
from spork.controller.trust.distributed import waits_for
from spork.errors import Code, SporkError
from spork.ids import MANAGEMENT_AUTHORITY, AuthorityId
from spork.x509.authority import Authority


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One issuer. `resource` is None where the object cannot be read; `fault` says why."""

    ref: Ref
    resource: Issuer | ClusterIssuer | None
    fault: str
    authority: Authority | None
    """The CA that it names, also one that signs no more."""
    authorities: Mapping[AuthorityId, Authority]
    """Every CA of the database that could be named."""
    granted: bool
    """Whether the namespace may bind the CA; a ClusterIssuer always may."""
    now: datetime
    waits: str | None = None
    """Why nothing may be signed below the CA yet: its root is new, and not with everybody who asks for it."""


async def read(context: Context, ref: Ref, item: Object) -> Snapshot:
    """Raises DatabaseUnavailable."""
    resource, fault = _resource(item)
    authorities = {one.id: one for one in await context.services.authorities.all() if one.id != MANAGEMENT_AUTHORITY}
    authority = None if resource is None else await _authority(context, AuthorityId(resource.spec.ca))
    granted = not ref.namespace or (authority is not None and grants(context.cluster, authority, ref.namespace))
    waits = None if authority is None else waits_for(context, authority)
    return Snapshot(ref, resource, fault, authority, authorities, granted, context.clock.now(), waits)


def _resource(item: Object) -> tuple[Issuer | ClusterIssuer | None, str]:
    try:
        resource = load_object({**item, "status": None})
    except ManifestError as error:
        return None, error.detail
    assert isinstance(resource, Issuer | ClusterIssuer), "the ref says so"
    return resource, ""


async def _authority(context: Context, ca: AuthorityId) -> Authority | None:
    if ca == MANAGEMENT_AUTHORITY:
        return None
    try:
        return await context.services.authorities.authority(ca)
    except SporkError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        return None
