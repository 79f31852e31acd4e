"""Key and certificates as PKCS #12 stores, for programs that read nothing else.

Source: RFC 7292 (PKCS #12), RFC 8018 (PBES2); the attribute by which Java knows a trusted certificate is Oracle's
trustedKeyUsage, 2.16.840.1.113894.746875.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    serialize_java_truststore,
    serialize_key_and_certificates,
)

from spork.keys.ephemeral import EphemeralKey

_ROUNDS = 10_000
"""What OpenSSL, Java and Windows read without a delay that people notice. The Secret beside it holds the key in clear anyway."""


def key_store(
    name: str,
    key: EphemeralKey,
    leaf: x509.Certificate,
    chain: Sequence[x509.Certificate],
    password: bytes,
    profile: str,
) -> bytes:
    """keystore.p12: the key with its certificate and those above it, without the root."""
    private = key.private_key
    assert can_hold(key.signer.algorithm.name), "the caller has asked can_hold"
    return serialize_key_and_certificates(
        name.encode(),
        private,  # type: ignore[arg-type]  # ML-DSA, which the format has no place for, is excluded above.
        leaf,
        chain or None,
        _encryption(password, profile),
    )


def trust_store(roots: Sequence[x509.Certificate], password: bytes, profile: str) -> bytes:
    """truststore.p12: the roots as trusted certificates, as Java reads them."""
    entries = [PKCS12Certificate(root, f"root-{number}".encode()) for number, root in enumerate(roots, start=1)]
    return serialize_java_truststore(entries, _encryption(password, profile))


def can_hold(algorithm: str) -> bool:
    """Whether readers of PKCS #12 know keys of this algorithm. ML-DSA's they do not."""
    return not algorithm.startswith("ml-dsa")


def _encryption(password: bytes, profile: str) -> KeySerializationEncryption:
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(_ROUNDS)
    if profile == "LegacyDES":
        builder = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())  # noqa: S303
    else:
        builder = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return builder.build(password)
