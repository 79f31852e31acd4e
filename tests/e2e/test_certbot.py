"""An unmodified certbot against `spork up`, judged by OpenSSL."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from tests.e2e.clients import certbot
from tests.e2e.running import RunningCA, openssl

pytestmark = pytest.mark.e2e
_PEM = Encoding.PEM


@pytest.fixture(scope="module")
def issued(ca: RunningCA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The live folder of a certificate that certbot obtained for two names."""
    folder = tmp_path_factory.mktemp("certbot")
    certbot(ca, folder, "certonly", "--standalone", "-d", "shop.localhost", "-d", "www.shop.localhost")
    return folder / "config" / "live" / "shop.localhost"


def test_certbot_obtains_a_certificate_that_openssl_validates_up_to_the_root(ca: RunningCA, issued: Path) -> None:
    told = openssl(
        "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.shop.localhost",
        "-CAfile", str(ca.root_pem), "-untrusted", str(issued / "chain.pem"), str(issued / "cert.pem"),
    )  # fmt: skip
    assert told.stdout.strip().endswith("OK")


def test_the_independent_verifier_of_cryptography_accepts_the_chain(ca: RunningCA, issued: Path) -> None:
    leaf = x509.load_pem_x509_certificate((issued / "cert.pem").read_bytes())
    chain = x509.load_pem_x509_certificates((issued / "chain.pem").read_bytes())
    root = x509.load_pem_x509_certificate(ca.root_pem.read_bytes())
    verifier = PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName("shop.localhost"))
    assert [c.subject for c in verifier.verify(leaf, chain)][-1] == root.subject


def test_ocsp_says_good_and_after_revocation_ocsp_and_crl_say_revoked(ca: RunningCA, tmp_path: Path) -> None:
    certbot(ca, tmp_path, "certonly", "--standalone", "-d", "gone.localhost")
    live = tmp_path / "config" / "live" / "gone.localhost"
    assert "good" in _ocsp(ca, live, "-no_nonce").stdout
    certbot(
        ca,
        tmp_path,
        "revoke",
        "--cert-path",
        str(live / "cert.pem"),
        "--reason",
        "keycompromise",
        "--no-delete-after-revoke",
    )
    told = _ocsp(ca, live).stdout
    assert "revoked" in told and "keyCompromise" in told
    bundle = tmp_path / "crls.pem"
    leaf = x509.load_pem_x509_certificate((live / "cert.pem").read_bytes())
    _wait_for_crl(ca, live, leaf.serial_number)
    bundle.write_text(_crls(live))
    refused = openssl(
        "verify", "-crl_check", "-CAfile", str(ca.root_pem), "-untrusted", str(live / "chain.pem"),
        "-CRLfile", str(bundle), str(live / "cert.pem"), check=False,
    )  # fmt: skip
    assert "certificate revoked" in refused.stdout + refused.stderr


def test_openssl_verifies_a_live_certificate_against_the_whole_chain_of_crls(
    ca: RunningCA, issued: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "crls.pem"
    bundle.write_text(_crls(issued))
    openssl(
        "verify", "-crl_check_all", "-CAfile", str(ca.root_pem), "-untrusted", str(issued / "chain.pem"),
        "-CRLfile", str(bundle), str(issued / "cert.pem"),
    )  # fmt: skip


def test_ocsp_answers_carry_the_nonce_back(ca: RunningCA, issued: Path) -> None:
    told = _ocsp(ca, issued)
    assert "good" in told.stdout and "WARNING: no nonce" not in told.stderr + told.stdout


def test_certbot_renews_with_the_same_account(ca: RunningCA, tmp_path: Path) -> None:
    certbot(ca, tmp_path, "certonly", "--standalone", "-d", "again.localhost")
    cert = tmp_path / "config" / "live" / "again.localhost" / "cert.pem"
    first = cert.read_bytes()
    certbot(ca, tmp_path, "renew", "--force-renewal", "--no-random-sleep-on-renew")
    assert cert.read_bytes() != first


def test_certbot_is_told_why_a_name_outside_the_policy_is_refused(ca: RunningCA, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        certbot(ca, tmp_path, "certonly", "--standalone", "-d", "shop.example.com")
    assert "shop.example.com" in refused.value.stdout + refused.value.stderr
    assert not list((tmp_path / "config").glob("live/*"))


def test_certbot_unregisters_its_account(ca: RunningCA, tmp_path: Path) -> None:
    certbot(ca, tmp_path, "register")
    certbot(ca, tmp_path, "unregister")


def _ocsp(ca: RunningCA, live: Path, *options: str) -> subprocess.CompletedProcess[str]:
    leaf = x509.load_pem_x509_certificate((live / "cert.pem").read_bytes())
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    url = next(d.access_location.value for d in access if d.access_method == x509.AuthorityInformationAccessOID.OCSP)
    first = live / "issuer.pem"
    first.write_bytes(x509.load_pem_x509_certificates((live / "chain.pem").read_bytes())[0].public_bytes(_PEM))
    done = openssl(
        "ocsp", "-issuer", str(first), "-cert", str(live / "cert.pem"), "-url", url, *options,
        "-CAfile", str(ca.root_pem), "-verify_other", str(live / "chain.pem"),
    )  # fmt: skip
    assert "Response verify OK" in done.stdout + done.stderr
    return done


def _crl_urls(live: Path) -> list[str]:
    chain = x509.load_pem_x509_certificates((live / "fullchain.pem").read_bytes())
    points = [c.extensions.get_extension_for_class(x509.CRLDistributionPoints).value for c in chain]
    return [name.value for point in points for p in point for name in (p.full_name or ())]


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "application/pkix-crl"
        return bytes(answer.read())


def _crls(live: Path) -> str:
    return "".join(x509.load_der_x509_crl(_fetch(url)).public_bytes(_PEM).decode() for url in _crl_urls(live))


def _wait_for_crl(ca: RunningCA, live: Path, serial: int) -> None:
    url = _crl_urls(live)[0]
    deadline = time.monotonic() + 30
    while x509.load_der_x509_crl(_fetch(url)).get_revoked_certificate_by_serial_number(serial) is None:
        assert time.monotonic() < deadline, "a key compromise did not reach the CRL"
        time.sleep(0.5)
