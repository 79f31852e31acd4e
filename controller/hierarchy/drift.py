"""What is declared against what stands in the certificates and is served: two conditions, looked at rarely.

Reading is done here too: the bytes that the status address gives out for each CA, and the revocation lists as they are stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx
from cryptography import x509

from spork.controller.conditions import Condition
from spork.controller.hierarchy.snapshot import Snapshot
from spork.controller.reasons import CRLS_FRESH, CRLS_STALE, DRIFT, IN_SYNC, NOT_CHECKED
from spork.controller.reconciler import Context
from spork.hierarchy.model import DeclaredAuthority
from spork.hierarchy.offline import extension_faults
from spork.hierarchy.snapshot import stored_certificate
from spork.issuance.crl_schedule import CRLScope, ScopeState
from spork.store.crl import CRLStore
from spork.x509.authority import AuthorityURLs, KeyMode

_TIMEOUT_S = 5.0
_ALTOGETHER_S = 15.0
_MAX_OCTETS = 64 * 1024
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Served:
    """What the status address gives out for a CA: octets, or why there are none."""

    octets: bytes | None
    fault: str = ""


async def in_sync(context: Context, snapshot: Snapshot) -> Condition:
    """Whether the certificates say what is declared, and are those that are served."""
    faults = list(_certificate_faults(snapshot))
    served = await _served(context, snapshot) if context.services.settings.drift_checks else {}
    wrong = [f"{ca}: {fault}" for ca, fault in _served_faults(snapshot, served)]
    if faults or wrong:
        return Condition("InSync", False, DRIFT, "; ".join([*faults, *wrong]) + ".")
    if missing := [f"{ca}: {one.fault}" for ca, one in served.items() if one.octets is None]:
        message = (
            f"What is served was not compared: {missing[0]}. If the status address cannot be reached from here, set "
            "SPORK_DRIFT_CHECKS=off; the rest is compared nevertheless."
        )
        return Condition("InSync", None, NOT_CHECKED, message)
    return Condition("InSync", True, IN_SYNC)


def _certificate_faults(snapshot: Snapshot) -> Iterator[str]:
    assert snapshot.declared is not None
    for declared in snapshot.declared.authorities:
        certificate = stored_certificate(snapshot.tree.authorities.get(declared.id))
        if certificate is None:
            continue
        yield from (f"the certificate of {declared.id}: {fault}" for fault in extension_faults(declared, certificate))
        yield from _url_faults(declared, certificate, snapshot)


def _url_faults(declared: DeclaredAuthority, certificate: x509.Certificate, snapshot: Snapshot) -> Iterator[str]:
    """Its URLs are those that its issuer declares, if the issuer's key is here; elsewhere people choose their own."""
    parent = snapshot.tree.authorities.get(declared.parent_id) if declared.parent_id is not None else None
    if parent is None or parent.current is None or parent.key_mode is KeyMode.OFFLINE:
        return
    found, wanted = _urls_of(certificate), parent.current.urls
    for what, here, there in (
        ("revocation list", found.crl, wanted.crl),
        ("OCSP", found.ocsp, wanted.ocsp),
        ("issuer", found.ca_issuers, wanted.ca_issuers),
    ):
        if not _same(here, there):
            old, new = ", ".join(here) or "none", ", ".join(there) or "none"
            yield (
                f"the certificate of {declared.id} names {what} URLs {old}, declared are {new}; it gets them when it is issued "
                "again, and until then the old ones must go on working"
            )


def _same(found: Sequence[str], wanted: Sequence[str]) -> bool:
    """A shard's number stands in the place of `{shard}`."""
    if len(found) != len(wanted):
        return False
    pairs = [(one, other.split("{shard}")) for one, other in zip(found, wanted, strict=True)]
    return all(one.startswith(parts[0]) and one.endswith(parts[-1]) for one, parts in pairs)


