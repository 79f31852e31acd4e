"""The steps of the one pipeline, each a function of what it is given.

`Pipeline` takes them all in one process. `RemoteIssuing` takes those before the signature and `Signers` those from it on, in
two processes. They are here once, so that the ways cannot differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cryptography import x509

from spork.errors import Code, SporkError
from spork.ids import Serial, serial_text
from spork.issuance.ports import AuditEvent, Reservation
from spork.issuance.prepared import Prepared
from spork.issuance.request import IssuanceRequest
from spork.issuance.resolve import subject_of, validity_of
from spork.policy.proposal import Decision, Proposal
from spork.x509.algorithms import Algorithm, load_public_key
from spork.x509.der import CertificateTBS, Signer, wrap
from spork.x509.lint import lint_certificate
from spork.x509.signatures import verify_signature
from spork.x509.template import build_tbs


def proposal_of(request: IssuanceRequest, now: datetime, ca_spkis: frozenset[bytes]) -> Proposal:
    """What a request asks for, with everything filled in that it leaves open. Raises SporkError(POLICY_REFUSED)."""
    not_before, not_after = validity_of(request, now)
    return Proposal(
        requester=request.requester,
        grant=request.grant,
        evidence=request.evidence,
        authority=request.authority,
        issuer=request.issuer,
        profile=request.profile,
        subject=subject_of(request),
        names=request.names,
        spki=request.spki,
        not_before=not_before,
        not_after=not_after,
        csr=request.csr,
        constraints=request.constraints,
        policies=request.policies,
        ca_spkis=ca_spkis,
    )


def tbs_of(proposal: Proposal, serial: int, algorithm: Algorithm) -> CertificateTBS:
    """The octets to be signed. Raises SporkError(BAD_PUBLIC_KEY), ValueError for a name that its kind cannot hold."""
    return build_tbs(
        profile=proposal.profile,
        authority=proposal.authority,
        subject=proposal.subject,
        names=proposal.names,
        spki=proposal.spki,
        serial=serial,
        not_before=proposal.not_before,
        not_after=proposal.not_after,
        signature=algorithm,
        constraints=proposal.constraints,
        policies=proposal.policies,
    )


def linted(tbs: CertificateTBS, serial: Serial, proposal: Proposal) -> Prepared:
    """The one way to a `Prepared`: a lint without errors. Raises SporkError(LINT_FAILED)."""
    errors = [f for f in lint_certificate(tbs, proposal.profile, proposal.authority) if f.severity == "error"]
    if errors:
        text = "; ".join(f"{finding.code}: {finding.message}" for finding in errors)
        raise SporkError(Code.LINT_FAILED, f"The certificate would break the standard and was not signed: {text}.")
    return Prepared(tbs, serial)


def reservation_of(
    request: IssuanceRequest, proposal: Proposal, decision: Decision, prepared: Prepared, *, lease_s: int
) -> Reservation:
    """What becomes durable before the signature."""
    return Reservation(
        idempotency=request.idempotency,
        authority_id=request.authority.id,
        generation=request.authority.generation,
        issuer_id=request.issuer.id if request.issuer else None,
        serial=prepared.serial,
        crl_shard=request.authority.shard_of(prepared.serial),
        profile=request.profile.name,
        subject=proposal.subject.rfc4514_string(),
        names=tuple(str(name) for name in request.names),
        spki_sha256=hashlib.sha256(request.spki).digest(),
        not_before=proposal.not_before,
        not_after=proposal.not_after,
        tbs=prepared.tbs_der,
        requester=request.requester.identity,
        evidence=asdict(request.evidence),
        trace=_trace(decision),
        attributes=_attributes(request),
        lease_s=lease_s,
    )


def _attributes(request: IssuanceRequest) -> Mapping[str, Any]:
    """The signer judges once more, and patterns and conditions may speak of the namespace."""
    namespace = request.requester.namespace
    return {**request.attributes, "namespace": namespace} if namespace else request.attributes


def issued_event(proposal: Proposal, serial: Serial) -> AuditEvent:
    """The audit event that is written together with the certificate."""
    return AuditEvent(
        action="certificate.issue",
        actor=proposal.requester.identity,
        subject=f"certificate:{proposal.authority.id}/{serial_text(serial)}",
        detail={
            "profile": proposal.profile.name,
            "issuer": proposal.issuer.label if proposal.issuer else None,
            "names": [str(name) for name in proposal.names],
            "door": proposal.requester.door.value,
            "evidence": asdict(proposal.evidence),
        },
        address=proposal.requester.address,
    )


def key_elsewhere(request: IssuanceRequest) -> SporkError:
    """The refusal where a CA's key is not in this installation, or not where the request could be signed."""
    return SporkError(
        Code.KEY_UNAVAILABLE,
        f"The key of {request.authority.id} is not here (key mode {request.authority.key_mode.value}); "
        "sign its request file where the key is.",
    )


def signed(tbs: CertificateTBS, signer: Signer) -> bytes:
    """Signs, and verifies before anybody sees it: a faulty key or module must not put a bad certificate into the world."""
    signature = signer.sign(tbs)
    verify_signature(load_public_key(signer.spki), signer.algorithm, tbs.der, signature)
    certificate = wrap(tbs, signer.algorithm, signature)
    x509.load_der_x509_certificate(certificate)
    return certificate


def _trace(decision: Decision) -> Sequence[dict[str, Any]]:
    return [asdict(verdict) for verdict in decision.verdicts]
