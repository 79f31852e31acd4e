"""The software signer: every row of the table, and no object that a key's purpose does not allow."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from spork.errors import Code, SporkError
from spork.keys.ephemeral import EphemeralKey
from spork.keys.software import PrivateKey, SoftwareSigner, clear, generate_private_key, load_pkcs8, pkcs8
from spork.x509.algorithms import ALGORITHMS, Algorithm, algorithm_of, load_public_key
from spork.x509.der import (
    ALLOWED_KINDS,
    CRLTBS,
    CSRTBS,
    AuditCheckpointTBS,
    CertificateTBS,
    KeyPurpose,
    OCSPResponseTBS,
    ToBeSigned,
)
from spork.x509.signatures import verify_signature

KINDS = (CertificateTBS, CRLTBS, CSRTBS, OCSPResponseTBS, AuditCheckpointTBS)
P256 = "ecdsa-p256"


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda row: row.name)
def test_every_algorithm_signs_what_its_own_public_key_verifies(algorithm: Algorithm) -> None:
    signer = SoftwareSigner(generate_private_key(algorithm), KeyPurpose.CA)
    signature = signer.sign(CertificateTBS(b"to be signed"))
    public = load_public_key(signer.spki)
    assert signer.algorithm == algorithm == algorithm_of(public)
    assert len(signature) <= algorithm.signature_octets
    verify_signature(public, algorithm, b"to be signed", signature)
    with pytest.raises(SporkError):
        verify_signature(public, algorithm, b"to be signee", signature)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda row: row.name)
def test_every_algorithm_survives_pkcs8(algorithm: Algorithm) -> None:
    key = generate_private_key(algorithm)
    again = SoftwareSigner(load_pkcs8(pkcs8(key)), KeyPurpose.CA)
    assert again.spki == SoftwareSigner(key, KeyPurpose.CA).spki


@pytest.mark.parametrize("purpose", KeyPurpose)
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_signs_exactly_the_kinds_of_its_purpose(purpose: KeyPurpose, kind: type[ToBeSigned]) -> None:
    signer = EphemeralKey.generate(P256, purpose).signer
    if kind in ALLOWED_KINDS[purpose]:
        assert signer.sign(kind(b"x"))
        return
    with pytest.raises(SporkError) as caught:
        signer.sign(kind(b"x"))
    assert caught.value.code is Code.FORBIDDEN


def test_octets_without_a_kind_and_classes_derived_from_a_kind_are_not_signed() -> None:
    class Disguised(CertificateTBS):
        pass

    signer = EphemeralKey.generate(P256, KeyPurpose.CA).signer
    for tbs in (ToBeSigned(b"x"), Disguised(b"x")):
        with pytest.raises(SporkError) as caught:
            signer.sign(tbs)
        assert caught.value.code is Code.FORBIDDEN


@pytest.mark.parametrize(
    "key",
    [lambda: ec.generate_private_key(ec.SECP256K1()), lambda: rsa.generate_private_key(65537, 1024)],
    ids=["secp256k1", "rsa-1024"],
)
def test_a_key_outside_of_the_table_makes_no_signer(key: Callable[[], PrivateKey]) -> None:
    with pytest.raises(SporkError) as caught:
        SoftwareSigner(key(), KeyPurpose.CA)
    assert caught.value.code is Code.BAD_PUBLIC_KEY


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"not a key", b"\x30\x84\xff\xff\xff\xff"])
def test_what_is_not_pkcs8_is_a_corrupted_key(octets: bytes) -> None:
    with pytest.raises(SporkError) as caught:
        load_pkcs8(octets)
    assert caught.value.code is Code.CORRUPTED_KEY


def test_a_key_whose_halves_do_not_fit_fails_its_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = EphemeralKey.generate(P256, KeyPurpose.CA).signer
    other = EphemeralKey.generate(P256, KeyPurpose.CA).signer
    monkeypatch.setattr(
        SoftwareSigner, "_signature", lambda self, message: other._key.sign(message, ec.ECDSA(other.algorithm.hash))
    )
    with pytest.raises(SporkError) as caught:
        signer.self_test()
    assert caught.value.code is Code.INTERNAL


def test_an_ephemeral_key_comes_as_pem_with_and_without_a_password() -> None:
    key = EphemeralKey.generate(P256, KeyPurpose.LEAF)
    plain = load_pem_private_key(key.pkcs8_pem(), None)
    locked = load_pem_private_key(key.pkcs8_pem(b"open sesame"), b"open sesame")
    assert plain.public_key() == locked.public_key() == load_der_public_key(key.spki)
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(key.pkcs8_pem(b"open sesame"), b"wrong")


def test_an_unknown_algorithm_is_named_with_the_known_ones() -> None:
    with pytest.raises(SporkError, match="ecdsa-p256") as caught:
        EphemeralKey.generate("dsa-1024", KeyPurpose.LEAF)
    assert caught.value.code is Code.CONFIGURATION


def test_signers_and_keys_are_not_pickled_and_show_no_key() -> None:
    key = EphemeralKey.generate(P256, KeyPurpose.LEAF)
    assert repr(key) == "EphemeralKey(ecdsa-p256, leaf)"
    assert repr(key.signer) == "SoftwareSigner(ecdsa-p256, leaf)"
    for thing in (key, key.signer):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_clearing_leaves_zeros_of_the_same_length() -> None:
    secret = bytearray(b"secret")
    clear(secret)
    assert secret == bytes(6)
