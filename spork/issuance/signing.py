"""The signer: signs what other processes have reserved, after doubting all of it.

Whoever may write rows can ask for a signature; nothing of what stands in a row is therefore believed. The TBS is read, and built
again from what was read, with this process's own idea of the CA and of the profile. Only if the result is the same, octet for
octet, is there nothing in it beyond the template. Then the rules judge it with the issuer as it is now, it is linted, signed
and verified, as in `Pipeline`.
Source: RFC 5280 section 4.1.2.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1

from spork.errors import Code, ConfigurationError, SporkError
from spork.ids import AuthorityId, IssuerId
from spork.issuance.pipeline import LEASE_S, Decide
from spork.issuance.ports import Refused, Signed, SignerSource, SigningQueue, SigningTask
from spork.issuance.prepared import Prepared
from spork.issuance.steps import issued_event, linted, signed, tbs_of
from spork.policy.engine import refusal
from spork.policy.issuer import Issuer
from spork.policy.levels import PROFILE_PREFIX
from spork.policy.proposal import Door, Evidence, Grant, Proposal, Requester
from spork.x509.authority import Authority, AuthorityKind
from spork.x509.der import CertificateTBS, Signer, TBSCertificate
from spork.x509.lintview import octets, parsed
from spork.x509.names import SubjectName, from_general_name
from spork.x509.profile import Profile
from spork.x509.profiles import profile_named

log = structlog.get_logger("spork.signing")

JOB_LEASE_S = 30
"""A signer that died gives its work back after this; shorter than `LEASE_S`, so that there is time to sign it still."""
LARGEST_BATCH = 100
_SMALLEST_BATCH = 8
_BATCH_S = 5.0
"""How long a batch may take, from experience: slow algorithms make the batches small."""
_TRIES = 5
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
    Warning,
)
_WORTH_ANOTHER_TRY = frozenset({Code.KEY_UNAVAILABLE, Code.WRONG_PASSPHRASE, Code.CORRUPTED_KEY, Code.INTERNAL})


class Authorities(Protocol):
    """CAs as they are now."""

    async def authority(self, authority_id: AuthorityId, generation: int | None = None) -> Authority: ...

    async def ca_spkis(self) -> frozenset[bytes]: ...

    def configuration_changed(self) -> None:
        """The next question is answered from the database."""
        ...


class Issuers(Protocol):
    """Issuers as they are now."""

    async def by_id(self, issuer_id: IssuerId) -> Issuer:
        """Raises SporkError(NOT_FOUND), also for a disabled one."""
        ...


class CertificateSigner:
    """Takes tasks in batches. One instance per process with online keys; any number of processes."""

    def __init__(
        self, queue: SigningQueue, signers: SignerSource, authorities: Authorities, issuers: Issuers, decide: Decide
    ) -> None:
        self._queue = queue
        self._signers = signers
        self._authorities = authorities
        self._issuers = issuers
        self._rules = decide
        self._limit = _SMALLEST_BATCH

    async def work(self) -> int:
        """Signs or refuses one batch; returns the number of tasks. Three trips and two waiting commits, whatever their number.

        Raises DatabaseUnavailable: then nothing was recorded, and the signatures are thrown away.
        """
        lease_id, tasks = await self._queue.claim(self._limit, job_lease_s=JOB_LEASE_S, lease_s=LEASE_S)
        if not tasks:
            return 0
        # What was disabled since the reservation must be known now, not half a second later.
        self._authorities.configuration_changed()
        started = time.monotonic()
        done, refused = await self._judged(tasks)
        self._learn(len(tasks), time.monotonic() - started)
        recorded = await self._queue.finish(lease_id, done, refused)
        if recorded < len(done):
            log.warning("signatures were thrown away, for their leases had ended", count=len(done) - recorded)
        return len(tasks)

    async def _judged(self, tasks: Sequence[SigningTask]) -> tuple[list[Signed], list[Refused]]:
        done: list[Signed] = []
        refused: list[Refused] = []
        for task in tasks:
            try:
                done.append(await self._signed(task))
            except SporkError as error:
                if error.code is Code.UNAVAILABLE:
                    raise
                if error.code not in _WORTH_ANOTHER_TRY or task.attempts >= _TRIES:
                    refused.append(Refused(task, error))
                log.warning("not signed", certificate=task.certificate_id, code=error.code.value, detail=error.detail)
            except Exception:
                # One row that nobody foresaw must not take the others of its batch with it. It is tried again, then given up.
                log.exception("a certificate could not be signed", certificate=task.certificate_id)
            # The doors of this process are served in between.
            await asyncio.sleep(0)
        return done, refused

    async def _signed(self, task: SigningTask) -> Signed:
        if task.attempts > _TRIES:
            raise SporkError(Code.INTERNAL, "The certificate could not be signed, and was given up.")
        prepared, proposal = await self._checked(task)
        key_id = proposal.authority.key_id
        if key_id is None:
            raise SporkError(Code.KEY_UNAVAILABLE, f"The key of {proposal.authority.id} is not here.")
        signer = await self._signers.signer(key_id)
        prepared.mark_reserved()
        der = await _signature(prepared.redeem(), signer)
        return Signed(task, der, issued_event(proposal, task.serial))

    async def _checked(self, task: SigningTask) -> tuple[Prepared, Proposal]:
        if task.issuer_id is None:
            raise _not_left_to_a_signer("it names no issuer")
        authority = await self._authorities.authority(task.authority_id, task.generation)
        issuer = await self._issuer(task.issuer_id)
        proposal = proposal_from(task, authority, issuer, await self._authorities.ca_spkis())
        decision = self._rules(proposal)
        if not decision.allowed:
            raise refusal(decision)
        return linted(CertificateTBS(task.tbs), task.serial, proposal), proposal

    async def _issuer(self, issuer_id: IssuerId) -> Issuer:
        try:
            return await self._issuers.by_id(issuer_id)
        except SporkError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            raise SporkError(Code.POLICY_REFUSED, "The issuer was disabled before this was signed.") from error

    def _learn(self, tasks: int, seconds: float) -> None:
        affordable = int(_BATCH_S * tasks / max(seconds, 0.001))
        self._limit = max(1, min(LARGEST_BATCH, self._limit * 4, affordable))


async def _signature(tbs: CertificateTBS, signer: Signer) -> bytes:
    if signer.algorithm.slow:
        return await asyncio.to_thread(signed, tbs, signer)
    return signed(tbs, signer)


def proposal_from(task: SigningTask, authority: Authority, issuer: Issuer, ca_spkis: frozenset[bytes]) -> Proposal:
    """What a task asks for, read from its TBS.

    Raises SporkError: MALFORMED (the TBS cannot be read, has something beside the template, or is not what the row says),
    FORBIDDEN (no signature of this kind is left to a signer), BAD_PUBLIC_KEY.
    """
    profile = _profile(task, authority)
    try:
        certificate = parsed(CertificateTBS(task.tbs), authority)
        proposal = _read(task, certificate, authority, issuer, profile, ca_spkis)
        again = tbs_of(proposal, certificate.serial_number, authority.algorithm).der
    except _UNREADABLE as error:
        raise SporkError(Code.MALFORMED, "The reserved certificate cannot be read.") from error
    if again != task.tbs:
        raise SporkError(Code.MALFORMED, "The reserved certificate is not what its profile and its CA make of it.")
    if fault := _disagreement(task, proposal, certificate.serial_number):
        raise SporkError(Code.MALFORMED, f"The reserved certificate and its record have another {fault}.")
    return proposal


def _profile(task: SigningTask, authority: Authority) -> Profile:
    """CAs, administrators and the host's own certificates are never left to a signer: their doors have the keys."""
    try:
        profile = profile_named(task.profile)
    except ConfigurationError as error:
        raise _not_left_to_a_signer(f"there is no profile {task.profile!r}") from error
    if profile.ca or not profile.requestable or profile.name.startswith(PROFILE_PREFIX):
        raise _not_left_to_a_signer(f"the profile {profile.name} is for other ways")
    if authority.kind is not AuthorityKind.ISSUING:
        raise _not_left_to_a_signer(f"{authority.id} is no issuing CA")
    if task.door == Door.BOOTSTRAP.value:
        raise _not_left_to_a_signer("the host signs its own certificates by itself")
    return profile


