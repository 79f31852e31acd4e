"""The one pipeline, with a real signer and real rules, over a ledger that remembers in which order it was called."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from spork.clock import FixedClock
from spork.errors import Code, SporkError
from spork.ids import CertificateId, IssuerId, KeyId, Serial
from spork.issuance.pipeline import Pipeline
from spork.issuance.ports import AuditEvent, IdempotencyKey, OutboxMessage, Recorded, Reservation, Reserved
from spork.issuance.request import IssuanceRequest
from spork.policy.engine import decide
from spork.policy.issuer import Issuer, KeyPolicy, NamePolicy
from spork.policy.proposal import Door, Evidence, Grant, Requester
from spork.x509.der import KeyPurpose, ToBeSigned
from spork.x509.names import dns
from spork.x509.profiles import profile_named
from tests.x509_world import CA, NOW, a_root, a_signer


class Ledger:
    """Keeps what it is told in a list, in order."""

    def __init__(self, answer: Recorded | SporkError | None = None, earlier: Recorded | None = None) -> None:
        self.calls: list[Any] = []
        self._answer = answer
        self._earlier = earlier

    async def find(self, idempotency: IdempotencyKey) -> Recorded | None:
        self.calls.append("find")
        return self._earlier

    async def reserve(self, reservation: Reservation) -> Reserved | Recorded:
        self.calls.append(reservation)
        if isinstance(self._answer, SporkError):
            raise self._answer
        return self._answer or Reserved(CertificateId(1), "lease")

    async def record(
        self, reserved: Reserved, der: bytes, audit: AuditEvent, outbox: Sequence[OutboxMessage] = ()
    ) -> Recorded:
        self.calls.append((der, audit))
        return a_recorded(der)

    async def abandon_expired(self) -> int:
        return 0


class Signers:
    """One signer, which tells the ledger's list when it signs."""

    def __init__(self, ca: CA, calls: list[Any], *, forge: bool = False) -> None:
        self._ca, self._calls, self._forge = ca, calls, forge

    async def signer(self, key_id: KeyId) -> Any:
        outer = self

        class Watched:
            algorithm, purpose, spki = outer._ca.signer.algorithm, KeyPurpose.CA, outer._ca.signer.spki

            def sign(self, tbs: ToBeSigned) -> bytes:
                outer._calls.append("sign")
                signature = outer._ca.signer.sign(tbs)
                return signature[:-1] + bytes([signature[-1] ^ 1]) if outer._forge else signature

        return Watched()


class NoAuthorities:
    async def authority(self, authority_id: object, generation: int | None = None) -> Any:
        raise NotImplementedError

    async def ca_spkis(self) -> frozenset[bytes]:
        return frozenset()


def a_recorded(der: bytes) -> Recorded:
    certificate = x509.load_der_x509_certificate(der)
    dates = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    return Recorded(CertificateId(1), "ca", 1, Serial(certificate.serial_number), der, *dates)  # type: ignore[arg-type]


def a_ca() -> CA:
    ca = a_root().subordinate()
    return dataclasses.replace(ca, authority=dataclasses.replace(ca.authority, key_id=KeyId("key")))


def a_request(ca: CA, *names: str, **changes: Any) -> IssuanceRequest:
    issuer = Issuer(
        IssuerId(1), "", "tls", ca.authority.id, ("tls-server",), NamePolicy(permit={"dns": ("**.example",)}), KeyPolicy(),
        None, {}, "file",
    )  # fmt: skip
    digest = hashlib.sha256(b"request").digest()
    request = IssuanceRequest(
        requester=Requester(Door.REST, "admin:alice"),
        grant=Grant(),
        evidence=Evidence("client-certificate", "01"),
        idempotency=IdempotencyKey("issuer:1", Door.REST, "key", digest),
        authority=ca.authority,
        issuer=issuer,
        profile=profile_named("tls-server"),
        spki=a_signer(purpose=KeyPurpose.LEAF).spki,
        names=tuple(dns(name) for name in names or ("www.example",)),
    )
    return dataclasses.replace(request, **changes)


def a_pipeline(ca: CA, ledger: Ledger, **options: Any) -> Pipeline:
    return Pipeline(ledger, Signers(ca, ledger.calls, **options), NoAuthorities(), FixedClock(NOW), decide)


async def test_the_reservation_is_durable_before_the_signature_and_the_record_follows() -> None:
    ca, ledger = a_ca(), Ledger()
    recorded = await a_pipeline(ca, ledger).issue(a_request(ca))
    reservation, signing, (der, audit) = ledger.calls
    assert isinstance(reservation, Reservation)
    assert signing == "sign"
    certificate = x509.load_der_x509_certificate(der)
    assert recorded.der == der
    assert reservation.tbs == certificate.tbs_certificate_bytes
    assert reservation.serial == certificate.serial_number
    assert audit.action == "certificate.issue"
    certificate.verify_directly_issued_by(ca.certificate)


