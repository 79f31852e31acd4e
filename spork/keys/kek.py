"""Key-encryption keys, and the wrapping of private keys below them.

A private key (PKCS#8) is encrypted with AES-256-GCM under a data key of its own. The data key is encrypted with AES-256-GCM
under a key-encryption key (KEK), which comes from a passphrase by Argon2id. A change of the passphrase therefore rewrites
the small wrapped data keys only.

- A data key encrypts once in its life, so its nonce cannot repeat. Under a KEK a random 96-bit nonce is taken per wrapping;
  SP 800-38D section 8.3 allows 2^32 of them, an installation makes thousands at most.
- Additional data binds every ciphertext to what it is: a row that is copied over another one does not open.
- A verifier per KEK tells a wrong passphrase (the verifier does not open) from a corrupted row (it does, the row does not).

Source: RFC 9106 section 4 (Argon2id; second recommended option), SP 800-38D (GCM).
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field, replace

from argon2.exceptions import Argon2Error
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spork.errors import Code, SporkError
from spork.ids import KeyId
from spork.issuance.ports import KeyEncryptionKey, WrappedKey
from spork.keys.passphrase import check_new
from spork.keys.software import PrivateKey, SoftwareSigner, clear, load_pkcs8, pkcs8
from spork.x509.der import KeyPurpose

MEMORY_KIB = 64 * 1024
ITERATIONS = 3
LANES = 4
"""Parameters of new KEKs, and the floor of stored ones: with less, a row was weakened and is refused."""
_MAX_MEMORY_KIB = 1024 * 1024
_MAX_ITERATIONS = 64
_MAX_LANES = 64
_SALT_OCTETS = 16
_MAX_SALT_OCTETS = 64
_KEY_OCTETS = 32
_NONCE_OCTETS = 12
_TAG_OCTETS = 16
_VERIFIER_TEXT = b"SPORK key-encryption key verifier 1"


@dataclass(slots=True)
class Kek:
    """A key-encryption key in memory. `key` is cleared by `forget`, as far as Python can (see `software.clear`)."""

    row: KeyEncryptionKey
    key: bytearray = field(repr=False)

    @property
    def id(self) -> str:
        return self.row.kek_id

    @property
    def kind(self) -> str:
        return self.row.kind

    def forget(self) -> None:
        clear(self.key)
        self.key = bytearray()


def new_kek(kind: str, passphrase: bytes) -> Kek:
    """A new active KEK with its own salt. Takes about 0.1 s and 64 MiB: run it in a thread."""
    check_new(passphrase)
    salt = os.urandom(_SALT_OCTETS)
    row = KeyEncryptionKey(str(uuid.uuid4()), kind, salt, MEMORY_KIB, ITERATIONS, LANES, b"", True)
    key = _derive(row, passphrase)
    return Kek(replace(row, verifier=_seal(key, _VERIFIER_TEXT, _verifier_context(row))), key)


def open_kek(row: KeyEncryptionKey, passphrase: bytes) -> Kek:
    """Derives and verifies. Takes about 0.1 s and the row's memory: run it in a thread.

    Raises SporkError: WRONG_PASSPHRASE; CORRUPTED_KEY if the row's parameters are weaker than the floor or absurdly large.
    """
    check_parameters(row)
    key = _derive(row, passphrase)
    try:
        text = _open(key, row.verifier, _verifier_context(row))
    except InvalidTag:
        clear(key)
        raise SporkError(Code.WRONG_PASSPHRASE, f"The passphrase does not open the {row.kind} keys.") from None
    clear(text)
    return Kek(row, key)


def check_parameters(row: KeyEncryptionKey) -> None:
    """Refuses what an attacker with write access could have set: too weak to protect, or so large that it stops the process.

    Raises SporkError(CORRUPTED_KEY).
    """
    sound = (
        MEMORY_KIB <= row.memory_kib <= _MAX_MEMORY_KIB
        and ITERATIONS <= row.iterations <= _MAX_ITERATIONS
        and LANES <= row.lanes <= _MAX_LANES
        and _SALT_OCTETS <= len(row.salt) <= _MAX_SALT_OCTETS
        and len(row.verifier) == _NONCE_OCTETS + len(_VERIFIER_TEXT) + _TAG_OCTETS
    )
    if not sound:
        raise SporkError(
            Code.CORRUPTED_KEY, f"The parameters of the key-encryption key {row.kek_id} are out of bounds."
        )


def wrap_key(kek: Kek, key_id: KeyId, key: PrivateKey, purpose: KeyPurpose) -> WrappedKey:
    """Encrypts a private key under a fresh data key, and that one under the KEK."""
    signer = SoftwareSigner(key, purpose)
    data_key, plain = bytearray(os.urandom(_KEY_OCTETS)), pkcs8(key)
    try:
        empty = WrappedKey(key_id, purpose, signer.algorithm.name, signer.spki, kek.id, b"", b"")
        return replace(
            empty,
            wrapped_data_key=_seal(kek.key, data_key, _data_key_context(kek.id, empty)),
            ciphertext=_seal(data_key, plain, _key_context(empty)),
        )
    finally:
        clear(data_key)
        clear(plain)


def unwrap_key(kek: Kek, row: WrappedKey) -> PrivateKey:
    """Raises SporkError(CORRUPTED_KEY): the KEK is the right one, so the row is damaged or was exchanged."""
    data_key = _data_key(kek, row)
    try:
        plain = _open(data_key, row.ciphertext, _key_context(row))
    except InvalidTag:
        raise _corrupted(row) from None
    finally:
        clear(data_key)
    try:
        key = load_pkcs8(plain)
        if SoftwareSigner(key, row.purpose).spki != row.spki:
            raise _corrupted(row)
    except SporkError:
        raise _corrupted(row) from None
    finally:
        clear(plain)
    return key


def rewrap_data_key(old: Kek, new: Kek, row: WrappedKey) -> bytes:
    """The row's data key, wrapped by the new KEK. The private key stays closed. Raises SporkError(CORRUPTED_KEY)."""
    data_key = _data_key(old, row)
    try:
        return _seal(new.key, data_key, _data_key_context(new.id, row))
    finally:
        clear(data_key)


