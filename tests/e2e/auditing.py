"""Looks at a CA after an accident, in its database and from outside, and says whether its books are in order."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from spork.ids import serial_octets
from spork.store.embedded_access import running_urls
from tests.e2e.processes import eventually
from tests.e2e.running import RunningCA

ISSUING = "spork-tls-web-server-issuing-ca"


class Books:
    """The records of one CA whose database runs."""

    def __init__(self, ca: RunningCA, database_url: str | None = None) -> None:
        self._ca = ca
        self._url = database_url

    def rows(self, query: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url or running_urls(Path(self._ca.home))[0]) as connection:
            return connection.execute(query, parameters).fetchall()

    def count(self, query: Any, *parameters: Any) -> int:
        return int(self.rows(query, *parameters)[0][0])

    def check(self, certificates: Iterable[x509.Certificate] = ()) -> None:
        """All that must hold whatever happened, for everything that any client holds."""
        self.no_reservation_is_left()
        for certificate in certificates:
            self.is_recorded(certificate)
        twice = "SELECT serial FROM certificate GROUP BY authority_id, serial HAVING count(*) > 1"
        assert self.rows(twice) == []
        orders = """SELECT idempotency_key FROM certificate WHERE door = 'acme' AND state = 'issued'
                     GROUP BY scope, idempotency_key HAVING count(*) > 1"""
        assert self.rows(orders) == []
        self.every_certificate_has_one_event()

    def no_reservation_is_left(self) -> None:
        """The host closes what nobody recorded; it looks every quarter of a minute."""
        expired = "SELECT count(*) FROM certificate WHERE state = 'reserved' AND lease_until <= now()"
        eventually(lambda: self.count(expired) == 0, "closing the expired reservations")

    def is_recorded(self, certificate: x509.Certificate) -> None:
        found = self.rows(
            "SELECT state, der FROM certificate WHERE authority_id = %s AND serial = %s",
            ISSUING,
            serial_octets(certificate.serial_number),
        )
        assert [(state, bytes(der)) for state, der in found] == [("issued", certificate.public_bytes(Encoding.DER))]

    def every_certificate_has_one_event(self) -> None:
        for state, action in (("issued", "certificate.issue"), ("abandoned", "certificate.abandon")):
            certificates = self.rows(
                "SELECT 'certificate:' || authority_id || '/' || upper(encode(serial, 'hex')) FROM certificate "
                "WHERE state = %s ORDER BY 1",
                state,
            )
            assert certificates == self.rows("SELECT subject FROM audit_event WHERE action = %s ORDER BY 1", action)

    def abandoned(self) -> set[int]:
        """Serials of the issuing CA that were reserved and never recorded."""
        query = "SELECT serial FROM certificate WHERE state = 'abandoned' AND authority_id = %s"
        return {int.from_bytes(row[0], "big") for row in self.rows(query, ISSUING)}


def ocsp_status(ca: RunningCA, issuer: x509.Certificate, serial: int) -> ocsp.OCSPCertStatus:
    """What the responder says of a serial, over HTTP as any client asks."""
    request = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*_certificate_id(issuer), serial, SHA256()).build()
    answer = ask_ocsp(ca, request.public_bytes(Encoding.DER))
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL, answer.response_status
    assert answer.serial_number == serial
    return answer.certificate_status


def _certificate_id(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    """Hashes of name and key; the key's is over its bits alone, which of an elliptic curve are the uncompressed point."""
    key: Any = issuer.public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _sha256(issuer.subject.public_bytes()), _sha256(point)


def _sha256(data: bytes) -> bytes:
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()


def ask_ocsp(ca: RunningCA, request: bytes) -> ocsp.OCSPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", ca.ports["status"], timeout=10)
    try:
        connection.request("POST", "/ocsp", request, {"Content-Type": "application/ocsp-request"})
        return ocsp.load_der_ocsp_response(connection.getresponse().read())
    finally:
        connection.close()


def crl_of(ca: RunningCA, certificate: x509.Certificate) -> x509.CertificateRevocationList:
    """The list that covers the certificate, fetched where the certificate says."""
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    url = next(name.value for point in points for name in point.full_name or ())
    connection = http.client.HTTPConnection("127.0.0.1", ca.ports["status"], timeout=10)
    try:
        connection.request("GET", urlsplit(url).path)
        return x509.load_der_x509_crl(connection.getresponse().read())
    finally:
        connection.close()


def are_revoked(ca: RunningCA, chain: list[x509.Certificate], serials: Iterable[int], *, in_crl: bool = True) -> None:
    """Each serial is revoked by OCSP at once, and in the next list, which is asked for unless `in_crl` is off."""
    wanted = set(serials)
    for serial in wanted:
        eventually(_revoked_by_ocsp(ca, chain[1], serial), "OCSP's revoked", 5)
    if in_crl and wanted:
        # Exit code 6 says that the schedule is at it in this moment.
        eventually(lambda: ca.spork("crl", "publish", "--ca", ISSUING, check=False).returncode == 0, "a new CRL")
        eventually(lambda: wanted <= {entry.serial_number for entry in crl_of(ca, chain[0])}, "its publication", 10)


def _revoked_by_ocsp(ca: RunningCA, issuer: x509.Certificate, serial: int) -> Callable[[], bool]:
    return lambda: ocsp_status(ca, issuer, serial) is ocsp.OCSPCertStatus.REVOKED
