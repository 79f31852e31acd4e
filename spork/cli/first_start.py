"""The course of `spork up`: passphrases, database, management CA, trees, CRLs, first administrator, issuers, and then serve.

Every step finds what an earlier start left, whole or half done, and goes on from there.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click
from cryptography.hazmat.primitives.serialization import Encoding

from spork.api.crl.publication import ensure_crls
from spork.bootstrap import ensure_first_admin, ensure_management_ca
from spork.cli.context import write_context
from spork.cli.folder_start import (
    HIERARCHY_FILE,
    FolderWork,
    build_trees,
    check_declared,
    look_once,
    open_folder,
)
from spork.cli.runtime import run, stop_on_signals
from spork.cli.welcome import welcome
from spork.controller.folder.cluster import FolderCluster
from spork.files import write_atomically
from spork.hierarchy.build import build
from spork.hierarchy.load import load_hierarchy
from spork.hierarchy.model import Hierarchy
from spork.ids import MANAGEMENT_AUTHORITY
from spork.services import Services, open_services
from spork.settings import Settings
from spork.x509.authority import Authority, AuthorityKind


async def run_up(directory: Path, settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM. Raises SporkError: CONFIGURATION, CONFLICT (the state folder is in use), WRONG_PASSPHRASE."""
    declared = directory / HIERARCHY_FILE
    check_declared(directory, settings)
    hierarchy = load_hierarchy(declared, oid_base=settings.oid_base) if declared.exists() else None
    stop = stop_on_signals()
    make_passphrases(settings)
    sealed = settings.sealed_passphrase_file is not None and settings.sealed_passphrase_file.exists()
    async with open_services(settings, sealed=sealed, create=True, exclusive=True) as services:
        folder = await open_folder(directory, services, hierarchy)
        await prepare(services, hierarchy, folder)
        services.keys.close("sealed")
        await look_once(folder, services)
        work = FolderWork(folder, services, lambda: write_trust(services, settings.home / "trust"))

        async def ready() -> None:
            await welcome(services, hierarchy, folder)

        workers = [("folder", work.reconcile), ("trust", work.follow_trust)]
        await run(services, stop, ready, sealed=True, more=workers)


async def prepare(services: Services, hierarchy: Hierarchy | None, folder: FolderCluster | None = None) -> None:
    """Makes the state what is declared, and leaves in SPORK_HOME what people need: trust anchor, administrator, context."""
    home = services.settings.home
    await ensure_management_ca(services)
    if hierarchy is not None:
        await build(hierarchy, services.workshop, progress=_say)
    if folder is not None:
        await build_trees(folder, services, _say)
    await ensure_crls(services)
    await write_trust(services, home / "trust")
    admin = await ensure_first_admin(services, home)
    write_context(
        home, services.settings.url_of_admin(), admin.certificate, admin.key, home / "trust" / "listeners.pem"
    )


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


async def write_trust(services: Services, folder: Path) -> None:
    """root.pem: the roots of the tree. listeners.pem: those and the management CA, for clients of the administration API."""
    every = [a for a in await services.authorities.all() if a.certificate is not None]
    roots = [pem_of(a) for a in every if a.kind is AuthorityKind.ROOT]
    management = [pem_of(a) for a in every if a.id == MANAGEMENT_AUTHORITY]
    write_atomically(folder / "root.pem", b"".join(roots))
    write_atomically(folder / "listeners.pem", b"".join(roots + management))


def pem_of(authority: Authority) -> bytes:
    """The CA's own certificate."""
    assert authority.certificate is not None
    return authority.certificate.public_bytes(Encoding.PEM)


def make_passphrases(settings: Settings) -> None:
    """On the very first start, writes random passphrases beside the state, and says what they are worth."""
    online, sealed = settings.passphrase_file, settings.sealed_passphrase_file
    assert online is not None and sealed is not None, "settings that were loaded name both"
    if (settings.home / "postgres").exists() or online.exists() or "CREDENTIALS_DIRECTORY" in os.environ:
        return
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The file that is asked for above comes last, so that a start which was killed in between is gone on with.
    files = [file for file in (sealed, online) if not file.exists()]
    for file in files:
        write_atomically(file, secrets.token_urlsafe(32).encode() + b"\n", 0o600, replace=False)
    click.echo(
        f"Made {' and '.join(str(file) for file in files)}. They lie beside the keys that they open, so they protect nothing "
        "from whoever can read that folder: good for trying things out, not for a CA that others trust.",
        err=True,
    )
