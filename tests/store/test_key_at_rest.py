"""No octet of a stored private key may be found in clear: not in a table, in the server's files, in logs or in the state folder.

The keys are real ones, taken at the moment when they are made; the search is first tried on a planted copy.
"""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from postgres import PostgresServer

from spork.errors import SporkError
from spork.ids import KeyId
from spork.issuance.ports import AuditEvent
from spork.keys import ring as ring_module
from spork.keys.kek import unwrap_key
from spork.keys.memfd import load_cert_chain
from spork.keys.passphrase import Passphrases, read_passphrases
from spork.keys.ring import KeyRing
from spork.keys.software import PrivateKey, generate_private_key
from spork.store.database import Database
from spork.store.private_key import KeyRecords
from spork.x509.algorithms import Algorithm
from spork.x509.der import CertificateTBS, KeyPurpose

pytestmark = pytest.mark.store

CASES = [
    ("ecdsa-p256", KeyPurpose.CA, "online"),
    ("rsa-2048", KeyPurpose.CA, "online"),
    ("ed25519", KeyPurpose.CA, "sealed"),
    ("ml-dsa-65", KeyPurpose.CA, "sealed"),
    ("ecdsa-p384", KeyPurpose.OCSP, "online"),
    ("ecdsa-p256", KeyPurpose.LISTENER, "online"),
]
PASSPHRASE, SEALED, NEXT = b"online passphrase marker", b"sealed passphrase marker", b"rotated passphrase marker"


def secrets_of(key: PrivateKey) -> list[bytes]:
    """What alone gives the key away: scalars, seeds, and the primes of RSA; at most 32 octets of each."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        return [value.to_bytes(256, "big").lstrip(b"\0")[:32] for value in (numbers.p, numbers.q, numbers.d)]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        return [key.private_numbers().private_value.to_bytes(size, "big")[-32:]]
    return [key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())]


def forms_of(secret: bytes) -> list[bytes]:
    """Raw, both hexadecimals, and Base64 at each of the three places where the secret can begin in what was encoded."""
    forms = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        # The first and last characters depend on what stands beside the secret.
        forms.append(encoded[4 if offset else 0 : len(encoded) - 4])
    return forms


def found_in(haystack: bytes, needles: Iterable[bytes]) -> list[bytes]:
    # PEM breaks its lines, and JSON and text output write the breaks as \n.
    joined = haystack.replace(b"\\n", b"").replace(b"\n", b"").replace(b"\r", b"")
    return [needle for needle in needles if needle in haystack or needle in joined]


def tables(url: str) -> Iterator[tuple[str, bytes]]:
    """Every table as text and in binary."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(names) > 10
        for (name,) in names:
            for form in ("text", "binary"):
                with connection.cursor().copy(f"COPY {name} TO STDOUT (FORMAT {form})") as copy:  # type: ignore[call-overload]
                    yield f"{name} ({form})", b"".join(bytes(block) for block in copy)


