"""What `spork up` prints when it is ready: where things are, and commands that work as they are printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from spork.controller.cluster import Cluster
from spork.errors import SporkError
from spork.hierarchy.model import Hierarchy
from spork.ids import MANAGEMENT_AUTHORITY
from spork.listener import PROFILE
from spork.policy.issuer import Issuer
from spork.policy.patterns import compiled
from spork.services import Services
from spork.settings import Settings
from spork.store.held import held_certificates
from spork.x509.names import dns

_EXAMPLE = "hello.localhost"
_SHOWN = 5


async def welcome(services: Services, hierarchy: Hierarchy | None, folder: Cluster | None = None) -> None:
    """What a person needs next, on standard output."""
    settings, trust = services.settings, services.settings.home / "trust"
    issuer = await _acme_issuer(services)
    directory = "" if issuer is None else _directory(settings, issuer)
    rows = Table.grid(padding=(0, 2))
    rows.add_row("Root certificate", str(trust / "root.pem"))
    if issuer is not None:
        rows.add_row("ACME directory", directory)
    rows.add_row("OCSP, CRLs", settings.url_of_status())
    rows.add_row("Administration", f"{settings.url_of_admin()}/api/v1/openapi.json")
    rows.add_row("Health, metrics", f"http://{settings.ops_listen}/readyz  /metrics")
    rows.add_row("Administrator", str(settings.home / "admin" / "superadmin.pem"))
    for heading, text in _certificates(settings, folder):
        rows.add_row(heading, text)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    panel = Panel(rows, title=f"{_title(hierarchy, folder)} is running", title_align="left", expand=False)
    # A path that is cut off cannot be copied, so the panel may be wider than the screen.
    Console(width=Console(width=1000).measure(panel).maximum).print(panel)
    if issuer is not None:
        as_it_stands = compiled(issuer.names).objection(dns(_EXAMPLE)) is None
        anchors = trust / ("listeners.pem" if await _is_served_by_management(services) else "root.pem")
        console.print(f"Get a certificate ({'as it stands' if as_it_stands else 'put in a name that you hold'}):\n")
        console.print(certbot_command(settings, directory, anchors, _EXAMPLE if as_it_stands else "NAME"))
        console.print()
    spork = _this_program()
    resources = f"{spork} get   " if folder is not None and folder.all("Hierarchy") else ""
    console.print(
        f"Then: {resources}{spork} cert list   {spork} audit list   {spork} pki status   Ctrl-C ends everything."
    )


def _title(hierarchy: Hierarchy | None, folder: Cluster | None) -> str:
    roots = [] if hierarchy is None else [hierarchy.root.common_name]
    specs = [] if folder is None else [one["spec"]["root"] for one in folder.all("Hierarchy")]
    return ", ".join([*roots, *(one.get("commonName") or one.get("subject") or one["id"] for one in specs)]) or "SPORK"


def _certificates(settings: Settings, folder: Cluster | None) -> list[tuple[str, str]]:
    """Where the declared certificates lie, or will lie in a moment."""
    found = [] if folder is None else list(folder.all("Certificate"))
    places = [
        settings.home / "secrets" / one["metadata"]["namespace"] / one["spec"]["secretName"] for one in found[:_SHOWN]
    ]
    texts = [f"{place}/tls.crt, tls.key, ca.crt" for place in places]
    if len(found) > _SHOWN:
        texts.append(f"and {len(found) - _SHOWN} more")
    return [("Certificates" if number == 0 else "", text) for number, text in enumerate(texts)]


def certbot_command(settings: Settings, directory: str, anchors: Path, name: str) -> str:
    """A command for an unmodified certbot, to be pasted into a shell."""
    folder = settings.home / "certbot"
    places = (("config", folder), ("work", folder), ("logs", folder / "logs"))
    return (
        f"  REQUESTS_CA_BUNDLE={shlex.quote(str(anchors))} certbot certonly --standalone \\\n"
        f"    --server {directory} --http-01-port {settings.acme_http01_port} \\\n"
        f"    --register-unsafely-without-email --agree-tos -n -d {name} \\\n"
        f"    {' '.join(f'--{kind}-dir {shlex.quote(str(place))}' for kind, place in places)}"
    )


def _directory(settings: Settings, issuer: Issuer) -> str:
    return f"{settings.url_of_enrol()}/acme/{'' if issuer.default else issuer.label + '/'}directory"


async def _acme_issuer(services: Services) -> Issuer | None:
    """The default issuer if it serves ACME, else the first that does."""
    try:
        default = [await services.issuers.issuer(None)]
    except SporkError:
        default = []
    return next((i for i in (*default, *await services.issuers.all()) if "acme" in i.protocols), None)


async def _is_served_by_management(services: Services) -> bool:
    """Whether the TLS certificate is none of the tree's, so that clients need the management CA as well."""
    held = await held_certificates(services.database, PROFILE, services.clock.now())
    return any(certificate.authority_id == MANAGEMENT_AUTHORITY for certificate in held)


def _this_program() -> str:
    """How the reader's shell finds this program: by its bare name where that leads here."""
    found = shutil.which("spork")
    here = Path(sys.argv[0])
    return "spork" if found and Path(found).resolve() == here.resolve() else shlex.quote(str(here))
