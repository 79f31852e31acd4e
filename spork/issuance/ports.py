"""What issuance needs of the world. `store` and `keys` implement these; tests may hand in their own.

Every method that says so is one transaction. None of them is called while a signature is being made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from spork.errors import SporkError
from spork.ids import AuthorityId, CertificateId, IssuerId, KeyId, Serial
from spork.policy.issuer import Issuer
from spork.policy.proposal import Door
from spork.x509.authority import Authority
from spork.x509.der import KeyPurpose, Signer


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """UNIQUE (scope, door, key). The same key with another digest is a conflict."""

    scope: str
    """`issuer:<row id>`, or `authority:<id>` for the host's own certificates."""
    door: Door
    key: str
    digest: bytes
    """SHA-256 of what was asked for."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that changed, or was refused, written in the same transaction as the change itself."""

    action: str
    """Dotted verb: `certificate.issue`, `certificate.revoke`, `issuer.configure`, ..."""
    actor: str
    subject: str
    """What it happened to: `certificate:<authority>/<serial hex>`, `authority:<id>`, ..."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """JSON; never key material, tokens or challenge passwords."""
    address: str | None = None


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """Work that must follow a commit: published by the outbox worker, retried until done."""

    kind: str
    """`crl.publish` (payload authority), `webhook`, ..."""
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reservation:
    """All that is known of a certificate before it is signed."""

    idempotency: IdempotencyKey
    authority_id: AuthorityId
    generation: int
    issuer_id: IssuerId | None
    serial: Serial
    crl_shard: int
    profile: str
    subject: str
    """RFC 4514."""
    names: tuple[str, ...]
    """`kind:value`, for search."""
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    tbs: bytes
    requester: str
    evidence: Mapping[str, Any]
    trace: Sequence[Mapping[str, Any]]
    attributes: Mapping[str, Any]
    """Facts of the door that must be true from the first instant, such as `issuers` of an administrator's limits."""
    lease_s: int
    for_signer: bool = False
    """Whether another process signs it: then the job for that opens together with the reservation."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A durable reservation: the serial is known to CRL and OCSP from here on."""

    certificate_id: CertificateId
    lease_id: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A certificate as it stands in the database, issued."""

    certificate_id: CertificateId
    authority_id: AuthorityId
    generation: int
    serial: Serial
    der: bytes
    not_before: datetime
    not_after: datetime


class Ledger(Protocol):
    """The record of certificates from reserved on."""

    async def find(self, idempotency: IdempotencyKey) -> Recorded | None:
        """The certificate that this key brought forth already. Raises SporkError(CONFLICT) if the digest differs."""
        ...

    async def reserve(self, reservation: Reservation) -> Reserved | Recorded:
        """Transaction 1. Gives `Recorded` if the same key was answered before.

        An expired lease of the same key is closed as abandoned (and thereby revoked) in the same transaction.
        Raises SporkError: CONFLICT (another digest), IN_PROGRESS (another process holds a live lease; retry_after_s is set).
        """
        ...

    async def record(
        self, reserved: Reserved, der: bytes, audit: AuditEvent, outbox: Sequence[OutboxMessage] = ()
    ) -> Recorded:
        """Transaction 2, only while the lease holds. Raises SporkError(LEASE_LOST): then the signature must be thrown away."""
        ...

    async def abandon_expired(self) -> int:
        """Closes all reservations whose lease has run out; returns how many. CRL and OCSP show them as revoked."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reservation ended. `recorded`: issued. `refused`: by the signer, and why. Neither: its lease ran out."""

    certificate_id: CertificateId
    recorded: Recorded | None = None
    refused: SporkError | None = None


class RequestLedger(Protocol):
    """The ledger as those see it who leave the signature to another process."""

    async def find(self, idempotency: IdempotencyKey) -> Recorded | None:
        """As `Ledger.find`."""
        ...

    async def request(self, reservation: Reservation) -> CertificateId | Recorded:
        """As `Ledger.reserve`, with the job for the signer in the same statement.

        A live reservation of the same key, whoever made it, is joined: its id is given. Raises SporkError(CONFLICT).
        """
        ...

    async def outcomes(self, certificate_ids: Sequence[CertificateId]) -> Sequence[Outcome]:
        """Of those among them that are not reserved any more. One statement, whatever their number."""
        ...


