"""Identifiers of an order: which names are asked for, in canonical form, and whether they can be had here.

Source: RFC 8555 sections 7.1.3 and 7.1.4, RFC 8738 section 3 (IP addresses).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spork.api.acme.challenges import offered
from spork.api.acme.configuration import ACMEConfiguration
from spork.errors import Code, SporkError, Subproblem
from spork.policy.issuer import Issuer
from spork.policy.patterns import compiled
from spork.x509.alabel import alabel_fault
from spork.x509.names import NameKind, SubjectName, dns
from spork.x509.namesyntax import name_fault

MAX_IDENTIFIERS = 100


@dataclass(frozen=True, slots=True)
class Identifier:
    """One name of an order."""

    type: str
    """dns or ip."""
    value: str
    """Canonical; a wildcard with its `*.`."""

    @property
    def wildcard(self) -> bool:
        return self.value.startswith("*.")

    @property
    def bare(self) -> str:
        """Without `*.`, as authorizations name it (RFC 8555 section 7.1.4)."""
        return self.value.removeprefix("*.")

    @property
    def name(self) -> SubjectName:
        return SubjectName(NameKind(self.type), self.value)

    def json(self) -> dict[str, str]:
        return {"type": self.type, "value": self.value}


def parse_identifiers(value: Any) -> tuple[Identifier, ...]:
    """Reads the `identifiers` of a new order; the same name twice counts once.

    Raises SporkError: MALFORMED, UNSUPPORTED_IDENTIFIER and REJECTED_IDENTIFIER with a subproblem for each name at fault.
    """
    if not isinstance(value, list) or not value:
        raise SporkError(Code.MALFORMED, "identifiers must be a list with at least one identifier.")
    if len(value) > MAX_IDENTIFIERS:
        raise SporkError(Code.MALFORMED, f"An order may have at most {MAX_IDENTIFIERS} identifiers.")
    found: dict[Identifier, None] = {}
    faults: list[Subproblem] = []
    for item in value:
        if (
            not isinstance(item, dict)
            or not isinstance(item.get("type"), str)
            or not isinstance(item.get("value"), str)
        ):
            raise SporkError(Code.MALFORMED, "Each identifier must be an object with type and value as texts.")
        parsed = _parsed(item["type"], item["value"])
        if isinstance(parsed, Identifier):
            found[parsed] = None
        else:
            faults.append(parsed)
    _refuse(faults)
    return tuple(found)


def check_identifiers(identifiers: Sequence[Identifier], issuer: Issuer, configuration: ACMEConfiguration) -> None:
    """Raises SporkError(REJECTED_IDENTIFIER) with a subproblem for each name that this issuer would not certify.

    A courtesy to clients, who learn it before they prove anything: the pipeline decides again when the order is finalized.
    """
    matcher = compiled(issuer.names)
    faults = []
    for identifier in identifiers:
        if identifier.wildcard and not issuer.names.wildcards:
            faults.append(_fault(identifier, "is refused: the issuer certifies no wildcard names"))
        elif (objection := matcher.objection(identifier.name)) is not None:
            faults.append(_fault(identifier, objection))
        elif not offered(identifier.type, identifier.wildcard, configuration):
            kind = "wildcard names" if identifier.wildcard else f"{identifier.type} identifiers"
            faults.append(
                _fault(identifier, f"is refused: no challenge that this CA offers can prove control over {kind}")
            )
    _refuse(faults)


def _parsed(kind: str, text: str) -> Identifier | Subproblem:
    if kind == "ip":
        try:
            canonical = ipaddress.ip_address(text).compressed
        except ValueError:
            canonical = ""
        if canonical != text or "%" in text:
            # RFC 8738 section 3: the textual form of RFC 5952, so that one address is one identifier.
            return _rejected("ip", text, "is not an IP address in its canonical form")
        return Identifier("ip", text)
    if kind != "dns":
        return Subproblem(
            Code.UNSUPPORTED_IDENTIFIER, f"Identifiers of type {kind[:40]!r} are not supported.", kind[:40], text[:300]
        )
    if not text.isascii():
        return _rejected("dns", text, "must be given in A-label form (xn--...)")
    fault = name_fault(SubjectName(NameKind.DNS, text)) or alabel_fault(text.lower())
    if fault is not None:
        return _rejected("dns", text, fault)
    return Identifier("dns", dns(text).value)


def _rejected(kind: str, text: str, fault: str) -> Subproblem:
    shown = text[:300]
    return Subproblem(Code.REJECTED_IDENTIFIER, f"{shown!r} {fault}.", kind, shown)


def _fault(identifier: Identifier, fault: str) -> Subproblem:
    return Subproblem(Code.REJECTED_IDENTIFIER, f"{identifier.value} {fault}.", identifier.type, identifier.value)


def _refuse(faults: Sequence[Subproblem]) -> None:
    if not faults:
        return
    codes = {fault.code for fault in faults}
    code = codes.pop() if len(codes) == 1 else Code.REJECTED_IDENTIFIER
    detail = (
        faults[0].detail
        if len(faults) == 1
        else f"{len(faults)} identifiers are refused; the first: {faults[0].detail}"
    )
    raise SporkError(code, detail, subproblems=faults)
