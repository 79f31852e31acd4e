"""CAs as `Authority` snapshots, made from what is declared or stored: what the template, the lint and the pipeline work on."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509

from spork.hierarchy.model import DeclaredAuthority
from spork.hierarchy.ports import AuthorityState
from spork.ids import AuthorityId, KeyId
from spork.x509.algorithms import algorithm_named
from spork.x509.authority import Authority, AuthorityKind, AuthorityURLs
from spork.x509.spki import key_identifier

PROFILE_OF = {
    AuthorityKind.ROOT: "root",
    AuthorityKind.POLICY: "policy-ca",
    AuthorityKind.ISSUING: "issuing-ca",
}
"""The built-in profile of a CA's own certificate."""


def declared_snapshot(
    declared: DeclaredAuthority,
    *,
    generation: int,
    key_id: KeyId | None,
    spki: bytes,
    certificate: x509.Certificate | None,
    chain: tuple[x509.Certificate, ...],
    urls: AuthorityURLs,
) -> Authority:
    """A CA with its declared name, limits and URLs, and the given key and certificate."""
    return Authority(
        id=declared.id,
        kind=declared.kind,
        generation=generation,
        key_mode=declared.key_mode,
        key_id=key_id,
        subject=declared.subject,
        subject_der=declared.subject.public_bytes(),
        spki=spki,
        subject_key_identifier=key_identifier(spki),
        algorithm=declared.algorithm,
        certificate=certificate,
        chain=chain,
        not_after=certificate.not_valid_after_utc if certificate else None,
        urls=urls,
        crl_shards=declared.crl_shards,
        parent_id=declared.parent_id,
    )


def stored_snapshot(states: Mapping[AuthorityId, AuthorityState], authority_id: AuthorityId) -> Authority:
    """A stored CA with its chain. Its current generation must be there."""
    state = states[authority_id]
    current = state.current
    assert current is not None
    certificate = stored_certificate(state)
    return Authority(
        id=state.id,
        kind=state.kind,
        generation=current.generation,
        key_mode=state.key_mode,
        key_id=current.key_id,
        subject=certificate.subject if certificate else _name(state),
        subject_der=state.subject_der,
        spki=current.spki,
        subject_key_identifier=key_identifier(current.spki),
        algorithm=algorithm_named(current.algorithm),
        certificate=certificate,
        chain=stored_chain(states, authority_id),
        not_after=certificate.not_valid_after_utc if certificate else None,
        urls=current.urls,
        crl_shards=state.crl_shards,
        parent_id=state.parent_id,
    )


def stored_certificate(state: AuthorityState | None) -> x509.Certificate | None:
    """The certificate of the current generation, if it has one already."""
    if state is None or state.current is None or state.current.certificate_der is None:
        return None
    return x509.load_der_x509_certificate(state.current.certificate_der)


def stored_chain(
    states: Mapping[AuthorityId, AuthorityState], authority_id: AuthorityId
) -> tuple[x509.Certificate, ...]:
    """The certificates above a CA, from its parent's up to the root's."""
    chain = []
    parent = states[authority_id].parent_id
    while parent is not None:
        if (certificate := stored_certificate(states[parent])) is not None:
            chain.append(certificate)
        parent = states[parent].parent_id
    return tuple(chain)


def _name(state: AuthorityState) -> x509.Name:
    return x509.Name.from_rfc4514_string(str(state.spec["subject"]))
