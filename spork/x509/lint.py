"""Lint before signing: the octets that are about to be signed are read back and judged by rules with stable codes.

Codes name the document that is broken (`rfc5280.…`, `rfc9881.…`) or, for what SPORK demands beyond it, `spork.…`. An error
blocks the signature; a warning does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1

from spork.errors import SporkError
from spork.x509.authority import Authority
from spork.x509.der import CertificateTBS, TBSCertificate
from spork.x509.lintbody import BODY_RULES
from spork.x509.lintextensions import EXTENSION_RULES
from spork.x509.lintnames import NAME_RULES
from spork.x509.lintview import Rule, Severity, View, octets, parsed
from spork.x509.profile import Profile
from spork.x509.spki import family_of

RULES: tuple[Rule, ...] = (*BODY_RULES, *EXTENSION_RULES, *NAME_RULES)
UNREADABLE = "rfc5280.unreadable"
EXTENSION_UNREADABLE = "rfc5280.extension_unreadable"
_BLOCKS_PARSING = frozenset(
    {
        "rfc5280.version",
        "rfc5280.serial_not_positive",
        "rfc5280.serial_too_long",
        "rfc5280.duplicate_extension",
        "rfc5280.no_extensions",
    }
)
"""After these the parser of extensions refuses the whole, or warns; what it would add is not worth it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: its code, and a sentence about this certificate."""

    code: str
    severity: Severity
    message: str


def lint_certificate(tbs: CertificateTBS, profile: Profile, authority: Authority) -> list[Finding]:
    """Every finding, in the order of `RULES`; empty for a sound certificate. Raises nothing, whatever the octets are."""
    try:
        view = _view(tbs, profile, authority)
    except (ValueError, TypeError, OverflowError) as error:
        return [Finding(UNREADABLE, "error", f"the TBSCertificate cannot be read: {error}")]
    findings = _apply(BODY_RULES, view)
    if any(finding.code in _BLOCKS_PARSING for finding in findings):
        return findings
    try:
        view.certificate = parsed(tbs, authority)
        view.extensions = {type(extension.value): extension for extension in view.certificate.extensions}
        findings += _apply(EXTENSION_RULES, view) + _apply(NAME_RULES, view)
    except _PARSER_ERRORS as error:
        findings.append(Finding(EXTENSION_UNREADABLE, "error", f"a name or extension cannot be read: {error}"))
    return findings


_PARSER_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,
)


def _view(tbs: CertificateTBS, profile: Profile, authority: Authority) -> View:
    fields = asn1.decode_der(TBSCertificate, tbs.der)
    spki = octets(fields.subject_public_key_info)
    try:
        family = family_of(spki)
    except SporkError:
        family = None
    return View(
        tbs=tbs,
        profile=profile,
        authority=authority,
        fields=fields,
        issuer=octets(fields.issuer),
        subject=octets(fields.subject),
        spki=spki,
        family=family,
        self_signed=spki == authority.spki,
    )


def _apply(rules: tuple[Rule, ...], view: View) -> list[Finding]:
    return [Finding(rule.code, rule.severity, message) for rule in rules if (message := rule.check(view)) is not None]