def _data_key(kek: Kek, row: WrappedKey) -> bytearray:
    try:
        data_key = _open(kek.key, row.wrapped_data_key, _data_key_context(kek.id, row))
    except InvalidTag:
        raise _corrupted(row) from None
    if len(data_key) != _KEY_OCTETS:
        raise _corrupted(row)
    return data_key


def _corrupted(row: WrappedKey) -> SporkError:
    return SporkError(
        Code.CORRUPTED_KEY,
        f"The stored key {row.key_id} ({row.purpose.value}) is damaged: its passphrase is right, but it does not open. "
        "Restore its row from a backup.",
    )


def _derive(row: KeyEncryptionKey, passphrase: bytes) -> bytearray:
    try:
        return bytearray(
            hash_secret_raw(passphrase, row.salt, row.iterations, row.memory_kib, row.lanes, _KEY_OCTETS, Type.ID)
        )
    except Argon2Error as error:  # No memory, mostly.
        raise SporkError(
            Code.UNAVAILABLE, f"Argon2id cannot run with {row.memory_kib // 1024} MiB here: {error}.", retry_after_s=5
        ) from None


def _seal(key: bytearray, plain: bytes | bytearray, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE_OCTETS)
    return nonce + AESGCM(key).encrypt(nonce, plain, context)


def _open(key: bytearray, sealed: bytes, context: bytes) -> bytearray:
    if len(sealed) < _NONCE_OCTETS + _TAG_OCTETS:
        raise InvalidTag
    return bytearray(AESGCM(key).decrypt(sealed[:_NONCE_OCTETS], sealed[_NONCE_OCTETS:], context))


def _context(*fields: bytes) -> bytes:
    # Each field with its length before it, so that no two lists of fields give the same octets.
    return b"".join(len(part).to_bytes(4, "big") + part for part in fields)


def _verifier_context(row: KeyEncryptionKey) -> bytes:
    numbers = (row.memory_kib, row.iterations, row.lanes)
    return _context(
        b"spork/kek-verifier/1", row.kek_id.encode(), row.kind.encode(), *(str(number).encode() for number in numbers)
    )


def _data_key_context(kek_id: str, row: WrappedKey) -> bytes:
    return _context(b"spork/data-key/1", kek_id.encode(), row.key_id.encode(), row.purpose.value.encode())


def _key_context(row: WrappedKey) -> bytes:
    return _context(
        b"spork/private-key/1", row.key_id.encode(), row.purpose.value.encode(), row.algorithm.encode(), row.spki
    )
