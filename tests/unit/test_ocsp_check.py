"""What our OCSP client believes, and what it does not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from x509_world import CA, NOW, a_name, a_root, a_signer

from spork.errors import Code, SporkError
from spork.keys.software import SoftwareSigner
from spork.x509.der import KeyPurpose
from spork.x509.ocsp import build_request, parse_request
from spork.x509.ocspcheck import check_response
from spork.x509.ocspresponse import (
    CertStatus,
    ResponseStatus,
    SingleStatus,
    build_response_data,
    error_response,
    wrap_response,
)

ISSUER = a_root()
STRANGER = a_root("Stranger")


def a_responder(ca: CA = ISSUER, profile: str = "ocsp-signing", days: int = 7) -> tuple[SoftwareSigner, bytes]:
    signer = a_signer(purpose=KeyPurpose.OCSP)
    names = {"names": ()} if profile == "ocsp-signing" else {}
    certificate = ca.certify(
        profile, subject=a_name("OCSP"), spki=signer.spki, not_after=NOW + timedelta(days=days), **names
    )
    return signer, certificate.public_bytes(Encoding.DER)


def a_response(
    *,
    ca: CA = ISSUER,
    responder: tuple[SoftwareSigner, bytes] | None = None,
    status: SingleStatus | None = None,
    nonce: bytes | None = None,
    at: datetime = NOW,
    named: bytes | None = None,
) -> bytes:
    signer, certificate = responder or a_responder()
    request = build_request(ca.authority.subject_der, ca.authority.spki, [7], "sha256", None)
    cert_id = parse_request(request).certificates[0].der
    tbs = build_response_data(
        named or signer.spki,
        [status or SingleStatus(cert_id, CertStatus.good)],
        produced_at=at,
        this_update=at,
        next_update=at + timedelta(hours=1),
        nonce=nonce,
    )
    return wrap_response(tbs, signer.algorithm, signer.sign(tbs), certificate)


def checked(data: bytes, nonce: bytes | None = None, issuer: x509.Certificate = ISSUER.certificate) -> str:
    return check_response(data, issuer, [7], nonce=nonce, now=NOW)[0].status


def test_an_honest_answer_is_believed() -> None:
    assert checked(a_response(nonce=b"n" * 32), b"n" * 32) == "good"


@pytest.mark.parametrize(
    ("data", "nonce", "code"),
    [
        pytest.param(b"hello", None, Code.MALFORMED, id="no response"),
        pytest.param(error_response(ResponseStatus.tryLater), None, Code.UNAVAILABLE, id="try later"),
        pytest.param(error_response(ResponseStatus.unauthorized), None, Code.FORBIDDEN, id="unauthorized"),
        pytest.param(a_response(), b"n", Code.BAD_NONCE, id="without the nonce"),
        pytest.param(a_response(nonce=b"m"), b"n", Code.BAD_NONCE, id="another nonce"),
        pytest.param(
            a_response(responder=a_responder(STRANGER)), None, Code.BAD_SIGNATURE, id="a stranger's responder"
        ),
        pytest.param(
            a_response(responder=a_responder(profile="tls-server")),
            None,
            Code.BAD_SIGNATURE,
            id="a server's certificate",
        ),
        pytest.param(
            a_response(named=STRANGER.authority.spki), None, Code.BAD_SIGNATURE, id="another responder's name"
        ),
        pytest.param(a_response(at=NOW - timedelta(hours=2)), None, Code.PRECONDITION_FAILED, id="over"),
        pytest.param(a_response(at=NOW + timedelta(hours=2)), None, Code.PRECONDITION_FAILED, id="from the future"),
        pytest.param(a_response(ca=STRANGER), None, Code.PRECONDITION_FAILED, id="about another CA"),
    ],
)
def test_what_a_client_must_not_believe(data: bytes, nonce: bytes | None, code: Code) -> None:
    with pytest.raises(SporkError) as refused:
        checked(data, nonce)

    assert refused.value.code is code


def test_a_changed_answer_is_not_believed() -> None:
    data = a_response()
    changed = data.replace(b"\x80\x00", b"\x82\x00")
    assert changed != data

    with pytest.raises(SporkError) as refused:
        checked(changed)
    assert refused.value.code is Code.BAD_SIGNATURE


def test_an_answer_that_leaves_a_certificate_out_is_not_enough() -> None:
    with pytest.raises(SporkError, match="says nothing"):
        check_response(a_response(), ISSUER.certificate, [7, 8], nonce=None, now=NOW)


def test_a_responder_whose_certificate_is_over_is_not_believed() -> None:
    with pytest.raises(SporkError):
        check_response(
            a_response(at=NOW + timedelta(days=8)), ISSUER.certificate, [7], nonce=None, now=NOW + timedelta(days=8)
        )
