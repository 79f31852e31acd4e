"""Wrapping of private keys: a wrong passphrase and a damaged row are told apart, and nothing else opens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import WrappedKey
from spork.keys import kek as module
from spork.keys.kek import Kek, new_kek, open_kek, rewrap_data_key, unwrap_key, wrap_key
from spork.keys.software import PrivateKey, generate_private_key
from spork.x509.algorithms import BY_NAME
from spork.x509.der import KeyPurpose

PASSPHRASE = b"correct horse battery staple"
KEK = new_kek("online", PASSPHRASE)
OTHER_KEK = new_kek("online", PASSPHRASE)
KEY = generate_private_key(BY_NAME["ecdsa-p256"])
ROW = wrap_key(KEK, KeyId("key-1"), KEY, KeyPurpose.CA)


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def flipped(octets: bytes, position: int) -> bytes:
    changed = bytearray(octets)
    changed[position] ^= 0x01
    return bytes(changed)


def code_of_unwrapping(row: WrappedKey, kek: Kek = KEK) -> Code:
    with pytest.raises(SporkError) as caught:
        unwrap_key(kek, row)
    return caught.value.code


def test_a_kek_opens_again_with_its_passphrase() -> None:
    assert open_kek(KEK.row, PASSPHRASE).key == KEK.key
    assert len(KEK.key) == 32


@pytest.mark.parametrize("wrong", [b"Correct horse battery staple", PASSPHRASE + b"\n", PASSPHRASE[:-1]])
def test_another_passphrase_is_a_wrong_passphrase(wrong: bytes) -> None:
    with pytest.raises(SporkError) as caught:
        open_kek(KEK.row, wrong)
    assert caught.value.code is Code.WRONG_PASSPHRASE


def test_a_verifier_with_any_octet_changed_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_derive", lambda row, passphrase: bytearray(KEK.key))
    open_kek(KEK.row, PASSPHRASE)
    for position in range(len(KEK.row.verifier)):
        with pytest.raises(SporkError) as caught:
            open_kek(replace(KEK.row, verifier=flipped(KEK.row.verifier, position)), PASSPHRASE)
        assert caught.value.code is Code.WRONG_PASSPHRASE


@pytest.mark.parametrize("change", [{"kek_id": "another"}, {"kind": "sealed"}, {"iterations": 4}, {"salt": bytes(16)}])
def test_a_kek_row_with_another_identity_does_not_open(change: dict[str, object]) -> None:
    with pytest.raises(SporkError) as caught:
        open_kek(replace(KEK.row, **change), PASSPHRASE)  # type: ignore[arg-type]
    assert caught.value.code is Code.WRONG_PASSPHRASE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"memory_kib": 65535}, id="less memory than the floor"),
        pytest.param({"iterations": 2}, id="fewer passes than the floor"),
        pytest.param({"lanes": 1}, id="fewer lanes than the floor"),
        pytest.param({"memory_kib": 1 << 30}, id="a terabyte of memory"),
        pytest.param({"iterations": 1 << 31}, id="passes for a century"),
        pytest.param({"lanes": 1 << 24}, id="millions of lanes"),
        pytest.param({"memory_kib": -1}, id="negative memory"),
        pytest.param({"salt": b""}, id="no salt"),
        pytest.param({"salt": bytes(1 << 20)}, id="a megabyte of salt"),
        pytest.param({"verifier": b""}, id="no verifier"),
    ],
)
def test_parameters_out_of_bounds_are_refused_before_argon2_runs(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_derive", lambda *_: pytest.fail("Argon2id was started"))
    with pytest.raises(SporkError) as caught:
        open_kek(replace(KEK.row, **change), PASSPHRASE)  # type: ignore[arg-type]
    assert caught.value.code is Code.CORRUPTED_KEY


def test_a_short_passphrase_makes_no_kek() -> None:
    with pytest.raises(SporkError) as caught:
        new_kek("online", b"1234567")
    assert caught.value.code is Code.CONFIGURATION


@pytest.mark.parametrize("algorithm", BY_NAME)
def test_keys_of_every_algorithm_come_back_as_they_were(algorithm: str) -> None:
    key = generate_private_key(BY_NAME[algorithm])
    row = wrap_key(KEK, KeyId("x"), key, KeyPurpose.OCSP)
    assert spki(unwrap_key(KEK, row)) == spki(key) == row.spki


def test_no_octet_of_a_stored_row_may_change() -> None:
    for name in ("wrapped_data_key", "ciphertext", "spki"):
        octets = getattr(ROW, name)
        for position in range(len(octets)):
            changed = replace(ROW, **{name: flipped(octets, position)})
            assert code_of_unwrapping(changed) is Code.CORRUPTED_KEY, (name, position)


@settings(max_examples=60)
@given(st.sampled_from(["wrapped_data_key", "ciphertext"]), st.binary(max_size=300))
def test_arbitrary_octets_in_a_row_are_a_corrupted_key(name: str, octets: bytes) -> None:
    assert code_of_unwrapping(replace(ROW, **{name: octets})) is Code.CORRUPTED_KEY  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"key_id": KeyId("key-2")}, id="the id of another key"),
        pytest.param({"purpose": KeyPurpose.OCSP}, id="another purpose"),
        pytest.param({"algorithm": "ecdsa-p384"}, id="another algorithm"),
        pytest.param({"ciphertext": ROW.ciphertext[:-1]}, id="a ciphertext cut short"),
        pytest.param({"wrapped_data_key": ROW.wrapped_data_key[:27]}, id="a data key shorter than nonce and tag"),
    ],
)
def test_a_row_that_is_not_what_was_written_is_a_corrupted_key(change: dict[str, object]) -> None:
    assert code_of_unwrapping(replace(ROW, **change)) is Code.CORRUPTED_KEY  # type: ignore[arg-type]


def test_parts_of_two_rows_do_not_fit_together() -> None:
    other = wrap_key(KEK, KeyId("key-2"), KEY, KeyPurpose.CA)
    assert code_of_unwrapping(replace(ROW, ciphertext=other.ciphertext)) is Code.CORRUPTED_KEY
    assert code_of_unwrapping(replace(ROW, wrapped_data_key=other.wrapped_data_key)) is Code.CORRUPTED_KEY


def test_another_kek_of_the_same_passphrase_does_not_open_the_row() -> None:
    assert code_of_unwrapping(ROW, OTHER_KEK) is Code.CORRUPTED_KEY


def test_rewrapping_moves_the_data_key_and_not_the_private_key() -> None:
    moved = replace(ROW, kek_id=OTHER_KEK.id, wrapped_data_key=rewrap_data_key(KEK, OTHER_KEK, ROW))
    assert spki(unwrap_key(OTHER_KEK, moved)) == ROW.spki
    assert moved.ciphertext == ROW.ciphertext
    assert code_of_unwrapping(moved, KEK) is Code.CORRUPTED_KEY


def test_nonces_and_data_keys_are_never_taken_twice() -> None:
    rows = [wrap_key(KEK, KeyId("same"), KEY, KeyPurpose.CA) for _ in range(50)]
    assert len({row.wrapped_data_key[:12] for row in rows} | {row.ciphertext[:12] for row in rows}) == 100
    assert len({row.ciphertext[12:] for row in rows}) == 50


def test_the_context_of_two_different_lists_is_different() -> None:
    assert module._context(b"ab", b"c") != module._context(b"a", b"bc") != module._context(b"abc")


def test_a_forgotten_kek_is_empty_and_its_text_never_shows_the_key() -> None:
    kek = new_kek("online", PASSPHRASE)
    key, held = bytes(kek.key), kek.key
    assert key.hex() not in repr(kek)
    assert repr(key)[2:-1] not in repr(kek)
    kek.forget()
    assert held == bytes(32)
    assert kek.key == bytearray()
