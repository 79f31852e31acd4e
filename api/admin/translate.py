"""From JSON bodies to requests for the pipeline: a translation, with no judgement of its own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cryptography import x509

from spork.api.admin.authenticate import Administrator
from spork.api.admin.models import KeyBearing
from spork.errors import Code, SporkError
from spork.ids import serial_text
from spork.issuance.ports import IdempotencyKey
from spork.issuance.request import IssuanceRequest
from spork.policy.issuer import Issuer
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.x509.algorithms import load_public_key
from spork.x509.authority import Authority
from spork.x509.bounds import check_der
from spork.x509.csr import ParsedCSR, csr_from_pem
from spork.x509.names import SubjectName, common_name
from spork.x509.nametext import name_from_text, name_of_common_name
from spork.x509.profile import Profile, SubjectRule

# The value is a structured-field string by the draft of the header; many clients send it bare.
_IDEMPOTENCY_KEY: Final = re.compile(r'"?([\x21\x23-\x7e]{1,200})"?')

_PUBLIC_KEY: Final = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")
_MAX_SPKI_OCTETS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The subject's public key, and the CSR that proves its possession if there is one."""

    spki: bytes
    csr: ParsedCSR | None


def subject_key(body: KeyBearing) -> SubjectKey:
    """Reads CSR or public key. Raises SporkError: BAD_CSR, BAD_PUBLIC_KEY, TOO_LARGE, MALFORMED."""
    if body.csr is not None:
        csr = csr_from_pem(body.csr)
        return SubjectKey(csr.spki, csr)
    match = _PUBLIC_KEY.fullmatch((body.public_key or "").strip())
    try:
        spki = base64.b64decode("".join(match[1].split()), validate=True) if match else b""
    except binascii.Error:
        spki = b""
    if not spki:
        raise SporkError(Code.BAD_PUBLIC_KEY, "publicKey is not one SubjectPublicKeyInfo in PEM.")
    check_der(spki, max_octets=_MAX_SPKI_OCTETS)
    load_public_key(spki)
    return SubjectKey(spki, None)


def requester_of(administrator: Administrator) -> Requester:
    return Requester(Door.REST, administrator.identity, administrator.address)


def evidence_of(administrator: Administrator) -> Evidence:
    return Evidence("client-certificate", f"management/{serial_text(administrator.serial)}")


def names_of(
    wanted: Sequence[str] | None, key: SubjectKey, profile: Profile, name: str | None
) -> tuple[SubjectName, ...]:
    """The names asked for: those of the body, else those of the CSR, else the one that the commonName spells.

    Raises SporkError(UNSUPPORTED_IDENTIFIER).
    """
    if wanted is not None:
        return tuple(dict.fromkeys(name_from_text(text) for text in wanted))
    if key.csr is not None and key.csr.names:
        return key.csr.names
    if profile.subject is not SubjectRule.EMPTY_OR_CN:
        return ()
    spelled = name or (common_name(key.csr.subject) if key.csr is not None else None)
    found = name_of_common_name(spelled) if spelled else None
    return (found,) if found is not None else ()


def subject_from(subject: str | None, name: str | None) -> x509.Name | None:
    """The subject that the body states, or None to leave it to the CSR and the profile. Raises SporkError(MALFORMED)."""
    try:
        if name is not None:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return None if subject is None else x509.Name.from_rfc4514_string(subject)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, f"The subject cannot be read as RFC 4514 text: {error}.") from error


def idempotency(header: str | None, administrator: Administrator, scope: str, asked: Any) -> IdempotencyKey:
    """The key of the header, apart for each administrator; a random one where there is none.

    `asked` is what the digest covers, JSON. Raises SporkError(MALFORMED) for a header of another form.
    """
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).digest()
    if header is None:
        return IdempotencyKey(scope, Door.REST, f"once:{secrets.token_hex(16)}", digest)
    match = _IDEMPOTENCY_KEY.fullmatch(header.strip())
    if match is None:
        raise SporkError(Code.MALFORMED, "Idempotency-Key takes 1 to 200 visible ASCII characters.")
    # The serial, not the name, tells administrators apart.
    return IdempotencyKey(scope, Door.REST, f"{serial_text(administrator.serial)}:{match[1]}", digest)


def issuance(
    *,
    administrator: Administrator,
    issuer: Issuer | None,
    authority: Authority,
    profile: Profile,
    key: SubjectKey,
    key_header: str | None,
    asked: Any,
    names: tuple[SubjectName, ...],
    subject: x509.Name | None,
    validity_s: int | None,
    grant: Grant | None = None,
    policies: tuple[str, ...] = (),
    attributes: dict[str, Any] | None = None,
) -> IssuanceRequest:
    """Puts a request together. The digest covers what was asked and the key."""
    scope = f"issuer:{issuer.id}" if issuer is not None else f"authority:{authority.id}"
    digested = {"asked": asked, "spki": key.spki.hex(), "profile": profile.name, "names": [str(name) for name in names]}
    return IssuanceRequest(
        requester=requester_of(administrator),
        grant=grant or Grant(),
        evidence=evidence_of(administrator),
        idempotency=idempotency(key_header, administrator, scope, digested),
        authority=authority,
        issuer=issuer,
        profile=profile,
        spki=key.spki,
        subject=subject,
        names=names,
        csr=key.csr.request if key.csr is not None else None,
        validity=None if validity_s is None else timedelta(seconds=validity_s),
        policies=policies,
        attributes=attributes or {},
    )
