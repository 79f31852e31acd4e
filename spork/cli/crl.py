"""`spork crl`: look at revocation lists, publish them, and have those of offline CAs signed elsewhere.

`show` without an argument and `publish` ask the running CA. `publish --local`, `tbs` and `import` work on the database directly,
on the host that holds the passphrases or the signed answer; they are audited as done by the host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spork.cli.context import ContextOptions, context_options
from spork.cli.output import instant, output_option, show_data, show_fields, show_list
from spork.files import write_atomically

if TYPE_CHECKING:
    from spork.issuance.crl_schedule import CRLScope, ScopeState
    from spork.issuance.publish import CRLPublisher, PublishedCRL

_SHOWN_ENTRIES = 20


@click.group()
def crl() -> None:
    """Show and publish revocation lists."""


@crl.command()
@click.argument("source", required=False)
@click.option("--all", "everything", is_flag=True, help="Every entry, not only the first 20.")
@output_option
@context_options
def show(connection: ContextOptions, source: str | None, everything: bool, output: str) -> None:
    """Show a list from SOURCE, a file or an http URL; without it, what lists the CA has published."""
    if source is None:
        _show_published(connection, output)
        return
    from spork.x509.crl import entries_of, read_crl

    read = read_crl(_read(source))
    entries = [
        {
            "serial": f"{entry.serial:X}",
            "revoked_at": instant(entry.revoked_at),
            "reason": _reason(entry.reason),
            "invalidity_date": instant(entry.invalidity_date),
        }
        for entry in entries_of(read.crl)
    ]
    facts: dict[str, Any] = {
        "issuer": read.crl.issuer.rfc4514_string(),
        "number": read.number,
        "base_number": read.base_number,
        "this_update": instant(read.this_update),
        "next_update": instant(read.next_update),
        "distribution_points": list(read.distribution_points),
        "sha256": read.sha256.hex(),
    }
    if output in ("json", "yaml"):
        show_data({**facts, "entries": entries}, output)
        return
    show_fields([(name.replace("_", " "), value) for name, value in facts.items()] + [("entries", len(entries))])
    columns = [
        ("SERIAL", lambda row: row["serial"]),
        ("REVOKED", lambda row: row["revoked_at"]),
        ("REASON", lambda row: row["reason"]),
    ]
    if entries:
        click.echo()
        show_list(entries if everything else entries[:_SHOWN_ENTRIES], output, columns)
    if len(entries) > _SHOWN_ENTRIES and not everything:
        click.echo(f"{len(entries) - _SHOWN_ENTRIES} more entries; --all shows them.", err=True)


@crl.command()
@click.option("--ca", "authority", metavar="ID", help="One CA; with --local it may be left out: then all that are due.")
@click.option("--local", is_flag=True, help="Work on the database, and open sealed keys with their passphrase.")
@context_options
def publish(connection: ContextOptions, authority: str | None, local: bool) -> None:
    """Publish a CA's lists now.

    The running CA does it for keys that it holds. The lists of sealed CAs are published with --local, on a host that has
    SPORK_SEALED_PASSPHRASE_FILE or a terminal to ask at.
    """
    if local:
        made = asyncio.run(_publish_locally(authority))
        for item in made:
            click.echo(f"{item.scope}: {item.kind.value} list number {item.number} with {item.entries} entries")
        if not made:
            click.echo("No list is due.")
        return
    if authority is None:
        raise click.UsageError("Say which CA with --ca, or work on the database with --local.")
    from spork.cli.client import connect, path_segment

    with connect(connection) as client:
        answer = client.post(f"/crls/{path_segment(authority)}/publish")
    for number in answer["numbers"]:
        click.echo(f"{answer['authority']}: list number {number}")


@crl.command()
@click.option("--ca", "authority", metavar="ID", required=True, help="The CA whose key is elsewhere.")
@click.option("--shard", type=click.IntRange(0, 1024), default=0, help="Of a CA with shards: which one.")
@click.option(
    "--output", "file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where to write it."
)
def tbs(authority: str, shard: int, file: Path) -> None:
    """Write the list that an offline CA has to sign, as a TBSCertList in DER with its number reserved."""
    number, der = asyncio.run(_prepare(authority, shard))
    write_atomically(file, der)
    click.echo(f"List number {number} was written to {file}. Sign it where the key is, then run `spork crl import`.")


@crl.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tbs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `spork crl tbs` wrote: then FILE is the bare signature over it, as `openssl dgst -sign` makes it.",
)
def import_list(file: Path, tbs: Path | None) -> None:
    """Publish a list that was signed elsewhere, in DER or PEM.

    Its signature, issuer, number and dates are checked, and that it lists every certificate that is known to be revoked.
    """
    data = file.read_bytes()
    if tbs is not None:
        from spork.x509.crl import assemble

        data = assemble(tbs.read_bytes(), data)
    published = asyncio.run(_import(data))
    click.echo(f"{published.scope}: list number {published.number} with {published.entries} entries is published.")


def _show_published(connection: ContextOptions, output: str) -> None:
    from spork.cli.client import connect
    from spork.cli.output import left, when

    with connect(connection) as client:
        items = client.get("/crls")["items"]
    columns = [
        ("CA", lambda row: row["authority"]),
        ("GENERATION", lambda row: row["generation"]),
        ("SHARD", lambda row: row["shard"] or ""),
        ("NUMBER", lambda row: row["number"]),
        ("KIND", lambda row: "full" if row["baseNumber"] is None else f"delta on {row['baseNumber']}"),
        ("ENTRIES", lambda row: row["entries"]),
        ("THIS UPDATE", lambda row: when(row["thisUpdate"])),
        ("NEXT UPDATE", lambda row: when(row["nextUpdate"])),
        ("LEFT", lambda row: left(row["nextUpdate"])),
    ]
    show_list(items, output, columns, empty="No list has been published yet.")


def _read(source: str) -> bytes:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_bytes()
    import httpx

    from spork.errors import Code, SporkError

    try:
        answer = httpx.get(source, follow_redirects=True, timeout=30)
    except httpx.HTTPError as error:
        raise SporkError(Code.UNAVAILABLE, f"{source} cannot be reached ({type(error).__name__}).") from error
    if answer.status_code != httpx.codes.OK:
        raise SporkError(Code.NOT_FOUND, f"{source} answers {answer.status_code}.")
    return answer.content


def _reason(code: int) -> str:
    from spork.issuance.revoke import Reason

    return Reason(code).name


async def _publish_locally(authority: str | None) -> Sequence[PublishedCRL]:
    from spork.api.crl.publication import ensure_crls, publisher
    from spork.services import open_services
    from spork.settings import load_settings

    async with open_services(load_settings(), sealed=True, terminal=True) as services:
        if authority is None:
            return await ensure_crls(services)
        lists = publisher(services)
        try:
            return [await lists.publish(state.scope) for state in await _states(lists, authority)]
        finally:
            lists.close()


async def _prepare(authority: str, shard: int) -> tuple[int, bytes]:
    from spork.api.crl.publication import publisher
    from spork.errors import Code, SporkError
    from spork.services import open_services
    from spork.settings import load_settings

    async with open_services(load_settings(), keys=False) as services:
        lists = publisher(services)
        scopes: list[CRLScope] = [state.scope for state in await _states(lists, authority)]
        wanted = [scope for scope in scopes if scope.shard == shard]
        if not wanted:
            known = ", ".join(str(scope.shard) for scope in scopes)
            raise SporkError(Code.NOT_FOUND, f"{authority} has no shard {shard}; it has {known}.")
        # The newest key; an older one is signed for by hand as long as its certificates live.
        return await lists.prepare_offline(max(wanted, key=lambda scope: scope.generation))


async def _import(data: bytes) -> PublishedCRL:
    from spork.api.crl.publication import publisher
    from spork.services import open_services
    from spork.settings import load_settings

    async with open_services(load_settings(), keys=False) as services:
        return await publisher(services).import_signed(data)


async def _states(lists: CRLPublisher, authority: str) -> list[ScopeState]:
    from spork.errors import Code, SporkError

    found = [state for state in await lists.scopes() if state.scope.authority_id == authority]
    if not found:
        raise SporkError(Code.NOT_FOUND, f"There is no CA {authority!r} with a certificate.")
    return found
