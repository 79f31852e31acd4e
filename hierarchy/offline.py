"""Keys that are elsewhere: what comes back from there is checked against the declaration before it is stored.

Certificates signed by an offline CA, an offline root's own certificate, and requests of CAs whose keys are offline.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.errors import Code, SporkError
from spork.hierarchy.build import Workshop
from spork.hierarchy.limits import ANY_POLICY
from spork.hierarchy.model import DeclaredAuthority, Hierarchy, name_constraints_as_json
from spork.hierarchy.ports import ImportedCertificate, NewAuthority, NewGeneration, TreeState
from spork.hierarchy.snapshot import PROFILE_OF, stored_certificate
from spork.ids import AuthorityId
from spork.issuance.ports import AuditEvent
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.bounds import check_der
from spork.x509.chain import verify_chain
from spork.x509.csr import csr_from_pem
from spork.x509.der import unwrap
from spork.x509.signatures import accepted_algorithm, verify_signature

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")
_MAX_OCTETS = 64 * 1024
_SLACK = timedelta(days=1)
# Whoever signs elsewhere counts years as 365 or 366 days, and starts when the request arrives.
_SHORTER = 0.95

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


async def import_certificate(hierarchy: Hierarchy, workshop: Workshop, pem: str) -> AuthorityId:
    """Stores a certificate that was signed elsewhere; the CA is found by its name. Repeating it changes nothing.

    Raises SporkError: MALFORMED (no certificate), NOT_FOUND (no CA of that name is declared), PRECONDITION_FAILED (nothing is
    awaited for it, or its issuer is not stored yet), BAD_SIGNATURE, and POLICY_REFUSED with every difference from the declaration.
    """
    der = _certificate_octets(pem)
    certificate = x509.load_der_x509_certificate(der)
    declared = _by_name(hierarchy, certificate.subject)
    async with workshop.store.lock():
        state = await workshop.store.read_tree()
        if _is_stored(state, declared.id, der):
            return declared.id
        issuer = _issuer_certificate(hierarchy, declared, certificate, state)
        _check_signature(der, issuer)
        now = workshop.clock.now()
        if issuer is not None:
            verify_chain(der, [], [issuer], now)
        if faults := list(_faults(declared, certificate, issuer, state, now)):
            raise SporkError(
                Code.POLICY_REFUSED, f"The certificate is not what is declared for {declared.id}: {'; '.join(faults)}."
            )
        await _store(declared, certificate, der, state, workshop)
    return declared.id


async def import_csr(hierarchy: Hierarchy, workshop: Workshop, pem: str) -> AuthorityId:
    """Stores the request of a CA whose key is offline and whose parent's key is here; `build` then signs it.

    Raises SporkError: BAD_CSR, NOT_FOUND, PRECONDITION_FAILED, POLICY_REFUSED, CONFLICT (the CA has another key already).
    """
    request = csr_from_pem(pem)
    declared = _by_name(hierarchy, request.subject)
    parent = hierarchy.by_id[declared.parent_id] if declared.parent_id is not None else None
    if declared.key_is_here or parent is None or not parent.key_is_here:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"{declared.id} awaits no request: that is for a CA with an offline key below one whose key is here.",
        )
    faults = list(_key_faults(declared, request.spki))
    if request.subject.public_bytes() != declared.subject.public_bytes():
        faults.append("its name is encoded in another way than the declared one, and names must agree octet for octet")
    if faults:
        raise SporkError(
            Code.POLICY_REFUSED, f"The request is not what is declared for {declared.id}: {'; '.join(faults)}."
        )
    async with workshop.store.lock():
        state = await workshop.store.read_tree()
        if declared.parent_id not in state.authorities:
            raise SporkError(
                Code.PRECONDITION_FAILED, f"Build {declared.parent_id} first: it is the parent of {declared.id}."
            )
        await _store_key(declared, request.spki, declared.subject.public_bytes(), state, workshop)
        audit = AuditEvent("authority.request", workshop.actor, f"authority:{declared.id}", {"origin": "import"})
        csr = request.request.public_bytes(Encoding.DER)
        await workshop.store.set_pending_csr(declared.id, 1, csr, audit)
    return declared.id


def owner_of(hierarchy: Hierarchy, pem: str, *, is_request: bool) -> AuthorityId:
    """Whose certificate or request it is, by its name. Raises SporkError: MALFORMED, BAD_CSR, NOT_FOUND."""
    if is_request:
        return _by_name(hierarchy, csr_from_pem(pem).subject).id
    return _by_name(hierarchy, x509.load_der_x509_certificate(_certificate_octets(pem)).subject).id


def _certificate_octets(pem: str) -> bytes:
    """The first certificate of a PEM text. Its size and depth are bounded before any parser sees it."""
    found = _PEM.search(pem)
    if found is None:
        raise SporkError(Code.MALFORMED, "The file holds no PEM certificate.")
    try:
        der = base64.b64decode("".join(found[1].split()), validate=True)
        check_der(der, max_octets=_MAX_OCTETS)
        x509.load_der_x509_certificate(der).extensions  # noqa: B018  # Reading them is what finds what is wrong in them.
    except SporkError:
        raise
    except (
        ValueError,
        TypeError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        UnsupportedAlgorithm,
        Warning,
    ) as error:
        raise SporkError(Code.MALFORMED, "The certificate in the file cannot be read.") from error
    return der


def _by_name(hierarchy: Hierarchy, name: x509.Name) -> DeclaredAuthority:
    for authority in hierarchy.authorities:
        if authority.subject == name:
            return authority
    raise SporkError(Code.NOT_FOUND, f"No CA with the name {name.rfc4514_string()!r} is declared in this hierarchy.")


def _is_stored(state: TreeState, authority_id: AuthorityId, der: bytes) -> bool:
    known = state.authorities.get(authority_id)
    return known is not None and known.current is not None and known.current.certificate_der == der


def _issuer_certificate(
    hierarchy: Hierarchy, declared: DeclaredAuthority, certificate: x509.Certificate, state: TreeState
) -> x509.Certificate | None:
    """The certificate of the CA that must have signed this one; None for a root, which signs itself."""
    if declared.parent_id is None:
        if declared.key_is_here:
            raise SporkError(
                Code.PRECONDITION_FAILED,
                f"The key of {declared.id} is here, so `spork pki build` makes its certificate.",
            )
        if certificate.issuer != certificate.subject:
            raise SporkError(
                Code.POLICY_REFUSED, f"{declared.id} is the root, and this certificate is not signed by itself."
            )
        return None
    if hierarchy.by_id[declared.parent_id].key_is_here:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"The key of {declared.parent_id} is here, so `spork pki build` makes the certificate of {declared.id}.",
        )
    issuer = stored_certificate(state.authorities.get(declared.parent_id))
    if issuer is None:
        raise SporkError(
            Code.PRECONDITION_FAILED, f"Import the certificate of {declared.parent_id} first: it is the issuer."
        )
    return issuer


def _check_signature(der: bytes, issuer: x509.Certificate | None) -> None:
    tbs, identifier, signature = unwrap(der)
    signer = issuer if issuer is not None else x509.load_der_x509_certificate(der)
    spki = signer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    verify_signature(load_public_key(spki), accepted_algorithm(identifier), tbs, signature)


def _faults(
    declared: DeclaredAuthority,
    certificate: x509.Certificate,
    issuer: x509.Certificate | None,
    state: TreeState,
    now: datetime,
) -> Iterator[str]:
    spki = _spki(certificate)
    yield from _key_faults(declared, spki)
    known = state.authorities.get(declared.id)
    if known is not None and known.current is not None:
        if known.current.spki != spki:
            yield "its key is not the one that the request was made for"
        if known.subject_der != certificate.subject.public_bytes():
            yield "its name is encoded in another way than in the request, and names must agree octet for octet"
    elif declared.key_is_here:
        yield "nothing was requested for it; run `spork pki build` first"
    yield from _date_faults(declared, certificate, issuer, now)
    yield from extension_faults(declared, certificate)


def _key_faults(declared: DeclaredAuthority, spki: bytes) -> Iterator[str]:
    algorithm = algorithm_of(load_public_key(spki))
    if algorithm is None or algorithm.name != declared.algorithm.name:
        name = algorithm.name if algorithm is not None else "of a size or curve that is not supported"
        yield f"its key is {name}, declared is {declared.algorithm.name}"


def _date_faults(
    declared: DeclaredAuthority, certificate: x509.Certificate, issuer: x509.Certificate | None, now: datetime
) -> Iterator[str]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start - _SLACK <= now <= end:
        yield f"it is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}, which is not now"
    if issuer is not None and end > issuer.not_valid_after_utc:
        yield f"it ends on {end:%Y-%m-%d}, after its issuer, which ends on {issuer.not_valid_after_utc:%Y-%m-%d}"
    longest = declared.validity.end(start) - start
    if end - start > longest + _SLACK:
        yield f"it lives {(end - start).days} days, declared is {declared.validity}"
    cut = issuer is not None and end > issuer.not_valid_after_utc - _SLACK
    if end - start < longest * _SHORTER and not cut:
        yield f"it lives only {(end - start).days} days, declared is {declared.validity}"


def extension_faults(declared: DeclaredAuthority, certificate: x509.Certificate) -> Iterator[str]:
    wanted = declared.constraints
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        yield "it is not a certificate of a CA (basicConstraints)"
    elif basic.path_length != wanted.path_length:
        yield f"its path length is {_or_none(basic.path_length)}, declared is {_or_none(wanted.path_length)}"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not (usage.key_cert_sign and usage.crl_sign):
        yield "its key usage lacks keyCertSign or cRLSign"
    names = name_constraints_as_json(_extension(certificate, x509.NameConstraints))
    if _sorted(names) != _sorted(name_constraints_as_json(wanted.name_constraints)):
        yield "its name constraints are not the declared ones"
    purposes = {one.dotted_string for one in _extension(certificate, x509.ExtendedKeyUsage) or ()}
    if purposes != set(wanted.extended_key_usage):
        yield "its extended key usages are not the declared ones"
    policies = {one.policy_identifier.dotted_string for one in _extension(certificate, x509.CertificatePolicies) or ()}
    # A root need not repeat that any policy is allowed, as nobody reads the policies of a trust anchor.
    unsaid = declared.parent_id is None and set(wanted.policies) == {ANY_POLICY} and not policies
    if policies != set(wanted.policies) and not unsaid:
        yield f"its certificate policies are not the declared ones: it has {_oids(policies)}, declared is {_oids(wanted.policies)}"


def _oids(policies: Iterable[str]) -> str:
    """For whoever signs with a tool that has to be told; nothing in the request says it."""
    named = {ANY_POLICY: f"{ANY_POLICY} (any policy)"}
    return ", ".join(named.get(one, one) for one in sorted(policies)) or "none"


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _sorted(names: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
    return None if names is None else {key: sorted(values) for key, values in names.items()}


def _or_none(length: int | None) -> str:
    return "unlimited" if length is None else str(length)


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def _store(
    declared: DeclaredAuthority, certificate: x509.Certificate, der: bytes, state: TreeState, workshop: Workshop
) -> None:
    spki = _spki(certificate)
    await _store_key(declared, spki, certificate.subject.public_bytes(), state, workshop)
    issuer = state.authorities.get(declared.parent_id) if declared.parent_id is not None else None
    imported = ImportedCertificate(
        authority_id=declared.id,
        generation=1,
        issuer_id=declared.parent_id or declared.id,
        issuer_generation=issuer.current.generation if issuer is not None and issuer.current is not None else 1,
        serial=certificate.serial_number,
        profile=PROFILE_OF[declared.kind],
        subject=certificate.subject.rfc4514_string(),
        spki_sha256=hashlib.sha256(spki).digest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=der,
    )
    detail: dict[str, Any] = {"serial": f"{certificate.serial_number:X}", "origin": "import"}
    audit = AuditEvent("authority.certify", workshop.actor, f"authority:{declared.id}", detail)
    await workshop.store.import_certificate(imported, declared.as_json(), audit)


async def _store_key(
    declared: DeclaredAuthority, spki: bytes, subject_der: bytes, state: TreeState, workshop: Workshop
) -> None:
    """Makes a CA known whose key is elsewhere; nothing to do where it is known with this key."""
    known = state.authorities.get(declared.id)
    if known is not None:
        if known.current is None or known.current.spki != spki:
            raise SporkError(
                Code.CONFLICT, f"{declared.id} has another key already; a CA with a new key needs another id."
            )
        return
    urls = declared.urls_of(1, workshop.status_url)
    new = NewAuthority(
        id=declared.id,
        kind=declared.kind,
        parent_id=declared.parent_id,
        subject_der=subject_der,
        key_mode=declared.key_mode,
        spec=declared.as_json(),
        crl_shards=declared.crl_shards,
        first=NewGeneration(generation=1, key_id=None, algorithm=declared.algorithm.name, spki=spki, urls=urls),
        declared_by=declared.declared_by,
    )
    audit = AuditEvent("authority.create", workshop.actor, f"authority:{declared.id}", {"origin": "import"})
    await workshop.store.create_authority(new, audit)
