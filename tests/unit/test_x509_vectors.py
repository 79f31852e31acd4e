"""Post-quantum certificates of Bouncy Castle and OpenSSL 3.5, verified by our table (see the vectors' PROVENANCE.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from spork.errors import Code, SporkError
from spork.x509.algorithms import algorithm_of, load_public_key
from spork.x509.bounds import check_der, elements
from spork.x509.chain import verify_chain
from spork.x509.der import unwrap
from spork.x509.signatures import accepted_algorithm, verify_signature
from spork.x509.spki import family_of, key_identifier

FOLDER = Path(__file__).parent.parent / "vectors" / "pqc-certificates"
GOOD = [f"{maker}-ml-dsa-{size}" for maker in ("bc", "openssl35") for size in (44, 65, 87)]


def vector(name: str) -> bytes:
    return (FOLDER / f"{name}.der").read_bytes()


@pytest.mark.parametrize("name", GOOD)
def test_a_foreign_ml_dsa_signature_verifies(name: str) -> None:
    certificate = vector(name)
    check_der(certificate, max_octets=20_000)
    tbs, identifier, signature = unwrap(certificate)
    spki = elements(tbs)[6]
    algorithm = accepted_algorithm(identifier)
    assert algorithm == algorithm_of(load_public_key(spki))
    assert family_of(spki) == "ml-dsa"
    verify_signature(load_public_key(spki), algorithm, tbs, signature)
    with pytest.raises(SporkError) as caught:
        verify_signature(load_public_key(spki), algorithm, tbs + b"\x00", signature)
    assert caught.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("name", GOOD)
def test_a_foreign_ml_dsa_root_is_an_anchor_for_itself(name: str) -> None:
    certificate = x509.load_der_x509_certificate(vector(name))
    assert verify_chain(vector(name), [], [certificate], certificate.not_valid_before_utc) == [certificate]


# The certificates of Bouncy Castle state no key identifier.
@pytest.mark.parametrize("name", [name for name in GOOD if name.startswith("openssl")])
def test_foreign_key_identifiers_are_made_as_ours_are(name: str) -> None:
    certificate = x509.load_der_x509_certificate(vector(name))
    stated = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert stated == key_identifier(elements(certificate.tbs_certificate_bytes)[6])


def test_pre_hashed_ml_dsa_is_refused() -> None:
    _, identifier, _ = unwrap(vector("bc-hash-ml-dsa-44"))
    with pytest.raises(SporkError) as caught:
        accepted_algorithm(identifier)
    assert caught.value.code is Code.BAD_SIGNATURE_ALGORITHM
    assert "2.16.840.1.101.3.4.3.32" in caught.value.detail
