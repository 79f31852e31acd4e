"""Issuers: one row for each namespace and name, owned by the origin that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, LiteralString, Protocol

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from spork.errors import Code, SporkError
from spork.ids import HIERARCHY_FILE, AuthorityId, IssuerId
from spork.issuance.ports import AuditEvent
from spork.policy.issuer import Expression, Issuer, KeyPolicy, NamePolicy
from spork.store import audit as audit_log
from spork.store.configuration import move, watch_of
from spork.store.connection import CountedConnection
from spork.store.database import Database

_ORIGINS = ("file", "kubernetes", "rest")
_SELECT: LiteralString = """
SELECT id, namespace, name, origin, authority_id, profiles, names, keys, max_validity_s, protocols, is_default,
       expressions, declared_by
  FROM issuer WHERE disabled_at IS NULL ORDER BY id
"""
_OWNER: LiteralString = """
SELECT id, origin, disabled_at, declared_by FROM issuer WHERE namespace = %s AND name = %s FOR UPDATE
"""
_PUT: LiteralString = """
INSERT INTO issuer (namespace, name, origin, authority_id, profiles, names, keys, max_validity_s, protocols, is_default,
                    expressions, declared_by)
VALUES (%(namespace)s, %(name)s, %(origin)s, %(authority_id)s, %(profiles)s, %(names)s, %(keys)s, %(max_validity_s)s,
        %(protocols)s, %(is_default)s, %(expressions)s, %(declared_by)s)
ON CONFLICT (namespace, name) DO UPDATE
   SET authority_id = excluded.authority_id, profiles = excluded.profiles, names = excluded.names, keys = excluded.keys,
       max_validity_s = excluded.max_validity_s, protocols = excluded.protocols, is_default = excluded.is_default,
       expressions = excluded.expressions, declared_by = excluded.declared_by, disabled_at = NULL, updated_at = now()
 WHERE issuer.origin = excluded.origin
   AND (issuer.authority_id, issuer.profiles, issuer.names, issuer.keys, issuer.max_validity_s, issuer.protocols,
        issuer.is_default, issuer.expressions, issuer.declared_by, issuer.disabled_at)
       IS DISTINCT FROM
       (excluded.authority_id, excluded.profiles, excluded.names, excluded.keys, excluded.max_validity_s, excluded.protocols,
        excluded.is_default, excluded.expressions, excluded.declared_by, NULL)
RETURNING id
"""
_LIVE: LiteralString = """
SELECT count(*) FROM issuer i JOIN certificate c ON c.issuer_id = i.id
 WHERE i.namespace = %s AND i.name = %s AND i.origin = %s AND c.state = 'issued' AND c.not_after >= now()
   AND NOT EXISTS (SELECT FROM revocation r WHERE r.certificate_id = c.id AND r.released_at IS NULL)
