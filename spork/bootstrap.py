"""The first things of an installation: the management CA, and the first administrator.

Each function finds what an earlier start left, whole or half done, and goes on from there: every step is either one transaction
with an idempotency key, or a file that is written whole. The private key of the first administrator is on the disk before its
certificate is asked for, so no kill leaves a certificate whose key is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, load_pem_private_key, pkcs12

from spork.errors import Code, ConfigurationError, SporkError
from spork.files import write_atomically
from spork.ids import MANAGEMENT_AUTHORITY, KeyId
from spork.issuance.administrator import administrator_request
from spork.issuance.ports import AuditEvent, IdempotencyKey, Recorded
from spork.issuance.request import IssuanceRequest
from spork.issuance.tree import NewAuthority, NewGeneration
from spork.keys.ephemeral import EphemeralKey
from spork.policy.levels import AdminLevel
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.x509.algorithms import algorithm_named
from spork.x509.authority import Authority, AuthorityKind, AuthorityURLs, KeyMode
from spork.x509.der import KeyPurpose
from spork.x509.names import SubjectName
from spork.x509.profile import CAConstraints
from spork.x509.profiles import profile_named

if TYPE_CHECKING:
    from spork.services import Services

ALGORITHM: Final = "ecdsa-p256"
MANAGEMENT_VALIDITY: Final = timedelta(days=3650)
FIRST_ADMIN_VALIDITY: Final = timedelta(days=365)
FIRST_ADMIN_NAME: Final = "superadmin"
_HOST: Final = Requester(Door.BOOTSTRAP, "host")
# Each wait is one to five seconds; a lease lasts a minute.
_ATTEMPTS: Final = 60
_SCOPE: Final = f"authority:{MANAGEMENT_AUTHORITY}"


@dataclass(frozen=True, slots=True)
class FirstAdministrator:
    """Where the first administrator's files lie."""

    certificate: Path
    key: Path
    p12: Path
    p12_password: Path
    made: bool
    """Whether this start made one of them."""


async def ensure_management_ca(services: Services) -> Authority:
    """The management CA, made if it is missing: an ECDSA CA outside of every declared tree, valid for ten years.

    Raises SporkError: KEY_UNAVAILABLE (the online keys are not open), CONFLICT (another process makes it right now).
    """
    found = await _management(services)
    if found is not None and found.certificate is not None:
        return found
    async with services.authorities.lock():
        if await _management(services) is None:
            await _store_management_ca(services)
        authority = await services.authorities.authority(MANAGEMENT_AUTHORITY)
        if authority.certificate is None:
            recorded = await _issued(services, _self_signed(authority))
            await services.authorities.set_certificate(
                MANAGEMENT_AUTHORITY,
                authority.generation,
                recorded.der,
                recorded.not_after,
                {},
                AuditEvent("authority.certify", _HOST.identity, _SCOPE, {"generation": authority.generation}),
            )
    return await services.authorities.authority(MANAGEMENT_AUTHORITY)


async def issue_admin(
    services: Services,
    *,
    level: AdminLevel,
    name: str,
    spki: bytes,
    csr: x509.CertificateSigningRequest | None = None,
    names: tuple[SubjectName, ...] = (),
    issuers: Sequence[str] | None = None,
    validity: timedelta | None = None,
    actor: str = "host",
) -> Recorded:
    """Issues an administrator's certificate on this host, without REST. The same key gets the same certificate again.

    Raises SporkError: what policy refuses; CONFLICT where the key has a certificate with another name, level or limits.
    """
    limits = None if issuers is None else sorted(set(issuers))
    asked = f"{name}\n{level.value}\n{limits}".encode()
    key = IdempotencyKey(
        _SCOPE, Door.BOOTSTRAP, f"admin:{hashlib.sha256(spki).hexdigest()}", hashlib.sha256(asked).digest()
    )
    return await _issued(
        services,
        administrator_request(
            requester=Requester(Door.BOOTSTRAP, actor),
            evidence=Evidence("local", "database and passphrase of this installation"),
            idempotency=key,
            authority=await services.authorities.authority(MANAGEMENT_AUTHORITY),
            name=name,
            level=level,
            issuers=limits,
            oid_base=services.settings.oid_base,
            spki=spki,
            csr=csr,
            names=names,
            validity=validity,
        ),
    )


