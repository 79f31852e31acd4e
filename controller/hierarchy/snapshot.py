"""All that is known of a Hierarchy before it is decided upon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from spork.controller.annotations import APPROVE
from spork.controller.cluster import Cluster, Object, annotation
from spork.controller.conversion import declared_hierarchy
from spork.controller.hierarchy.declarers import declarer_name, declaring
from spork.controller.manifests import ManifestError, load_object
from spork.controller.models import Hierarchy
from spork.controller.reconciler import Context
from spork.hierarchy.model import Hierarchy as DeclaredHierarchy
from spork.hierarchy.plan import plan
from spork.hierarchy.problems import HierarchyError
from spork.hierarchy.steps import Plan
from spork.issuance.tree import GenerationState, TreeState
from spork.store.building import BuildState
from spork.x509.authority import AuthorityURLs


@dataclass(frozen=True)
class Snapshot:
    """One Hierarchy. `resource` and `declared` are None where the object cannot be used; `fault` says why."""

    name: str
    resource: Hierarchy | None
    declared: DeclaredHierarchy | None
    fault: str
    taken: Mapping[str, str]
    """CAs that it names and that an older Hierarchy declares: id -> name of that one."""
    tree: TreeState
    plan: Plan
    job: BuildState | None
    approved: str | None
    """The hash that the annotation names."""
    now: datetime
    revoked: frozenset[str] = frozenset()
    """CAs of it whose certificate, or one above it, is revoked."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """What came of that which was handed in, by CA."""
    is_checked: bool = False
    """Whether a signer still has something that was handed in."""

    @property
    def subject(self) -> str:
        """How the store calls it."""
        return f"Hierarchy/{self.name}"

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Those of its CAs."""
        return tuple(one.certificate_der for one in self._generations() if one.certificate_der is not None)

    @property
    def urls(self) -> tuple[AuthorityURLs, ...]:
        """What its CAs write into certificates as addresses."""
        return tuple(one.urls for one in self._generations())

    def _generations(self) -> Iterator[GenerationState]:
        for state in self.tree.authorities.values():
            if state.declared_by == self.subject and state.current is not None:
                yield state.current


def declaration(context: Context, item: Object) -> tuple[Hierarchy | None, DeclaredHierarchy | None, str]:
    """The object as the models read it, as the tree that it declares, and what is wrong with it."""
    try:
        resource = load_object({**item, "status": None})
        assert isinstance(resource, Hierarchy), "the ref says so"
        return resource, declared_hierarchy(resource, oid_base=context.services.settings.oid_base), ""
    except (ManifestError, HierarchyError) as error:
        return None, None, " ".join(error.lines)


async def read(context: Context, item: Object, messages: Mapping[str, str], *, counts: bool = False) -> Snapshot:
    """Raises DatabaseUnavailable. Certificates are counted where a plan needs it, or where `counts` asks for it."""
    services, name = context.services, item["metadata"]["name"]
    resource, declared, fault = declaration(context, item)
    tree = await services.authorities.read_tree(counts=counts)
    found = _plan(context, declared, tree)
    if found.changes and not counts:
        # Whether a CA may be taken out of service, or its lists may change, depends on what is alive.
        tree = await services.authorities.read_tree()
        found = _plan(context, declared, tree)
    return Snapshot(
        name=name,
        resource=resource,
        declared=declared,
        fault=fault,
        taken=_taken(context.cluster, item, declared),
        tree=tree,
        plan=found,
        job=await services.building.state(declarer_name(item)),
        approved=annotation(item, APPROVE),
        now=context.clock.now(),
        revoked=await _revoked(context, declared),
        messages=messages,
    )


def _plan(context: Context, declared: DeclaredHierarchy | None, tree: TreeState) -> Plan:
    if declared is None:
        return Plan(())
    return plan(declared, tree, status_url=context.services.settings.url_of_status(), now=context.clock.now())


def _taken(cluster: Cluster, item: Object, declared: DeclaredHierarchy | None) -> dict[str, str]:
    found = {}
    for authority in declared.authorities if declared is not None else ():
        owner = declaring(cluster, authority.id)
        if owner is not None and owner["metadata"]["uid"] != item["metadata"]["uid"]:
            found[str(authority.id)] = str(owner["metadata"]["name"])
    return found


async def _revoked(context: Context, declared: DeclaredHierarchy | None) -> frozenset[str]:
    """Disabled CAs are not among `all`, and a plan names them by itself."""
    ours = declared.by_id if declared is not None else {}
    return frozenset(one.id for one in await context.services.authorities.all() if one.stopped and one.id in ours)
