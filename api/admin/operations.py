"""Who may call what: one table over every operation. A route whose operation is not in it cannot be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spork.api.admin.authenticate import Administrator
from spork.errors import Code, SporkError
from spork.policy.levels import ACTIONS, AdminLevel


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operation is an instance of, which decides the level it needs."""

    action: str
    """A key of `policy.levels.ACTIONS`."""
    everywhere: bool = False
    """Refused to administrators who are limited to some issuers: what it shows or changes has no issuer."""

    @property
    def level(self) -> AdminLevel:
        """The lowest level that may call it."""
        return ACTIONS[self.action]


# The keys are the operationIds of the OpenAPI description.
OPERATIONS: Final[dict[str, Operation]] = {
    "whoAmI": Operation("certificate.read"),
    "describe": Operation("certificate.read"),
    "listCertificates": Operation("certificate.read"),
    "showCertificate": Operation("certificate.read"),
    "exportCertificate": Operation("certificate.read"),
    "exportChain": Operation("certificate.read"),
    "listAuthorities": Operation("certificate.read"),
    "showAuthority": Operation("certificate.read"),
    "listIssuers": Operation("certificate.read"),
    "showIssuer": Operation("certificate.read"),
    "listCRLs": Operation("crl.read"),
    "listAuditEvents": Operation("audit.read", everywhere=True),
    "checkPolicy": Operation("certificate.issue"),
    "checkRequest": Operation("certificate.issue"),
    "issueCertificate": Operation("certificate.issue"),
    "renewCertificate": Operation("certificate.issue"),
    "revokeCertificate": Operation("certificate.revoke"),
    "releaseCertificate": Operation("certificate.revoke"),
    "publishCRL": Operation("crl.publish"),
    "createEnrolmentToken": Operation("certificate.issue"),
    "listEnrolmentTokens": Operation("certificate.issue"),
    "revokeEnrolmentToken": Operation("certificate.issue"),
    "listAdministrators": Operation("administrator.manage", everywhere=True),
    "issueAdministrator": Operation("administrator.manage", everywhere=True),
    "revokeAdministrator": Operation("administrator.manage", everywhere=True),
}


def check_allowed(administrator: Administrator, operation_id: str) -> None:
    """Returns only if the administrator may call the operation. Raises SporkError(FORBIDDEN) saying what would be needed."""
    operation = OPERATIONS[operation_id]
    check_level(administrator, operation.level, operation_id)
    if operation.everywhere and administrator.issuers is not None:
        raise SporkError(
            Code.FORBIDDEN,
            f"{operation_id} concerns the whole installation, and {administrator.name!r} is limited to issuers: "
            f"{', '.join(sorted(administrator.issuers)) or 'none'}.",
        )


def check_level(administrator: Administrator, needed: AdminLevel, what: str) -> None:
    """Raises SporkError(FORBIDDEN) if the administrator stands below the level."""
    if administrator.level < needed:
        raise SporkError(
            Code.FORBIDDEN,
            f"{what} needs the level {needed.name.lower()}; {administrator.name!r} is {administrator.level.name.lower()}.",
        )


def may(administrator: Administrator) -> list[str]:
    """The operations that this administrator may call."""
    return [
        name
        for name, operation in OPERATIONS.items()
        if administrator.level >= operation.level and not (operation.everywhere and administrator.issuers is not None)
    ]
