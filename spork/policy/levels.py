"""The four levels of administrators, each a certificate policy OID `<oid_base>.20.<number>`.

A certificate carries exactly one of them. Levels are compared as numbers and OIDs as whole OIDs, never as text prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType

from cryptography import x509

from spork.errors import Code, SporkError

PROFILE_PREFIX = "admin-"
"""Profiles of administrators are named `admin-<level>`."""


class AdminLevel(IntEnum):
    """What an administrator may do; a higher level may do all that a lower one may. The number ends the OID."""

    VIEWER = 1
    """Reads certificates, CRLs and the audit log."""
    OPERATOR = 2
    """Issues, and reads revocations."""
    ADMIN = 3
    """Issues, revokes, and publishes CRLs."""
    SUPERADMIN = 4
    """Everything: CA management, key operations, certificates of administrators."""


ACTIONS: Mapping[str, AdminLevel] = MappingProxyType(
    {
        "certificate.read": AdminLevel.VIEWER,
        "crl.read": AdminLevel.VIEWER,
        "audit.read": AdminLevel.VIEWER,
        "certificate.issue": AdminLevel.OPERATOR,
        "revocation.read": AdminLevel.OPERATOR,
        "certificate.revoke": AdminLevel.ADMIN,
        "crl.publish": AdminLevel.ADMIN,
        "authority.manage": AdminLevel.SUPERADMIN,
        "issuer.configure": AdminLevel.SUPERADMIN,
        "key.manage": AdminLevel.SUPERADMIN,
        "administrator.manage": AdminLevel.SUPERADMIN,
    }
)
"""The lowest level of each kind of action. A profile may ask for a higher level to issue (`Profile.minimum_level`)."""


def admin_arc(oid_base: str) -> str:
    """The arc under which only the management CA may assert policies."""
    return f"{oid_base}.20"


def is_at_or_below(oid: str, arc: str) -> bool:
    """Whether an OID is the arc itself or lies below it. `1.2.30` does not lie below `1.2.3`."""
    return oid == arc or oid.startswith(f"{arc}.")


def level_oid(level: AdminLevel, oid_base: str) -> str:
    return f"{admin_arc(oid_base)}.{level.value}"


def level_named(name: str) -> AdminLevel:
    """viewer, operator, admin or superadmin. Raises SporkError(CONFIGURATION)."""
    for level in AdminLevel:
        if level.name.lower() == name:
            return level
    known = ", ".join(level.name.lower() for level in AdminLevel)
    raise SporkError(Code.CONFIGURATION, f"There is no administrator level {name!r}; known are {known}.")


def level_of(certificate: x509.Certificate | Iterable[str], oid_base: str) -> AdminLevel:
    """The level that a certificate, or a list of policy OIDs, stands for.

    Raises SporkError(FORBIDDEN) unless exactly one OID lies in the administrators' arc, and it is one of the four levels.
    """
    policies = _policies(certificate) if isinstance(certificate, x509.Certificate) else certificate
    arc = admin_arc(oid_base)
    asserted = [oid for oid in policies if is_at_or_below(oid, arc)]
    if len(asserted) != 1:
        found = "none" if not asserted else f"{len(asserted)}"
        raise SporkError(
            Code.FORBIDDEN, f"An administrator's certificate carries exactly one level; this one has {found}."
        )
    for level in AdminLevel:
        if level_oid(level, oid_base) == asserted[0]:
            return level
    raise SporkError(Code.FORBIDDEN, f"The policy {asserted[0]} is not a level of administrators.")


def _policies(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.CertificatePolicies)
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise SporkError(Code.FORBIDDEN, "The certificate's extensions cannot be read.") from error
    return [information.policy_identifier.dotted_string for information in extension.value]