def _urls_of(certificate: x509.Certificate) -> AuthorityURLs:
    crl: list[str] = []
    access: dict[x509.ObjectIdentifier, list[str]] = {}
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.CRLDistributionPoints):
            crl = [name.value for point in extension.value for name in point.full_name or ()]
        if isinstance(extension.value, x509.AuthorityInformationAccess):
            for one in extension.value:
                access.setdefault(one.access_method, []).append(str(one.access_location.value))
    kinds = x509.oid.AuthorityInformationAccessOID
    ocsp, issuers = access.get(kinds.OCSP, []), access.get(kinds.CA_ISSUERS, [])
    return AuthorityURLs(crl=tuple(crl), ocsp=tuple(ocsp), ca_issuers=tuple(issuers))


async def _served(context: Context, snapshot: Snapshot) -> dict[str, Served]:
    base, wanted = context.services.settings.url_of_status(), {}
    for ca, state in snapshot.tree.authorities.items():
        if state.declared_by == snapshot.subject and state.current is not None and state.current.certificate_der:
            wanted[str(ca)] = f"{base}/ca/{ca}/{state.current.generation}.cer"
    limit = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
        end = asyncio.get_running_loop().time() + _ALTOGETHER_S

        async def one(url: str) -> Served:
            async with limit:
                return await _fetched(client, url, end)

        found = await asyncio.gather(*(one(url) for url in wanted.values()))
    return dict(zip(wanted, found, strict=True))


async def _fetched(client: httpx.AsyncClient, url: str, end: float) -> Served:
    """At most 64 KiB before `end`, of the loop's clock; whatever goes wrong is an answer too."""
    try:
        async with asyncio.timeout_at(end), client.stream("GET", url) as response:
            if response.status_code == 404:
                return Served(b"")
            if response.status_code != 200:
                return Served(None, f"{url} answers {response.status_code}")
            octets = b""
            async for part in response.aiter_bytes():
                octets += part
                if len(octets) > _MAX_OCTETS:
                    return Served(None, f"{url} gives out more than a certificate")
            return Served(octets)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return Served(None, f"{url} cannot be fetched ({type(error).__name__})")


def _served_faults(snapshot: Snapshot, served: dict[str, Served]) -> Iterator[tuple[str, str]]:
    for ca, state in snapshot.tree.authorities.items():
        one = served.get(str(ca))
        if one is None or one.octets is None or state.current is None:
            continue
        if not one.octets:
            yield str(ca), "its certificate is not served"
        elif one.octets != state.current.certificate_der:
            yield str(ca), "another certificate is served than the one that is stored"


async def crls(context: Context, snapshot: Snapshot) -> Condition:
    """Whether each CA of the tree has valid revocation lists."""
    scopes = await CRLStore(context.services.database).scopes(snapshot.now)
    ours = {ca for ca, state in snapshot.tree.authorities.items() if state.declared_by == snapshot.subject}
    faults = list(_crl_faults([one for one in scopes if one.scope.authority_id in ours], snapshot.now))
    if faults:
        message = "; ".join(faults)
        return Condition("CRLs", False, CRLS_STALE, f"{message[:1].upper()}{message[1:]}.")
    return Condition("CRLs", True, CRLS_FRESH)


def _crl_faults(scopes: Sequence[ScopeState], now: datetime) -> Iterator[str]:
    for state in scopes:
        list_of = f"the list of {state.scope}"
        if state.full is None:
            yield f"{list_of} is missing; {_remedy(state.scope, state.key_mode)}"
        elif state.full.next_update <= now:
            yield f"{list_of} ended on {state.full.next_update:%Y-%m-%d}; {_remedy(state.scope, state.key_mode)}"
        elif state.key_mode not in (KeyMode.ONLINE, KeyMode.PKCS11) and _is_due(state, now):
            yield f"{list_of} ends on {state.full.next_update:%Y-%m-%d} and is due; {_remedy(state.scope, state.key_mode)}"


def _is_due(state: ScopeState, now: datetime) -> bool:
    assert state.full is not None
    return now >= state.full.this_update + state.policy.interval


def _remedy(scope: CRLScope, key_mode: KeyMode) -> str:
    match key_mode:
        case KeyMode.OFFLINE:
            return f"`spork crl tbs --ca {scope.authority_id} --output list.tbs`, sign it elsewhere, `spork crl import`"
        case KeyMode.SEALED:
            return "`spork pki work --sealed --once` where the sealed passphrase is"
        case _:
            return "`spork serve` makes it"