async def test_the_trace_of_every_rule_is_kept_with_the_reservation() -> None:
    ca, ledger = a_ca(), Ledger()
    await a_pipeline(ca, ledger).issue(a_request(ca))
    assert {"names_permitted", "key_is_strong"} <= {verdict["rule"] for verdict in ledger.calls[0].trace}


async def test_a_retry_of_an_answered_request_signs_nothing() -> None:
    ca = a_ca()
    first = Ledger()
    recorded = await a_pipeline(ca, first).issue(a_request(ca))
    ledger = Ledger(answer=recorded)
    assert await a_pipeline(ca, ledger).issue(a_request(ca)) == recorded
    assert "sign" not in ledger.calls


async def test_a_retry_gets_its_certificate_even_if_the_rules_have_changed_since() -> None:
    ca = a_ca()
    recorded = await a_pipeline(ca, Ledger()).issue(a_request(ca))
    ledger = Ledger(earlier=recorded)
    assert await a_pipeline(ca, ledger).issue(a_request(ca, "www.forbidden.test")) == recorded
    assert ledger.calls == ["find"]


async def test_what_policy_refuses_leaves_no_trace_in_the_ledger() -> None:
    ca, ledger = a_ca(), Ledger()
    with pytest.raises(SporkError) as refused:
        await a_pipeline(ca, ledger).issue(a_request(ca, "www.example", "www.forbidden.test"))
    assert refused.value.code is Code.REJECTED_IDENTIFIER
    assert [s.identifier_value for s in refused.value.subproblems] == ["www.forbidden.test"]
    assert ledger.calls == ["find"]


async def test_a_signature_that_does_not_verify_is_never_recorded() -> None:
    ca, ledger = a_ca(), Ledger()
    with pytest.raises(SporkError) as refused:
        await a_pipeline(ca, ledger, forge=True).issue(a_request(ca))
    assert refused.value.code is Code.BAD_SIGNATURE
    assert ledger.calls[-1] == "sign"


async def test_a_conflict_in_the_ledger_signs_nothing() -> None:
    ca, ledger = a_ca(), Ledger(answer=SporkError(Code.CONFLICT, "another request used this key"))
    with pytest.raises(SporkError, match="another request"):
        await a_pipeline(ca, ledger).issue(a_request(ca))
    assert "sign" not in ledger.calls


async def test_an_authority_without_a_key_here_reserves_nothing() -> None:
    ca, ledger = a_root().subordinate(), Ledger()
    with pytest.raises(SporkError) as refused:
        await a_pipeline(ca, ledger).issue(a_request(ca))
    assert refused.value.code is Code.KEY_UNAVAILABLE
    assert ledger.calls == []


async def test_an_open_end_is_cut_to_the_life_of_the_ca_and_a_stated_one_is_refused() -> None:
    ca = a_ca()
    end = NOW + timedelta(days=10)
    short = dataclasses.replace(ca, authority=dataclasses.replace(ca.authority, not_after=end))
    recorded = await a_pipeline(short, Ledger()).issue(a_request(short))
    assert recorded.not_after == end
    with pytest.raises(SporkError) as refused:
        await a_pipeline(short, Ledger()).issue(a_request(short, validity=timedelta(days=30)))
    assert refused.value.code is Code.POLICY_REFUSED


async def test_validity_counts_its_last_second() -> None:
    ca = a_ca()
    recorded = await a_pipeline(ca, Ledger()).issue(a_request(ca, validity=timedelta(days=7)))
    assert recorded.not_after - recorded.not_before + timedelta(seconds=1) == timedelta(days=7)


@pytest.mark.parametrize("away", [timedelta(hours=-2), timedelta(days=31)], ids=["two hours ago", "in a month"])
async def test_a_beginning_far_from_now_is_refused(away: timedelta) -> None:
    ca, ledger = a_ca(), Ledger()
    with pytest.raises(SporkError) as refused:
        await a_pipeline(ca, ledger).issue(a_request(ca, not_before=NOW + away))
    assert (refused.value.code, ledger.calls) == (Code.POLICY_REFUSED, [])


@pytest.mark.parametrize("algorithm", ["rsa-3072", "ml-dsa-65"])
async def test_a_slow_signature_does_not_hold_up_the_event_loop(algorithm: str) -> None:
    root = a_root()
    ca = root.subordinate(algorithm=algorithm)
    ca = dataclasses.replace(ca, authority=dataclasses.replace(ca.authority, key_id=KeyId("key")))
    ledger = Ledger()
    loop_thread = asyncio.get_running_loop()
    threads: list[bool] = []
    original = ca.signer.sign

    def watched(tbs: ToBeSigned) -> bytes:
        try:
            threads.append(asyncio.get_running_loop() is loop_thread)
        except RuntimeError:
            threads.append(False)
        return original(tbs)

    watcher = dataclasses.replace(ca, signer=_Replaced(ca.signer, watched))  # type: ignore[arg-type]
    await a_pipeline(watcher, ledger).issue(a_request(ca))
    assert threads == [False]


class _Replaced:
    def __init__(self, signer: Any, sign: Any) -> None:
        self.algorithm, self.spki, self.purpose, self.sign = signer.algorithm, signer.spki, signer.purpose, sign