@dataclass(frozen=True, slots=True)
class SigningTask:
    """A reservation that this process has claimed to sign: its row as it stands, for the signer to doubt."""

    job_id: int
    attempts: int
    """1 at the first try."""
    certificate_id: CertificateId
    authority_id: AuthorityId
    generation: int
    issuer_id: IssuerId | None
    serial: Serial
    crl_shard: int
    profile: str
    subject: str
    names: tuple[str, ...]
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    tbs: bytes
    door: str
    requester: str
    evidence: Mapping[str, Any]
    namespace: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A task with its certificate, and what the audit log says of it."""

    task: SigningTask
    der: bytes
    audit: AuditEvent


@dataclass(frozen=True, slots=True)
class Refused:
    """A task that will not be signed, and why."""

    task: SigningTask
    error: SporkError


class SigningQueue(Protocol):
    """What a signer takes its work from and where it records it."""

    async def claim(self, limit: int, *, job_lease_s: int, lease_s: int) -> tuple[str, Sequence[SigningTask]]:
        """Transaction 1a: takes tasks, and with them the leases of their reservations, under a lease id of its own (given)."""
        ...

    async def finish(self, lease_id: str, signed: Sequence[Signed], refused: Sequence[Refused]) -> int:
        """Transaction 2: records and refuses, each only while its lease is held, and closes the jobs.

        Returns how many of the signatures were recorded; the others must be thrown away.
        """
        ...


@dataclass(frozen=True, slots=True)
class Revocation:
    """A change of a certificate's status."""

    certificate_id: CertificateId
    reason: int
    """CRLReason (RFC 5280 section 5.3.1); 6 is hold, 8 (removeFromCRL) releases a hold."""
    revoked_at: datetime
    invalidity_date: datetime | None = None


class RevocationLedger(Protocol):
    """Status changes: each is one transaction with audit, outbox and the authority's counter."""

    async def revoke(self, revocation: Revocation, audit: AuditEvent, outbox: Sequence[OutboxMessage] = ()) -> int:
        """Returns the authority's new counter.

        Raises SporkError: NOT_FOUND, ALREADY_REVOKED (also hold on revoked, release of none).
        """
        ...


class SignerSource(Protocol):
    """Opens private keys. Implemented in `keys`."""

    async def signer(self, key_id: KeyId) -> Signer:
        """Raises SporkError: KEY_UNAVAILABLE (sealed here, or its KEK not loaded), CORRUPTED_KEY, NOT_FOUND."""
        ...


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A private key at rest: PKCS#8 under AES-256-GCM with its own data key, which is wrapped by a KEK."""

    key_id: KeyId
    purpose: KeyPurpose
    algorithm: str
    spki: bytes
    kek_id: str
    wrapped_data_key: bytes
    """nonce (12 octets) || ciphertext || tag."""
    ciphertext: bytes
    """nonce (12 octets) || ciphertext || tag; AAD binds key id and purpose."""


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """One KEK's public parameters and its verifier; the key itself comes from a passphrase by Argon2id."""

    kek_id: str
    kind: str
    """online or sealed."""
    salt: bytes
    memory_kib: int
    iterations: int
    lanes: int
    verifier: bytes
    """nonce || AES-256-GCM of a constant under the KEK: tells a wrong passphrase from a corrupted row."""
    active: bool
    """New keys are wrapped by the active KEK of their kind; one of each kind."""


class KeyRecords(Protocol):
    """Where wrapped keys live. Implemented in `store`."""

    async def keks(self) -> Sequence[KeyEncryptionKey]: ...

    async def add_kek(self, kek: KeyEncryptionKey, audit: AuditEvent | None = None) -> None:
        """Inserts it, active, and makes the former active one of its kind inactive, in one transaction with the audit event."""
        ...

    async def drop_kek(self, kek_id: str, audit: AuditEvent | None = None) -> None:
        """Removes a KEK that wraps no key any more. Raises SporkError(CONFLICT) otherwise."""
        ...

    async def add_key(self, key: WrappedKey, audit: AuditEvent) -> None: ...

    async def key(self, key_id: KeyId) -> WrappedKey:
        """Raises SporkError(NOT_FOUND)."""
        ...

    async def keys_under(self, kek_id: str) -> Sequence[KeyId]: ...

    async def rewrap(self, key_id: KeyId, old_kek_id: str, new_kek_id: str, wrapped_data_key: bytes) -> None:
        """Changes only the wrapping, and only if it still is under `old_kek_id`."""
        ...


class Authorities(Protocol):
    """CAs as immutable snapshots, cached and refreshed when the configuration's version moves."""

    async def authority(self, authority_id: AuthorityId, generation: int | None = None) -> Authority:
        """The given generation, by default the current one. Raises SporkError(NOT_FOUND)."""
        ...

    async def ca_spkis(self) -> frozenset[bytes]:
        """SHA-256 of every CA key's SubjectPublicKeyInfo."""
        ...


class Issuers(Protocol):
    """Issuers as immutable snapshots, cached like authorities."""

    async def issuer(self, label: str | None) -> Issuer:
        """By door label; None means the default issuer. Raises SporkError(NOT_FOUND)."""
        ...
