"""The one composition root: settings in, a set of wired parts out. Doors and commands take what they need from `Services`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from spork.clock import Clock, SystemClock
from spork.errors import Code, ConfigurationError, SporkError
from spork.hierarchy.build import Workshop
from spork.issuance.pipeline import Pipeline
from spork.issuance.remote import RemoteIssuing
from spork.issuance.revoke import Revoker
from spork.issuance.signing import CertificateSigner
from spork.keys.passphrase import Passphrases, find_passphrases
from spork.keys.ring import KeyRing
from spork.policy.engine import PolicyEngine
from spork.policy.levels import admin_arc
from spork.policy.weakkeys import parse_blocklist
from spork.settings import Settings
from spork.store.authority import Authorities
from spork.store.building import BuildRequests
from spork.store.certificate import CertificateLedger
from spork.store.database import RUNTIME_ROLE, Database
from spork.store.embedded import EmbeddedPostgres
from spork.store.embedded_access import running_urls
from spork.store.home import HomeInUse, locked
from spork.store.issuer import Issuers
from spork.store.migrate import check_migrated, migrate
from spork.store.private_key import KeyRecords
from spork.store.revocation import RevocationLedger
from spork.store.signing import CertificateSigning


@dataclass(frozen=True)
class Services:
    """All parts of one process. Immutable; every part is safe to share between tasks of one event loop."""

    settings: Settings
    clock: Clock
    database: Database
    authorities: Authorities
    issuers: Issuers
    ledger: CertificateLedger
    revocations: RevocationLedger
    key_records: KeyRecords
    keys: KeyRing
    policy: PolicyEngine
    pipeline: Pipeline
    """Signs in this process; `judge` works without keys too."""
    issuing: RemoteIssuing
    """Issues by way of a signer, which may be another process; needs no keys."""
    building: BuildRequests
    """Has a declared tree built by whoever has the keys for it."""
    revoker: Revoker
    postgres: EmbeddedPostgres | None = None
    """The bundled server, where this process runs it."""

    def signer(self) -> CertificateSigner:
        """What signs for those who have no keys: for the worker of a process that has them."""
        return CertificateSigner(
            CertificateSigning(self.database), self.keys, self.authorities, self.issuers, self.policy.decide
        )

    @property
    def workshop(self) -> Workshop:
        """What building a declared tree needs."""
        return Workshop(
            store=self.authorities,
            keys=self.keys,
            signers=self.keys,
            pipeline=self.pipeline,
            clock=self.clock,
            status_url=self.settings.url_of_status(),
        )


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    sealed: bool = False,
    create: bool = False,
    keys: bool = True,
    terminal: bool = False,
    exclusive: bool = False,
    first_keys: bool = False,
    role: str = RUNTIME_ROLE,
    clock: Clock | None = None,
) -> AsyncIterator[Services]:
    """Opens the database (starting the bundled one if nobody runs it) and the keys, and closes both at the end.

    `create` migrates and allows first keys to be made, `first_keys` only the latter; `sealed` opens the sealed keys too;
    `keys=False` opens none, for the operator and for commands that only look: then what needs a private key raises
    KEY_UNAVAILABLE. `role` is what the database's login acts as if it may: `OPERATOR_ROLE` for the operator. `terminal` may ask
    for passphrases; `exclusive` refuses to share the state folder with a running CA.
    Raises SporkError: CONFLICT, UNAVAILABLE, WRONG_PASSPHRASE.
    """
    with _database(settings, exclusive) as (url, runtime_url, postgres):
        if create:
            await migrate(url)
        database = await Database.open(runtime_url, role=role)
        try:
            await check_migrated(database)
            yield await wire(
                settings,
                database,
                _passphrases(settings, sealed, keys, terminal),
                create or first_keys,
                clock,
                postgres,
            )
        finally:
            await database.close()


async def wire(
    settings: Settings,
    database: Database,
    passphrases: dict[str, Passphrases],
    create: bool = False,
    clock: Clock | None = None,
    postgres: EmbeddedPostgres | None = None,
) -> Services:
    """Puts the parts together over an open database. Raises SporkError(WRONG_PASSPHRASE)."""
    clock = clock or SystemClock()
    records = KeyRecords(database)
    ring = await KeyRing.open(records, passphrases=passphrases, create=create, fips=settings.fips)
    authorities = Authorities(database)
    ledger = CertificateLedger(database)
    revocations = RevocationLedger(database)
    policy = PolicyEngine(
        fips=settings.fips,
        admin_arc=admin_arc(settings.oid_base),
        blocked_keys=await asyncio.to_thread(_blocked_keys, settings.blocked_keys_file),
    )
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        authorities=authorities,
        issuers=Issuers(database),
        ledger=ledger,
        revocations=revocations,
        key_records=records,
        keys=ring,
        policy=policy,
        pipeline=Pipeline(ledger, ring, authorities, clock, policy.decide),
        issuing=RemoteIssuing(ledger, authorities, clock, policy.decide),
        building=BuildRequests(database),
        revoker=Revoker(revocations, clock),
        postgres=postgres,
    )


def _blocked_keys(file: Path | None) -> frozenset[str]:
    """A list that was asked for and cannot be read must not pass for an empty one. Raises ConfigurationError."""
    if file is None:
        return frozenset()
    try:
        with file.open(encoding="ascii") as lines:
            return parse_blocklist(lines)
    except OSError as error:
        raise ConfigurationError(f"{file}: the list of blocked keys cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigurationError(f"{file}: not a list of blocked keys: {error}.") from error


def _passphrases(settings: Settings, sealed: bool, keys: bool, terminal: bool) -> dict[str, Passphrases]:
    if not keys:
        return {}
    found = {"online": find_passphrases("online", settings.passphrase_file, terminal=terminal)}
    if sealed:
        found["sealed"] = find_passphrases("sealed", settings.sealed_passphrase_file, terminal=terminal)
    return found


@contextlib.contextmanager
def _database(settings: Settings, exclusive: bool) -> Iterator[tuple[str, str, EmbeddedPostgres | None]]:
    """The URLs of the owner and of the serving login, and the bundled server if it was started here."""
    bundled = not settings.database_url
    with contextlib.ExitStack() as held:
        if exclusive or bundled:
            try:
                held.enter_context(locked(settings.home))
            except HomeInUse:
                if exclusive:
                    raise
                # `spork up` runs there: its server is used as it is.
                yield *running_urls(settings.home), None
                return
        if not bundled:
            yield settings.database_url, settings.database_url, None
            return
        postgres = EmbeddedPostgres.start(settings.home)
        held.callback(postgres.stop)
        yield postgres.url, postgres.runtime_url, postgres


async def keep_database_running(services: Services, stop: asyncio.Event) -> None:
    """Starts the bundled server again if it died, until `stop` is set. Does nothing where the database is somebody else's."""
    postgres = services.postgres
    while postgres is not None and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.5)
        if not stop.is_set() and not postgres.alive:
            try:
                await asyncio.to_thread(postgres.ensure_running)
            except SporkError as error:
                if error.code is not Code.UNAVAILABLE:
                    raise


async def migrate_database(settings: Settings) -> list[str]:
    """Applies missing migrations as the owner of the database; returns their names. Raises SporkError."""
    with _database(settings, exclusive=False) as (url, _, _):
        return await migrate(url)
