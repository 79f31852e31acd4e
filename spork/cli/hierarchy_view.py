"""The declared tree on a terminal: every certificate that would be signed, and every step of a plan."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.model import DeclaredIssuer, Hierarchy
from spork.hierarchy.preview import PreviewedCertificate
from spork.hierarchy.steps import Plan, Step

_STYLES = {
    ChangeClass.NONE: "dim",
    ChangeClass.WAITING: "yellow",
    ChangeClass.IN_PLACE: "cyan",
    ChangeClass.CREATE: "green",
    ChangeClass.REISSUE: "magenta",
    ChangeClass.REKEY: "bold red",
    ChangeClass.FORBIDDEN: "bold red",
}


def console() -> Console:
    """On a terminal as wide as it is; in a pipe nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)


def preview_tree(hierarchy: Hierarchy, certificates: Sequence[PreviewedCertificate], status_url: str) -> Tree:
    """The tree of CAs with their certificates, and below each CA its issuers and cross-certificates."""
    nodes: dict[str, Tree] = {}
    top: Tree | None = None
    for certificate in certificates:
        label = Group(_heading(hierarchy, certificate), _certificate_table(certificate))
        authority = certificate.authority
        if authority is None:
            nodes[certificate.issuer_id].add(label)
            continue
        if authority.parent_id is None:
            top = nodes[authority.id] = Tree(label, guide_style="dim")
        else:
            nodes[authority.id] = nodes[authority.parent_id].add(label)
    for issuer in hierarchy.issuers:
        nodes[issuer.authority_id].add(Group(*_issuer(hierarchy, issuer, status_url)))
    assert top is not None, "the first certificate is the root's"
    return top


def _heading(hierarchy: Hierarchy, certificate: PreviewedCertificate) -> Text:
    authority = certificate.authority
    name = authority.common_name if authority is not None else certificate.id
    kind = "cross-certificate" if authority is None else f"{certificate.kind} CA"
    signer = "itself" if certificate.issuer_id == certificate.id else hierarchy.by_id[certificate.issuer_id].common_name
    return Text.assemble(
        (name, "bold"), ("  ", ""), (kind, "bold cyan"), (f"  {certificate.algorithm}, key {certificate.key_mode}", ""),
        (f", signed by {signer} with {certificate.signed_with}", "dim"),
    )  # fmt: skip


def _certificate_table(certificate: PreviewedCertificate) -> RenderableType:
    rows = Table.grid(padding=(0, 2))
    # Names and values are never cut: they are what the reader came to check.
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("id", "", Text(certificate.id))
    rows.add_row("subject", "", Text(certificate.subject))
    rows.add_row(
        "valid",
        "",
        Text(f"{certificate.not_before:%Y-%m-%d %H:%M:%S} to {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC"),
    )
    for extension in certificate.extensions:
        mark = Text("critical", style="yellow") if extension.critical else Text("")
        rows.add_row(extension.name, mark, Text("\n".join(extension.lines)))
    rows.add_row("", "", "")
    return rows


def _issuer(hierarchy: Hierarchy, issuer: DeclaredIssuer, status_url: str) -> Iterator[RenderableType]:
    heading = Text.assemble(
        (issuer.name, "bold"), ("  issuer", "bold green"), ("  default" if issuer.default else "", "")
    )
    yield heading
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("profiles", Text(", ".join(issuer.profiles)))
    rows.add_row("permits", Text("\n".join(_patterns(issuer.names.permit.items())) or "no names"))
    if issuer.names.deny:
        rows.add_row("denies", Text("\n".join(_patterns(issuer.names.deny.items()))))
    rows.add_row("keys", Text(", ".join(issuer.keys.algorithms) or "every algorithm"))
    if issuer.max_validity is not None:
        rows.add_row("valid", Text(f"at most {issuer.max_validity.days} days"))
    for protocol, settings in issuer.protocols.items():
        networks = ", ".join(settings.get("networks", ())) or "public addresses only"
        rows.add_row(protocol, Text(f"{', '.join(settings.get('challenges', ()))}; validates in {networks}"))
    urls = hierarchy.by_id[issuer.authority_id].urls_of(1, status_url)
    rows.add_row("CRL", Text("\n".join(urls.crl) or "none"))
    rows.add_row("OCSP", Text("\n".join(urls.ocsp) or "none"))
    rows.add_row("", "")
    yield rows


def _patterns(patterns: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    for kind, texts in patterns:
        yield f"{kind} {', '.join(texts)}"


def plan_table(plan: Plan) -> Table:
    """One line per CA, cross-certificate and issuer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("WHAT", no_wrap=True)
    table.add_column("ID", overflow="fold")
    table.add_column("CHANGE", no_wrap=True)
    table.add_column("LIVE BELOW", justify="right", no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for step in plan.steps:
        style = _STYLES[step.change]
        live = str(step.live_certificates) if step.target == "ca" else ""
        table.add_row(step.target.value, Text(step.id), Text(step.change.value, style=style), live, _why(step))
    return table


def _why(step: Step) -> Text:
    """The reason, and each field that differs with its values."""
    text = Text(step.reason)
    for field in step.fields:
        for key, before, after in differences(field.field, field.before, field.after):
            text.append(f"\n{key}: {_short(before)} -> {_short(after)}", style="dim")
    return text


def differences(key: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs between two values, as dotted key, old and new value: of tables only the entries that are not the same."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        yield key, before, after
        return
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield from differences(f"{key}.{name}", before.get(name), after.get(name))


def _short(value: object) -> str:
    import json

    if value is None or value == []:
        return "none"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
