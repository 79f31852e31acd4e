"""A small world of certification for tests: keys of every algorithm, and CAs in a few lines.

RSA keys are made once per process and algorithm, because making them takes seconds; all others are fresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509

from spork.ids import AuthorityId, new_serial
from spork.keys.software import SoftwareSigner, generate_private_key
from spork.x509.algorithms import algorithm_named
from spork.x509.authority import Authority, AuthorityKind, AuthorityURLs, KeyMode
from spork.x509.der import CertificateTBS, KeyPurpose, sign
from spork.x509.names import EMPTY_NAME, NameKind, SubjectName, dns, ip
from spork.x509.profile import CAConstraints, Profile
from spork.x509.profiles import PROFILES
from spork.x509.spki import key_identifier
from spork.x509.template import build_tbs

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
URLS = AuthorityURLs(
    crl=("http://status.example/crl/ca/1.crl",),
    ocsp=("http://status.example/ocsp/ca",),
    ca_issuers=("http://status.example/ca/ca/1.cer",),
)
ALGORITHM_NAMES = (
    "rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519",
    "ml-dsa-44", "ml-dsa-65", "ml-dsa-87",
)  # fmt: skip


@lru_cache
def _rsa_signer(name: str, purpose: KeyPurpose, number: int) -> SoftwareSigner:
    return SoftwareSigner(generate_private_key(algorithm_named(name)), purpose)


def a_signer(algorithm: str = "ecdsa-p256", purpose: KeyPurpose = KeyPurpose.CA, *, number: int = 0) -> SoftwareSigner:
    """A signer; for RSA the same one for the same arguments."""
    if algorithm.startswith("rsa"):
        return _rsa_signer(algorithm, purpose, number)
    return SoftwareSigner(generate_private_key(algorithm_named(algorithm)), purpose)


def a_name(common_name: str, **more: str) -> x509.Name:
    """O=SPORK test, then the common name; keywords are further attribute types such as `email_address`."""
    oid = x509.NameOID
    attributes = [
        x509.NameAttribute(oid.ORGANIZATION_NAME, "SPORK test"),
        x509.NameAttribute(oid.COMMON_NAME, common_name),
    ]
    attributes += [x509.NameAttribute(getattr(oid, key.upper()), value) for key, value in more.items()]
    return x509.Name(attributes)


@dataclass(frozen=True)
class CA:
    """An authority together with its key."""

    authority: Authority
    signer: SoftwareSigner

    @property
    def certificate(self) -> x509.Certificate:
        assert self.authority.certificate is not None
        return self.authority.certificate

    def tbs(self, profile: Profile | str = "tls-server", **changes: Any) -> CertificateTBS:
        """What this CA would sign: by default a ten-day certificate for www.example and a fresh P-256 key."""
        arguments: dict[str, Any] = {
            "profile": PROFILES[profile] if isinstance(profile, str) else profile,
            "authority": self.authority,
            "subject": EMPTY_NAME,
            "names": (dns("www.example"),),
            "serial": new_serial(),
            "not_before": NOW - timedelta(minutes=1),
            "not_after": NOW + timedelta(days=10),
            "signature": self.signer.algorithm,
        }
        arguments |= changes
        arguments.setdefault("spki", b"")
        arguments["spki"] = arguments["spki"] or a_signer(purpose=KeyPurpose.LEAF).spki
        return build_tbs(**arguments)

    def certify(self, profile: Profile | str = "tls-server", **changes: Any) -> x509.Certificate:
        """The same, signed."""
        return x509.load_der_x509_certificate(sign(self.tbs(profile, **changes), self.signer))

    def subordinate(
        self,
        common_name: str = "Issuing CA",
        *,
        algorithm: str = "ecdsa-p256",
        constraints: CAConstraints | None = None,
        profile: str = "issuing-ca",
        kind: AuthorityKind = AuthorityKind.ISSUING,
        days: int = 1000,
        **changes: Any,
    ) -> CA:
        """A CA below this one."""
        signer = a_signer(algorithm, number=1)
        subject = a_name(common_name)
        certificate = self.certify(
            profile,
            subject=subject,
            names=(),
            spki=signer.spki,
            not_after=NOW + timedelta(days=days),
            constraints=constraints or CAConstraints(path_length=0),
            **changes,
        )
        return CA(
            _authority(common_name, kind, subject, signer, certificate, (self.certificate, *self.authority.chain)),
            signer,
        )


def a_root(
    common_name: str = "Root CA", *, algorithm: str = "ecdsa-p256", constraints: CAConstraints | None = None
) -> CA:
    """A root that signed itself, valid for ten years."""
    signer = a_signer(algorithm)
    subject = a_name(common_name)
    bare = CA(_authority(common_name, AuthorityKind.ROOT, subject, signer, None, ()), signer)
    certificate = bare.certify(
        "root",
        subject=subject,
        names=(),
        spki=signer.spki,
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=3650),
        constraints=constraints or CAConstraints(),
    )
    return CA(_authority(common_name, AuthorityKind.ROOT, subject, signer, certificate, ()), signer)


def _authority(
    name: str,
    kind: AuthorityKind,
    subject: x509.Name,
    signer: SoftwareSigner,
    certificate: x509.Certificate | None,
    chain: tuple[x509.Certificate, ...],
) -> Authority:
    return Authority(
        id=AuthorityId(name.lower().replace(" ", "-")),
        kind=kind,
        generation=1,
        key_mode=KeyMode.ONLINE,
        key_id=None,
        subject=subject,
        subject_der=subject.public_bytes(),
        spki=signer.spki,
        subject_key_identifier=key_identifier(signer.spki),
        algorithm=signer.algorithm,
        certificate=certificate,
        chain=chain,
        not_after=certificate.not_valid_after_utc if certificate else None,
        urls=URLS,
    )


def a_request(profile: str) -> dict[str, Any]:
    """Arguments for `CA.certify` that make a whole certificate of this profile."""
    requests: dict[str, dict[str, Any]] = {
        "tls-server": {"names": (dns("www.example"), dns("*.app.example"), ip("192.0.2.7"), ip("2001:db8::7"))},
        "listener": {"names": (dns("ca.example"),), "subject": x509.Name([_common_name("ca.example")])},
        "tls-client": {"subject": a_name("service"), "names": (dns("service.example"),)},
        "code-signing": {"subject": a_name("Release signer"), "names": ()},
        "email": {"subject": a_name("Alice"), "names": (SubjectName(NameKind.EMAIL, "alice@mail.example"),)},
        "device": {
            "subject": a_name("Sensor 7", serial_number="7"),
            "names": (
                dns("sensor-7.example"),
                ip("10.0.0.7"),
                SubjectName(NameKind.URI, "urn:uuid:7d444840-9dc0-11d1-b245-5ffdce74fad2"),
                SubjectName(NameKind.EMAIL, "sensor-7@example.com"),
                SubjectName(NameKind.DN, "CN=Sensor 7,O=Plant"),
            ),
        },
        "ocsp-signing": {"subject": a_name("OCSP responder"), "names": (), "not_after": NOW + timedelta(days=6)},
        "timestamping": {"subject": a_name("Time stamps"), "names": ()},
    }
    if profile.startswith("admin-"):
        names = (SubjectName(NameKind.EMAIL, "admin@example.com"),)
        return {"subject": a_name("alice"), "names": names, "policies": ("1.3.6.1.4.1.99999.1.1",)}
    if PROFILES[profile].ca:
        return {"subject": a_name("Lower CA"), "names": (), "constraints": CAConstraints(path_length=0)}
    return requests[profile]


def _common_name(value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(x509.NameOID.COMMON_NAME, value)