def files_below(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()


def server_files(server: PostgresServer, url: str) -> Iterator[tuple[str, bytes]]:
    """This database's files, the write-ahead log and the server's log, after everything was written out."""
    if server.embedded is None:
        return
    server.run("CHECKPOINT")
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    data = server.embedded.folder / "data"
    yield from files_below(data / "base" / str(row[0]), data / "pg_wal")
    for log in server.embedded.home.rglob("*.log"):
        yield str(log), log.read_bytes()


def self_signed(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    return (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


async def lead_a_busy_life(database: Database, home: Path) -> list[str]:
    """Make, open, use, damage and rotate keys; returns every text that was shown on the way."""
    records = KeyRecords(database)
    file = home / "passphrase"
    file.write_bytes(PASSPHRASE + b"\n")
    file.chmod(0o600)
    ring = await KeyRing.open(
        records, passphrases={"online": read_passphrases(file), "sealed": Passphrases(SEALED)}, create=True
    )
    audit = AuditEvent("key.generate", "host", "authority:test")
    made = [await ring.generate(algorithm, purpose, kind, audit) for algorithm, purpose, kind in CASES]  # type: ignore[arg-type]
    shown = [repr(ring), repr(vars(ring)), repr(made)]
    for key_id, _ in made:
        signer = await ring.signer(key_id)
        shown += [repr(signer), str(signer)]
        if signer.purpose is KeyPurpose.CA:
            signer.sign(CertificateTBS(b"tbs"))
        if signer.purpose is KeyPurpose.LISTENER:
            key = signer._key
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            load_cert_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), signer, [self_signed(key)])
    shown += await errors_of(ring, records, made[0][0])
    file.write_bytes(NEXT + b"\n" + PASSPHRASE + b"\n")
    await ring.rewrap("online", NEXT, actor="host")
    ring.close("sealed")
    file.unlink()
    return shown


async def errors_of(ring: KeyRing, records: KeyRecords, key_id: KeyId) -> list[str]:
    row = await records.key(key_id)
    texts = []
    for damaged in (replace(row, ciphertext=row.ciphertext[:-1] + b"x"), replace(row, wrapped_data_key=b"short")):
        with pytest.raises(SporkError) as caught:
            unwrap_key(ring._keks[row.kek_id], damaged)
        texts += [repr(caught.value), str(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    with pytest.raises(SporkError) as caught:
        await KeyRing.open(records, passphrases={"online": Passphrases(b"a wrong passphrase")})
    return [*texts, repr(caught.value)]


@pytest.fixture
def made_keys(monkeypatch: pytest.MonkeyPatch) -> list[PrivateKey]:
    """Every key that the ring makes, as it is made."""
    keys: list[PrivateKey] = []

    def recorded(algorithm: Algorithm) -> PrivateKey:
        keys.append(generate_private_key(algorithm))
        return keys[-1]

    monkeypatch.setattr(ring_module, "generate_private_key", recorded)
    return keys


async def test_no_octet_of_a_key_or_passphrase_is_stored_or_shown_in_clear(
    database: Database,
    database_url: str,
    postgres_server: PostgresServer,
    tmp_path: Path,
    made_keys: list[PrivateKey],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = await lead_a_busy_life(database, tmp_path)
    assert len(made_keys) == len(CASES)
    secrets = [secret for key in made_keys for secret in secrets_of(key)] + [PASSPHRASE, SEALED, NEXT]
    needles = [form for secret in secrets for form in forms_of(secret)]
    captured = capfd.readouterr()
    texts = "\n".join([*shown, caplog.text, captured.out, captured.err]).encode()
    places = [
        ("texts", texts),
        *tables(database_url),
        *server_files(postgres_server, database_url),
        *files_below(tmp_path),
    ]
    assert {name for name, content in places if found_in(content, needles)} == set()


async def test_the_search_finds_a_key_that_was_planted(
    database: Database, database_url: str, postgres_server: PostgresServer
) -> None:
    """Without this, the test above would pass for a search that finds nothing ever."""
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    needles = [form for secret in secrets_of(key) for form in forms_of(secret)]
    (secret,) = secrets_of(key)
    planted = {
        "pem": pem.decode(),
        "hex": secret.hex(),
        "HEX": secret.hex().upper(),
        "base64": base64.b64encode(secret).decode(),
    }
    for form, text in planted.items():
        assert found_in(text.encode(), needles), form
        await database.execute("INSERT INTO audit_event (actor, action, subject) VALUES (%s, 'test', %s)", [text, form])
    await database.execute(
        "INSERT INTO nonce_key (one, key) VALUES (true, %s) ON CONFLICT (one) DO UPDATE SET key = excluded.key",
        [secret],
    )
    hit = {name for name, content in tables(database_url) if found_in(content, needles)}
    assert {
        "public.audit_event (text)",
        "public.audit_event (binary)",
        "public.nonce_key (text)",
        "public.nonce_key (binary)",
    } <= hit
    if postgres_server.embedded is not None:
        assert any(
            found_in(content, needles)
            for name, content in server_files(postgres_server, database_url)
            if "/base/" in name
        )