async def ensure_first_admin(services: Services, home: Path) -> FirstAdministrator:
    """`home`/admin/superadmin.{pem,key,p12} and the password of the last, made where they are missing.

    Once a SuperAdmin was issued and its files were taken away, none is made again: `spork admin issue --local` does that.
    Raises SporkError, OSError.
    """
    folder = home / "admin"
    files = FirstAdministrator(
        folder / "superadmin.pem",
        folder / "superadmin.key",
        folder / "superadmin.p12",
        folder / "superadmin.p12.password",
        True,
    )
    if files.certificate.exists() and files.key.exists() and files.p12.exists():
        return _unchanged(files)
    if not files.key.exists() and await _has_superadmin(services):
        return _unchanged(files)
    key = _kept_key(files.key)
    recorded = await issue_admin(
        services, level=AdminLevel.SUPERADMIN, name=FIRST_ADMIN_NAME, spki=key.spki, validity=FIRST_ADMIN_VALIDITY
    )
    certificate = x509.load_der_x509_certificate(recorded.der)
    if not files.p12.exists():
        management = await services.authorities.authority(MANAGEMENT_AUTHORITY)
        _write_p12(files, key, certificate, management)
    # The certificate is written last: where it is, everything is.
    write_atomically(files.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
    return files


def p12_bytes(
    key: EphemeralKey, certificate: x509.Certificate, above: Sequence[x509.Certificate], password: str
) -> bytes:
    """PKCS#12 for a browser or another device, under AES-256 (PBES2). Raises ConfigurationError for keys that it cannot hold."""
    try:
        return pkcs12.serialize_key_and_certificates(
            certificate.subject.rfc4514_string().encode("utf-8"),
            key.private_key,  # type: ignore[arg-type]  # the kinds that PKCS#12 cannot hold are refused below
            certificate,
            list(above),
            BestAvailableEncryption(password.encode("utf-8")),
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"A {key.signer.algorithm.name} key cannot be put into a PKCS#12 file.") from error


async def _issued(services: Services, request: IssuanceRequest) -> Recorded:
    """Issues, and waits for the lease of a start that was killed between reserving and recording to run out.

    Raises SporkError; IN_PROGRESS only after more time than any lease lasts.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await services.pipeline.issue(request)
        except SporkError as error:
            if error.code is not Code.IN_PROGRESS:
                raise
            await asyncio.sleep(error.retry_after_s or 1)
    return await services.pipeline.issue(request)


async def _management(services: Services) -> Authority | None:
    try:
        return await services.authorities.authority(MANAGEMENT_AUTHORITY)
    except SporkError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        return None


async def _store_management_ca(services: Services) -> None:
    key_id, spki = await _management_key(services)
    # The name tells installations apart: two of them in one browser must not look like one CA.
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"SPORK Management CA {hashlib.sha256(spki).hexdigest()[:8]}")]
    )
    await services.authorities.create_authority(
        NewAuthority(
            id=MANAGEMENT_AUTHORITY,
            kind=AuthorityKind.MANAGEMENT,
            parent_id=None,
            subject_der=subject.public_bytes(),
            key_mode=KeyMode.ONLINE,
            spec={},
            crl_shards=1,
            # Whoever checks administrators reads the database; the certificates need no addresses of CRLs.
            first=NewGeneration(generation=1, key_id=key_id, algorithm=ALGORITHM, spki=spki, urls=AuthorityURLs()),
        ),
        AuditEvent("authority.create", _HOST.identity, _SCOPE, {"algorithm": ALGORITHM}),
    )


async def _management_key(services: Services) -> tuple[KeyId, bytes]:
    """A key that a killed start left, or a new one."""
    left = await services.authorities.unused_key(MANAGEMENT_AUTHORITY, ALGORITHM, "online")
    if left is not None:
        return left
    audit = AuditEvent("key.generate", _HOST.identity, _SCOPE)
    return await services.keys.generate(algorithm_named(ALGORITHM), KeyPurpose.CA, "online", audit)


def _self_signed(authority: Authority) -> IssuanceRequest:
    digest = hashlib.sha256(authority.spki).digest()
    return IssuanceRequest(
        requester=_HOST,
        grant=Grant(profiles=frozenset({"root"})),
        evidence=Evidence("local", "first start"),
        idempotency=IdempotencyKey(_SCOPE, Door.BOOTSTRAP, f"management:{digest.hex()}", digest),
        authority=authority,
        issuer=None,
        profile=profile_named("root"),
        spki=authority.spki,
        subject=authority.subject,
        validity=MANAGEMENT_VALIDITY,
        constraints=CAConstraints(path_length=0),
    )


async def _has_superadmin(services: Services) -> bool:
    from spork.store.certificate_search import CertificateFilter, CertificateRecords

    wanted = CertificateFilter(authority_id=MANAGEMENT_AUTHORITY, profile="admin-superadmin", state="issued")
    return bool(await CertificateRecords(services.database).search(wanted, services.clock.now(), limit=1))


def _kept_key(path: Path) -> EphemeralKey:
    """The key in the file; a new one, written and on the disk, if there is none. Raises ConfigurationError, OSError."""
    if not path.exists():
        key = EphemeralKey.generate(ALGORITHM, KeyPurpose.ADMIN)
        write_atomically(path, key.pkcs8_pem(), 0o600, replace=False)
        return key
    try:
        return EphemeralKey(load_pem_private_key(path.read_bytes(), None), KeyPurpose.ADMIN)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not an unencrypted private key in PEM; move it away to have another made."
        ) from error


def _write_p12(
    files: FirstAdministrator, key: EphemeralKey, certificate: x509.Certificate, management: Authority
) -> None:
    if not files.p12_password.exists():
        write_atomically(files.p12_password, f"{secrets.token_urlsafe(18)}\n".encode(), 0o600, replace=False)
    password = files.p12_password.read_text("utf-8").strip()
    above = [management.certificate] if management.certificate is not None else []
    write_atomically(files.p12, p12_bytes(key, certificate, above, password), 0o600)


def _unchanged(files: FirstAdministrator) -> FirstAdministrator:
    return FirstAdministrator(files.certificate, files.key, files.p12, files.p12_password, False)