"""
_DISABLE: LiteralString = "UPDATE issuer SET disabled_at = now(), updated_at = now() WHERE id = %s"


class IssuerFields(Protocol):
    """What an issuer is made of, whoever declares it."""

    @property
    def name(self) -> str: ...
    @property
    def authority_id(self) -> AuthorityId: ...
    @property
    def profiles(self) -> tuple[str, ...]: ...
    @property
    def names(self) -> NamePolicy: ...
    @property
    def keys(self) -> KeyPolicy: ...
    @property
    def max_validity(self) -> timedelta | None: ...
    @property
    def protocols(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def expressions(self) -> tuple[Expression, ...]: ...
    @property
    def default(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    namespace: str
    name: str
    origin: str
    authority_id: str
    profiles: list[str]
    names: Mapping[str, Any]
    keys: Mapping[str, Any]
    max_validity_s: int | None
    protocols: Mapping[str, Mapping[str, Any]]
    is_default: bool
    expressions: list[Mapping[str, str]]
    declared_by: str


class Issuers:
    """Implements `issuance.ports.Issuers`: snapshots, refreshed when the configuration's version moves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = watch_of(database)
        self._version = -1
        self._by_label: dict[str, Issuer] = {}

    async def issuer(self, label: str | None) -> Issuer:
        """By door label; None means the default issuer, or the only one there is. Raises SporkError(NOT_FOUND)."""
        found = await self._issuers()
        if label is not None:
            if label not in found:
                raise SporkError(Code.NOT_FOUND, f"There is no issuer {label!r}.")
            return found[label]
        # Each origin may declare a default; the host's own files come first.
        defaults = sorted((i for i in found.values() if i.default), key=lambda i: (_ORIGINS.index(i.origin), i.id))
        if defaults or len(found) == 1:
            return defaults[0] if defaults else next(iter(found.values()))
        raise SporkError(Code.NOT_FOUND, "There is no default issuer; name one.")

    async def by_id(self, issuer_id: IssuerId) -> Issuer:
        """By its row. Raises SporkError(NOT_FOUND), also for a disabled one."""
        for issuer in (await self._issuers()).values():
            if issuer.id == issuer_id:
                return issuer
        raise SporkError(Code.NOT_FOUND, "The issuer was disabled or is not there.")

    async def all(self) -> tuple[Issuer, ...]:
        """Every issuer that is not disabled, oldest first."""
        return tuple((await self._issuers()).values())

    async def put(
        self,
        issuer: IssuerFields,
        *,
        namespace: str = "",
        origin: str,
        audit: AuditEvent,
        declared_by: str = HIERARCHY_FILE,
    ) -> IssuerId:
        """See `put_issuer`."""
        return await put_issuer(
            self._database, issuer, namespace=namespace, origin=origin, audit=audit, declared_by=declared_by
        )

    async def disable(
        self, name: str, *, namespace: str = "", origin: str, audit: AuditEvent, declared_by: str | None = None
    ) -> None:
        """See `disable_issuer`."""
        await disable_issuer(
            self._database, namespace=namespace, name=name, origin=origin, audit=audit, declared_by=declared_by
        )

    async def live_certificates(self, name: str, *, namespace: str = "", origin: str) -> int:
        """How many certificates it issued that are neither expired nor revoked; counted now, from an index."""
        row = await (await self._database.execute(_LIVE, [namespace, name, origin])).fetchone()
        return int(row[0]) if row is not None else 0

    async def _issuers(self) -> dict[str, Issuer]:
        version = await self._watch.version()
        if version != self._version:
            async with self._database.batch() as connection:
                issuers = await read_issuers(connection)
            self._by_label, self._version = {issuer.label: issuer for issuer in issuers}, version
        return self._by_label


async def read_issuers(connection: CountedConnection) -> list[Issuer]:
    """Every issuer that is not disabled, read on the given connection."""
    cursor = connection.cursor(row_factory=class_row(_Row))
    return [_issuer(row) for row in await (await cursor.execute(_SELECT)).fetchall()]


async def put_issuer(
    database: Database,
    issuer: IssuerFields,
    *,
    namespace: str,
    origin: str,
    audit: AuditEvent,
    declared_by: str = HIERARCHY_FILE,
    take_over: bool = False,
) -> IssuerId:
    """Creates or replaces it; a disabled one lives again. One that is as given already changes nothing, not even the audit log.

    With `take_over` it may be one that another tree declared; whoever asks for that has had it approved.

    Raises SporkError: CONFLICT (the name belongs to another origin or declaration), NOT_FOUND (no such authority is there).
    """
    async with database.transaction() as connection:
        existing = await _owned(connection, namespace, issuer.name, origin, declared_by, take_over)
        values = _values(issuer, namespace, origin) | {"declared_by": declared_by}
        row = await (await connection.execute(_PUT, values)).fetchone()
        if row is None:
            # Unchanged; or made by another origin between the two statements.
            existing = existing or await _owned(connection, namespace, issuer.name, origin, declared_by, take_over)
            assert existing is not None
            return existing
        await move(connection)
        await audit_log.append(connection, audit)
    watch_of(database).forget()
    return IssuerId(row[0])


