"""The work of `spork cert show`: a certificate from the CA or from a file, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509

from spork.cli.client import connect
from spork.cli.context import ContextOptions
from spork.cli.inspect import certificate_fields
from spork.cli.lookup import find
from spork.cli.material import der_of
from spork.cli.output import left, show_data, show_fields, when


def show_certificate(connection: ContextOptions, which: str, output: str) -> None:
    """Raises SporkError."""
    with connect(connection) as client:
        found = find(client, which)
    if output in ("json", "yaml"):
        show_data(found, output)
        return
    fields: list[tuple[str, Any]] = [("State", _state(found))]
    if found["pem"] is not None:
        fields += certificate_fields(x509.load_der_x509_certificate(der_of(found["pem"].encode("ascii"), "the answer")))
    else:
        fields += [("Subject", found["subject"]), ("Names", found["names"]), ("Serial", found["serial"])]
    evidence = found["evidence"]
    fields += [
        ("CA", f"{found['authority']} (generation {found['generation']})"),
        (
            "Issued by",
            f"issuer {found['issuer']}, profile {found['profile']}"
            if found["issuer"]
            else f"profile {found['profile']}",
        ),
        ("Requester", found["requester"]),
        ("Evidence", " ".join(str(evidence[key]) for key in ("kind", "reference") if key in evidence)),
        ("Policy", trace_lines(found["trace"], output)),
    ]
    show_fields(fields)


def show_file(path: Path, output: str) -> None:
    """What is in a file. Raises ConfigurationError, OSError."""
    der = der_of(path.read_bytes(), str(path))
    fields = certificate_fields(x509.load_der_x509_certificate(der))
    if output in ("json", "yaml"):
        show_data({label: value for label, value in fields if value}, output)
    else:
        show_fields(fields)


def trace_lines(verdicts: Sequence[Mapping[str, Any]], output: str) -> list[str]:
    """One line for each refusal and how many rules agreed; with -o wide one line for each rule."""
    shown = [verdict for verdict in verdicts if output == "wide" or not verdict.get("passed")]
    lines = []
    if output != "wide" and verdicts:
        lines.append(f"{sum(1 for v in verdicts if v.get('passed'))} rules agreed (-o wide names them)")
    for verdict in shown:
        mark = "ok " if verdict.get("passed") else "NO "
        about = " ".join(str(verdict[key]) for key in ("name", "reason") if verdict.get(key))
        lines.append(f"{mark} {verdict.get('rule')}{': ' + about if about else ''}")
    return lines


def _state(found: Mapping[str, Any]) -> str:
    state = str(found["state"])
    if state == "issued":
        return f"issued, expires in {left(found['notAfter'])}"
    if found.get("revocation"):
        revocation = found["revocation"]
        return f"{state} since {when(revocation['revokedAt'])} ({revocation['reason']})"
    return state
