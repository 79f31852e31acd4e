"""The token between linting and signing."""

from __future__ import annotations

import pytest

from spork.errors import Code, SporkError
from spork.ids import Serial
from spork.issuance.prepared import Prepared
from spork.x509.der import CertificateTBS


def test_what_is_not_on_record_cannot_be_redeemed() -> None:
    with pytest.raises(SporkError) as refused:
        Prepared(CertificateTBS(b"\x30\x00"), Serial(1)).redeem()
    assert refused.value.code is Code.INTERNAL


def test_a_prepared_certificate_is_redeemed_once() -> None:
    prepared = Prepared(CertificateTBS(b"\x30\x00"), Serial(1))
    prepared.mark_reserved()
    assert prepared.redeem().der == b"\x30\x00"
    with pytest.raises(SporkError):
        prepared.redeem()