async def disable_issuer(
    database: Database,
    *,
    namespace: str,
    name: str,
    origin: str,
    audit: AuditEvent,
    declared_by: str | None = None,
) -> None:
    """Shuts its doors; what it issued stays. Disabling it twice is no change. `declared_by`: only if that is its declaration.

    Raises SporkError: NOT_FOUND, CONFLICT (it belongs to another origin or declaration).
    """
    async with database.transaction() as connection:
        row = await (await connection.execute(_OWNER, [namespace, name])).fetchone()
        if row is None:
            raise SporkError(Code.NOT_FOUND, f"There is no issuer {name!r}.")
        _require_origin(name, row[1], origin)
        if declared_by is not None and not (_of_cluster(row[3]) and _of_cluster(declared_by)):
            _require_declaration(name, row[3], declared_by)
        if row[2] is None:
            await connection.execute(_DISABLE, [row[0]])
            await move(connection)
            await audit_log.append(connection, audit)
    watch_of(database).forget()


async def _owned(
    connection: CountedConnection, namespace: str, name: str, origin: str, declared_by: str, take_over: bool
) -> IssuerId | None:
    row = await (await connection.execute(_OWNER, [namespace, name])).fetchone()
    if row is None:
        return None
    _require_origin(name, row[1], origin)
    # What is disabled may be declared anew elsewhere, and a cluster that is set up anew goes on with its issuers.
    clusters = {_of_cluster(row[3]), _of_cluster(declared_by)}
    if row[2] is None and clusters != {True} and not (take_over and clusters == {False}):
        _require_declaration(name, row[3], declared_by)
    return IssuerId(row[0])


def _of_cluster(declared_by: str) -> bool:
    """Whether an Issuer or ClusterIssuer declares it, in whichever cluster."""
    return declared_by.startswith("cluster:")


def _require_declaration(name: str, owner: str, declared_by: str) -> None:
    if owner != declared_by:
        words = "an Issuer or ClusterIssuer resource" if _of_cluster(owner) else owner
        raise SporkError(
            Code.CONFLICT, f"The issuer {name!r} is declared by {words}; change it there, or choose another name."
        )


def _require_origin(name: str, owner: str, origin: str) -> None:
    if owner != origin:
        places = {"file": "the hierarchy file", "kubernetes": "a Kubernetes resource", "rest": "the REST API"}
        raise SporkError(
            Code.CONFLICT,
            f"The issuer {name!r} is managed by {places[owner]}; change it there, or choose another name.",
        )


def _values(issuer: IssuerFields, namespace: str, origin: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "name": issuer.name,
        "origin": origin,
        "authority_id": issuer.authority_id,
        "profiles": list(issuer.profiles),
        "names": Jsonb(
            {
                "permit": {kind: list(patterns) for kind, patterns in issuer.names.permit.items()},
                "deny": {kind: list(patterns) for kind, patterns in issuer.names.deny.items()},
                "wildcards": issuer.names.wildcards,
            }
        ),
        "keys": Jsonb({"algorithms": list(issuer.keys.algorithms)}),
        "max_validity_s": None if issuer.max_validity is None else int(issuer.max_validity.total_seconds()),
        "protocols": Jsonb({name: dict(settings) for name, settings in issuer.protocols.items()}),
        "is_default": issuer.default,
        "expressions": Jsonb([asdict(expression) for expression in issuer.expressions]),
    }


def _issuer(row: _Row) -> Issuer:
    return Issuer(
        id=IssuerId(row.id),
        namespace=row.namespace,
        name=row.name,
        authority_id=AuthorityId(row.authority_id),
        profiles=tuple(row.profiles),
        names=NamePolicy(
            {kind: tuple(patterns) for kind, patterns in row.names.get("permit", {}).items()},
            {kind: tuple(patterns) for kind, patterns in row.names.get("deny", {}).items()},
            row.names.get("wildcards", True),
        ),
        keys=KeyPolicy(tuple(row.keys.get("algorithms", ()))),
        max_validity=None if row.max_validity_s is None else timedelta(seconds=row.max_validity_s),
        protocols=row.protocols,
        origin=row.origin,
        expressions=tuple(Expression(**expression) for expression in row.expressions),
        default=row.is_default,
        declared_by=row.declared_by,
    )