def _not_left_to_a_signer(why: str) -> SporkError:
    return SporkError(Code.FORBIDDEN, f"This certificate cannot be asked for in this way: {why}.")


def _read(
    task: SigningTask,
    certificate: x509.Certificate,
    authority: Authority,
    issuer: Issuer,
    profile: Profile,
    ca_spkis: frozenset[bytes],
) -> Proposal:
    return Proposal(
        requester=Requester(Door(task.door), task.requester, namespace=task.namespace),
        grant=Grant(),
        evidence=Evidence(**task.evidence),
        authority=authority,
        issuer=issuer,
        profile=profile,
        subject=certificate.subject,
        names=_names(certificate),
        spki=_spki(task.tbs),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        # Those of the profile alone: further ones are for the doors that have the keys. Others make other octets.
        policies=(),
        ca_spkis=ca_spkis,
    )


def _names(certificate: x509.Certificate) -> tuple[SubjectName, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    known = [from_general_name(name) for name in names]
    return tuple(name for name in known if name is not None)


def _disagreement(task: SigningTask, proposal: Proposal, serial: int) -> str | None:
    """What the row says differently: it is what CRL, OCSP, search and limits go by."""
    facts = {
        "serial number": (task.serial, serial),
        "CRL shard": (task.crl_shard, proposal.authority.shard_of(serial)),
        "subject": (task.subject, proposal.subject.rfc4514_string()),
        "set of names": (task.names, tuple(str(name) for name in proposal.names)),
        "public key": (task.spki_sha256, hashlib.sha256(proposal.spki).digest()),
        "notBefore": (task.not_before, proposal.not_before),
        "notAfter": (task.not_after, proposal.not_after),
    }
    return next((what for what, (stored, read) in facts.items() if stored != read), None)


def _spki(tbs: bytes) -> bytes:
    fields = asn1.decode_der(TBSCertificate, tbs)
    return octets(fields.subject_public_key_info)
