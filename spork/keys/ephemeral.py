"""Keys that are made for someone else, or for this process alone, and never stored in the database."""

from __future__ import annotations

from typing import NoReturn

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from spork.keys.software import PrivateKey, SoftwareSigner, generate_private_key
from spork.x509.algorithms import Algorithm, algorithm_named
from spork.x509.der import KeyPurpose


class EphemeralKey:
    """A key of a leaf, an administrator or a listener: it signs its own CSR and is handed out once as PEM."""

    __slots__ = ("_key", "_signer")

    def __init__(self, key: PrivateKey, purpose: KeyPurpose) -> None:
        self._key = key
        self._signer = SoftwareSigner(key, purpose)

    @classmethod
    def generate(cls, algorithm: Algorithm | str, purpose: KeyPurpose) -> EphemeralKey:
        """A fresh, self-tested key. RSA takes up to seconds: call it off the event loop. Raises SporkError(CONFIGURATION)."""
        row = algorithm_named(algorithm) if isinstance(algorithm, str) else algorithm
        made = cls(generate_private_key(row), purpose)
        made.signer.self_test()
        return made

    @property
    def signer(self) -> SoftwareSigner:
        return self._signer

    @property
    def private_key(self) -> PrivateKey:
        """The key itself, for a PKCS#12 file or a TLS library."""
        return self._key

    @property
    def spki(self) -> bytes:
        return self._signer.spki

    def pkcs8_pem(self, password: bytes | None = None) -> bytes:
        """PKCS#8 PEM, encrypted (PBES2) if a password is given. ML-DSA keys come as their seed (RFC 9881 section 6)."""
        encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def __repr__(self) -> str:
        return f"EphemeralKey({self._signer.algorithm.name}, {self._signer.purpose.value})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key does not leave the process by pickling")
