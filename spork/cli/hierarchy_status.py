"""The built tree: which CAs there are, what their certificates say, and what waits."""

from __future__ import annotations

from typing import Any

from spork.cli.output import instant, left, show_list
from spork.hierarchy.ports import AuthorityState, TreeState
from spork.hierarchy.snapshot import stored_certificate
from spork.ids import serial_text
from spork.x509.names import common_name


def show_status(state: TreeState) -> None:
    """A table of the CAs."""
    show_list(
        status_as_json(state)["authorities"],
        "table",
        [
            ("ID", lambda row: row["id"]),
            ("KIND", lambda row: row["kind"]),
            ("PHASE", lambda row: row["phase"]),
            ("KEY", lambda row: f"{row['algorithm']} {row['key_mode']}"),
            ("GENERATION", lambda row: row["generation"]),
            ("ENDS", lambda row: (row["not_after"] or "")[:10]),
            ("LEFT", lambda row: left(row["not_after"])),
            ("LIVE", lambda row: row["live_certificates"]),
        ],
        empty="No CA is built yet; `spork pki build` makes the declared ones.",
    )


def status_as_json(state: TreeState) -> dict[str, Any]:
    """The whole tree as plain data."""
    return {
        "authorities": [_authority(one) for one in state.authorities.values()],
        "cross_certificates": [{"id": one.id, "issuer": one.issuer_id} for one in state.cross_certificates],
        "issuers": [
            {"name": one.name, "authority": one.authority_id, "origin": one.origin, "default": one.default}
            for one in state.issuers
        ],
    }


def _authority(state: AuthorityState) -> dict[str, Any]:
    certificate = stored_certificate(state)
    current = state.current
    return {
        "id": state.id,
        "name": common_name(certificate.subject) if certificate is not None else None,
        "kind": state.kind.value,
        "parent": state.parent_id,
        "phase": _phase(state, certificate is not None),
        "key_mode": state.key_mode.value,
        "algorithm": current.algorithm if current is not None else None,
        "generation": current.generation if current is not None else None,
        "serial": serial_text(certificate.serial_number) if certificate is not None else None,
        "not_before": instant(certificate.not_valid_before_utc) if certificate is not None else None,
        "not_after": instant(certificate.not_valid_after_utc) if certificate is not None else None,
        "live_certificates": state.live_certificates,
    }


def _phase(state: AuthorityState, certified: bool) -> str:
    if state.disabled:
        return "disabled"
    if state.current is not None and state.current.pending_csr is not None:
        return "waiting"
    return "ready" if certified else "unfinished"
