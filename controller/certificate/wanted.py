"""What a Certificate asks for, put together with its issuer: the one value that requests and checks are made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from spork.controller.models.certificate import CertificateSpec
from spork.controller.models.names import seconds
from spork.issuance.ports import IdempotencyKey
from spork.issuance.request import IssuanceRequest
from spork.issuance.resolve import subject_of
from spork.policy.issuer import Issuer
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.x509.algorithms import Algorithm, algorithm_named
from spork.x509.authority import Authority
from spork.x509.names import NameKind, SubjectName, dns, ip
from spork.x509.profile import Profile
from spork.x509.profiles import profile_named


@dataclass(frozen=True, slots=True)
class Owner:
    """The Certificate that asks."""

    namespace: str
    name: str
    uid: str

    @property
    def identity(self) -> str:
        """As it stands in the record of certificates and in the audit log."""
        return f"kubernetes:{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The certificate as the spec and the issuer have it now."""

    issuer: Issuer
    authority: Authority
    profile: Profile
    names: tuple[SubjectName, ...]
    asked_subject: x509.Name | None
    validity: timedelta | None
    algorithm: Algorithm

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is asked for; the same after a restart, and for whatever the CA's generation is."""
        asked = [
            self.profile.name,
            [str(name) for name in self.names],
            self.asked_subject.public_bytes().hex() if self.asked_subject is not None else None,
            self.duration_text,
            self.algorithm.name,
        ]
        return hashlib.sha256(json.dumps(asked).encode()).digest()

    @property
    def duration_text(self) -> str:
        return "" if self.validity is None else str(int(self.validity.total_seconds()))

    def subject(self, owner: Owner) -> x509.Name:
        """The subject that the certificate gets, by the pipeline's own rule."""
        return subject_of(self.request(owner, 1, b""))

    def request(
        self, owner: Owner, revision: int, spki: bytes, csr: x509.CertificateSigningRequest | None = None
    ) -> IssuanceRequest:
        """The request for the pipeline; made twice for the same revision and key, it is the same request."""
        key = f"{owner.uid}:{revision}:{hashlib.sha256(spki).hexdigest()}"
        return IssuanceRequest(
            requester=Requester(Door.KUBERNETES, owner.identity, namespace=owner.namespace),
            grant=Grant(profiles=frozenset({self.profile.name}), names=frozenset(self.names)),
            evidence=Evidence("kubernetes", owner.uid),
            idempotency=IdempotencyKey(f"issuer:{self.issuer.id}", Door.KUBERNETES, key, self.digest),
            authority=self.authority,
            issuer=self.issuer,
            profile=self.profile,
            spki=spki,
            subject=self.asked_subject,
            names=self.names,
            csr=csr,
            validity=self.validity,
            attributes={
                "kubernetes": {
                    "kind": "Certificate",
                    "namespace": owner.namespace,
                    "name": owner.name,
                    "uid": owner.uid,
                    "revision": revision,
                }
            },
        )


def wanted_of(spec: CertificateSpec, issuer: Issuer, authority: Authority) -> Wanted:
    """Raises ConfigurationError for a profile or algorithm that this version does not know."""
    return Wanted(
        issuer=issuer,
        authority=authority,
        profile=profile_named(spec.profile or issuer.profiles[0]),
        names=_names(spec),
        asked_subject=_subject(spec),
        validity=None if spec.duration is None else timedelta(seconds=seconds(spec.duration)),
        algorithm=algorithm_named(spec.private_key.algorithm),
    )


def _names(spec: CertificateSpec) -> tuple[SubjectName, ...]:
    found = [dns(value) for value in spec.dns_names]
    found += [ip(value) for value in spec.ip_addresses]
    found += [SubjectName(NameKind.URI, value) for value in spec.uris]
    for value in spec.email_addresses:
        local, at, domain = value.rpartition("@")
        found.append(SubjectName(NameKind.EMAIL, f"{local}{at}{domain.lower()}"))
    # One name in two spellings is one name.
    return tuple(dict.fromkeys(found))


def _subject(spec: CertificateSpec) -> x509.Name | None:
    """The subject that is asked for in so many words; None leaves it to the pipeline."""
    oid, more = x509.NameOID, spec.subject
    attributes: list[x509.NameAttribute[str]] = []
    if more is not None:
        for values, kind in (
            ([country.upper() for country in more.countries], oid.COUNTRY_NAME),
            (more.provinces, oid.STATE_OR_PROVINCE_NAME),
            (more.localities, oid.LOCALITY_NAME),
            (more.street_addresses, oid.STREET_ADDRESS),
            (more.postal_codes, oid.POSTAL_CODE),
            (more.organizations, oid.ORGANIZATION_NAME),
            (more.organizational_units, oid.ORGANIZATIONAL_UNIT_NAME),
            ([more.serial_number] if more.serial_number else [], oid.SERIAL_NUMBER),
        ):
            attributes += [x509.NameAttribute(kind, value) for value in values]
    if spec.common_name is not None:
        attributes.append(x509.NameAttribute(oid.COMMON_NAME, _common_name(spec)))
    return x509.Name(attributes) if attributes else None


def _common_name(spec: CertificateSpec) -> str:
    """As it stands among the names, which are written in lower case."""
    text = spec.common_name or ""
    return text.lower() if text.lower() in {value.lower() for value in spec.dns_names} else text
