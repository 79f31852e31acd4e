"""Rules about the subject's public key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.errors import SporkError
from spork.policy.proposal import Proposal, Violation
from spork.policy.weakkeys import weakness_of
from spork.x509.algorithms import Algorithm, PublicKey, algorithm_of, load_public_key


@dataclass(frozen=True, slots=True)
class _Key:
    key: PublicKey
    algorithm: Algorithm | None
    canonical: bytes
    """The one standard encoding of the SubjectPublicKeyInfo."""


@lru_cache(maxsize=1024)
def _parsed(spki: bytes) -> _Key | None:
    try:
        key = load_public_key(spki)
    except SporkError:
        return None
    return _Key(key, algorithm_of(key), key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def key_is_readable(proposal: Proposal) -> Violation | None:
    """The SubjectPublicKeyInfo can be read, and is written in its one standard form.

    The same key in another form (a compressed point, parameters left out) would have another digest, and by it slip through
    every comparison with keys of CAs and lists of blocked keys.
    """
    parsed = _parsed(proposal.spki)
    if parsed is None:
        return Violation("key_is_readable", "The public key cannot be read, or is of a kind that is not supported.")
    if parsed.canonical != proposal.spki:
        return Violation("key_is_readable", "The public key is not written in its one standard encoding.")
    return None


def key_algorithm_allowed(proposal: Proposal, *, fips: bool) -> Violation | None:
    """The algorithm is one that the issuer accepts and, where FIPS is on, an approved one."""
    parsed = _parsed(proposal.spki)
    if parsed is None or parsed.algorithm is None:
        # The two other rules say what is wrong with such a key.
        return None
    name = parsed.algorithm.name
    accepted = proposal.issuer.keys.algorithms if proposal.issuer is not None else ()
    if accepted and name not in accepted:
        return Violation("key_algorithm_allowed", f"The issuer accepts {', '.join(accepted)} keys; this is {name}.")
    if fips and not parsed.algorithm.fips_approved:
        return Violation("key_algorithm_allowed", f"{name} is not an approved algorithm, and FIPS is on.")
    return None


def key_is_strong(proposal: Proposal, *, blocked: frozenset[str]) -> Violation | None:
    """See `weakkeys`."""
    parsed = _parsed(proposal.spki)
    if parsed is None:
        return None
    weakness = weakness_of(parsed.key, blocked)
    return None if weakness is None else Violation("key_is_strong", f"The public key {weakness}.")


def key_is_not_a_ca_key(proposal: Proposal) -> Violation | None:
    """Only a CA certificate may carry the key of a CA: whoever else shows one has stolen it, or means to confuse."""
    if proposal.profile.ca:
        return None
    parsed = _parsed(proposal.spki)
    octets = proposal.spki if parsed is None else parsed.canonical
    if octets == proposal.authority.spki or hashlib.sha256(octets).digest() in proposal.ca_spkis:
        return Violation("key_is_not_a_ca_key", "The public key is that of a CA; make a key of your own.")
    return None


def key_is_that_of_the_csr(proposal: Proposal) -> Violation | None:
    """Possession was proven for the key of the CSR, so no other key may be certified."""
    if proposal.csr is None:
        return None
    try:
        key = proposal.csr.public_key()
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        octets = b""
    if octets != proposal.spki:
        return Violation("key_is_that_of_the_csr", "The public key is not the one of the certificate request.")
    return None
