"""Lists are made by `issuance.publish`; here it is given this process's parts."""

from __future__ import annotations

import structlog

from spork.errors import Code, SporkError
from spork.issuance.publish import CRLPublisher, PublishedCRL
from spork.services import Services
from spork.store.crl import CRLStore
from spork.x509.authority import KeyMode

log = structlog.get_logger("spork.crl")

# What another process or another hour will settle: the key is elsewhere, somebody else is at it, the database is away.
_PASSING = frozenset({Code.KEY_UNAVAILABLE, Code.IN_PROGRESS, Code.CONFLICT, Code.UNAVAILABLE, Code.NOT_FOUND})


def publisher(services: Services) -> CRLPublisher:
    """A publisher over this process's database and keys; `close` it when done."""
    return CRLPublisher(CRLStore(services.database), services.keys, services.authorities, services.clock)


async def ensure_crls(services: Services) -> list[PublishedCRL]:
    """Publishes every list that is due and whose CA key is open in this process; the others are left as they are.

    For sealed CAs this is called while their keys are open: by `spork pki build`, at the first start and by `spork crl publish`.
    """
    lists = publisher(services)
    try:
        return await publish_due(lists, open_modes(services))
    finally:
        lists.close()


def open_modes(services: Services) -> frozenset[KeyMode]:
    """Key modes whose keys this process can open. The serving process never opens sealed ones, and need not try each second."""
    online = {KeyMode.ONLINE, KeyMode.PKCS11} if "online" in services.keys.kinds else set()
    return frozenset(online | ({KeyMode.SEALED} if "sealed" in services.keys.kinds else set()))


async def publish_due(
    lists: CRLPublisher, modes: frozenset[KeyMode], authority_id: str | None = None
) -> list[PublishedCRL]:
    """Publishes what is due, of one CA or of all; a CA that cannot do it now does not keep the others from it."""
    made = []
    for state in await lists.scopes():
        if authority_id not in (None, state.scope.authority_id) or state.key_mode not in modes:
            continue
        try:
            if await lists.due(state) is None:
                continue
            published = await lists.publish_if_due(state.scope)
        except SporkError as error:
            if error.code not in _PASSING:
                log.error("a CRL could not be made", scope=str(state.scope), reason=error.detail)
            elif error.code is not Code.KEY_UNAVAILABLE:
                log.info("a CRL could not be made now", scope=str(state.scope), reason=error.detail)
            continue
        except Exception:
            log.exception("a CRL could not be made", scope=str(state.scope))
            continue
        if published is not None:
            made.append(published)
            log.info(
                "CRL published", scope=str(state.scope), kind=published.kind, number=published.number,
                entries=published.entries,
            )  # fmt: skip
    return made
