"""PKCS #12 stores as OpenSSL and Java read them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from x509_world import a_root

from spork.controller.certificate.keystores import can_hold, key_store, trust_store
from spork.keys.ephemeral import EphemeralKey
from spork.x509.algorithms import BY_NAME
from spork.x509.der import KeyPurpose, sign

PASSWORD = b"a passphrase, not very long"


@pytest.fixture(scope="module")
def made() -> tuple[EphemeralKey, x509.Certificate, x509.Certificate, x509.Certificate]:
    """A key, its certificate, the CA and the root."""
    root = a_root()
    issuing = root.subordinate()
    key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.LEAF)
    leaf = x509.load_der_x509_certificate(sign(issuing.tbs(spki=key.spki), issuing.signer))
    return key, leaf, issuing.certificate, root.certificate


def openssl(store: Path, *words: str) -> str:
    done = subprocess.run(
        ["openssl", "pkcs12", "-in", store, "-passin", "stdin", *words],
        input=PASSWORD, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout.decode() + done.stderr.decode()


@pytest.mark.parametrize(
    ("profile", "words", "encryption"),
    [
        ("Modern2023", [], "PBES2, PBKDF2, AES-256-CBC"),
        ("LegacyDES", ["-legacy"], "pbeWithSHA1And3-KeyTripleDES-CBC"),
    ],
)
def test_openssl_reads_key_and_chain(
    made: tuple[EphemeralKey, x509.Certificate, x509.Certificate, x509.Certificate],
    tmp_path: Path,
    profile: str,
    words: list[str],
    encryption: str,
    system_program: Callable[[str], str],
) -> None:
    system_program("openssl")
    key, leaf, issuing, _ = made
    store = tmp_path / "keystore.p12"
    store.write_bytes(key_store("web", key, leaf, [issuing], PASSWORD, profile))
    text = openssl(store, *words, "-info", "-nodes")
    assert encryption in text
    assert text.count("BEGIN CERTIFICATE") == 2
    assert text.count("BEGIN PRIVATE KEY") == 1
    assert "friendlyName: web" in text
    digest = "SHA256" if profile == "Modern2023" else "SHA1"
    assert f"MAC: {digest.lower()}" in text or f"MAC: {digest}" in text


@pytest.mark.parametrize("profile", ["Modern2023", "LegacyDES"])
def test_java_trusts_what_is_in_the_trust_store(
    made: tuple[EphemeralKey, x509.Certificate, x509.Certificate, x509.Certificate],
    tmp_path: Path,
    profile: str,
    system_program: Callable[[str], str],
) -> None:
    keytool = system_program("keytool")
    store, password = tmp_path / "truststore.p12", tmp_path / "password"
    store.write_bytes(trust_store([made[3]], PASSWORD, profile))
    password.write_bytes(PASSWORD)
    words = ["-list", "-storetype", "PKCS12", "-keystore", store, "-storepass:file", password]
    done = subprocess.run([keytool, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trustedCertEntry" in done.stdout
    assert "root-1" in done.stdout


def test_java_finds_the_key_in_the_key_store(
    made: tuple[EphemeralKey, x509.Certificate, x509.Certificate, x509.Certificate],
    tmp_path: Path,
    system_program: Callable[[str], str],
) -> None:
    keytool = system_program("keytool")
    key, leaf, issuing, _ = made
    store, password = tmp_path / "keystore.p12", tmp_path / "password"
    store.write_bytes(key_store("web", key, leaf, [issuing], PASSWORD, "Modern2023"))
    password.write_bytes(PASSWORD)
    words = ["-list", "-v", "-storetype", "PKCS12", "-keystore", store, "-storepass:file", password]
    done = subprocess.run([keytool, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PrivateKeyEntry" in done.stdout
    assert "Certificate chain length: 2" in done.stdout


def test_a_wrong_password_opens_nothing(
    made: tuple[EphemeralKey, x509.Certificate, x509.Certificate, x509.Certificate],
) -> None:
    key, leaf, issuing, root = made
    for store in (
        key_store("web", key, leaf, [issuing], PASSWORD, "Modern2023"),
        trust_store([root], PASSWORD, "Modern2023"),
    ):
        with pytest.raises(ValueError, match="password"):
            load_pkcs12(store, b"another")


@pytest.mark.parametrize("name", BY_NAME)
def test_every_algorithm_either_fits_or_is_known_not_to(name: str) -> None:
    if name.startswith("rsa") or not can_hold(name):
        assert can_hold(name) is not name.startswith("ml-dsa")
        return
    root = a_root()
    key = EphemeralKey.generate(name, KeyPurpose.LEAF)
    leaf = x509.load_der_x509_certificate(sign(root.tbs(spki=key.spki), root.signer))
    store = key_store("web", key, leaf, [], PASSWORD, "Modern2023")
    assert load_pkcs12(store, PASSWORD).key is not None
