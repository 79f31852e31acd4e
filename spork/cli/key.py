"""`spork key`: what keys are stored, the rotation of their passphrases, and the state of the cryptographic module.

These commands work on the database directly, on a host that holds the passphrases; no door offers them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import click

from spork.cli.output import output_option, show_data, show_fields, show_list

if TYPE_CHECKING:
    from spork.services import Services

_ACTOR = "host"


@click.group()
def key() -> None:
    """Look after stored keys and their passphrases."""


@key.command("list")
@output_option
def list_keys(output: str) -> None:
    """List the stored private keys: what they are for and below which passphrase. Needs no passphrase."""
    rows = asyncio.run(_listed())
    columns = [
        ("ID", lambda row: row["id"]),
        ("PURPOSE", lambda row: row["purpose"]),
        ("ALGORITHM", lambda row: row["algorithm"]),
        ("KIND", lambda row: row["kind"]),
        ("CA", lambda row: row["authority"]),
    ]
    wide = [("KEK", lambda row: row["kek"]), ("SPKI SHA-256", lambda row: row["spki_sha256"])]
    show_list(rows, output, columns, wide, "There are no stored keys.")


@key.command()
@click.option("--kind", type=click.Choice(["online", "sealed"]), required=True, help="Which passphrase to rotate.")
def rewrap(kind: Literal["online", "sealed"]) -> None:
    """Rotate a passphrase without touching the keys below it.

    Write the new passphrase on the first line of the passphrase file and the old one on the second, wherever SPORK runs; then run
    this command once; then take the second line away. Running processes follow by themselves, and an interrupted rotation goes on
    when the command is started again. Without a file both passphrases are asked for at the terminal.
    """
    moved, file = asyncio.run(_rewrapped(kind))
    click.echo(
        f"{moved} {kind} keys were moved below the new passphrase." if moved else "There was nothing left to move."
    )
    if file is not None:
        click.echo(f"Take the second line out of {file} now, here and on every other replica.")


@key.command()
@output_option
def fips(output: str) -> None:
    """Say which cryptographic module runs here, and whether only approved algorithms are accepted."""
    from dataclasses import asdict

    from spork.keys.fips import fips_report
    from spork.settings import load_settings

    report = fips_report(load_settings().fips)
    if output in ("json", "yaml"):
        show_data({name: list(v) if isinstance(v, tuple) else v for name, v in asdict(report).items()}, output)
        return
    show_fields(
        [
            ("cryptography", report.cryptography),
            ("Library", report.backend),
            ("FIPS mode of the library", "on" if report.fips_provider_enabled else "off"),
            ("Validated module", "no"),
            ("Only approved algorithms", "yes" if report.policy_switch else "no"),
            ("Approved", ", ".join(report.approved_algorithms)),
            ("Other", ", ".join(report.other_algorithms)),
            ("Note", report.note),
        ]
    )


async def _listed() -> list[dict[str, Any]]:
    import hashlib

    from spork.services import open_services
    from spork.settings import load_settings

    async with open_services(load_settings(), keys=False) as services:
        owners = await _owners(services)
        rows = []
        for kek in await services.key_records.keks():
            for key_id in await services.key_records.keys_under(kek.kek_id):
                stored = await services.key_records.key(key_id)
                rows.append(
                    {
                        "id": key_id,
                        "purpose": stored.purpose.value,
                        "algorithm": stored.algorithm,
                        "kind": kek.kind,
                        "authority": owners.get(key_id),
                        "kek": kek.kek_id,
                        "spki_sha256": hashlib.sha256(stored.spki).hexdigest(),
                    }
                )
        return rows


async def _owners(services: Services) -> dict[str, str]:
    return {str(ca.key_id): str(ca.id) for ca in await services.authorities.all() if ca.key_id is not None}


async def _rewrapped(kind: Literal["online", "sealed"]) -> tuple[int, str | None]:
    from spork.errors import ConfigurationError
    from spork.keys.passphrase import prompt_passphrase, read_passphrases
    from spork.services import open_services
    from spork.settings import load_settings

    async with open_services(load_settings(), sealed=kind == "sealed", terminal=True) as services:
        file = services.keys.file_of(kind)
        if file is None:
            new = await asyncio.to_thread(prompt_passphrase, kind, new=True, confirm=True)
            return await services.keys.rewrap(kind, new.current, actor=_ACTOR), None
        if read_passphrases(file).previous is None:
            raise ConfigurationError(
                f"{file} has one line. Write the new passphrase above the old one, on every replica, and run this again."
            )
        return await services.keys.rewrap(kind, actor=_ACTOR), str(file)
