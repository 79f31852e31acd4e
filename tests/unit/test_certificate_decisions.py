"""What follows from what is found: pure decisions about one Certificate, in tables of sentences."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from operator_world import a_resource
from x509_world import CA, NOW, a_root

from spork.controller.certificate import marks
from spork.controller.certificate.checks import CHECKS
from spork.controller.certificate.contents import Contents, secret_of
from spork.controller.certificate.decide import Action, decide, request_digest
from spork.controller.certificate.snapshot import Finding, Past, Snapshot, owner_of, past_of
from spork.controller.certificate.statement import Failure, statement_of
from spork.controller.certificate.stored import stored_of
from spork.controller.certificate.wanted import Wanted, wanted_of
from spork.controller.models.certificate import CertificateSpec
from spork.controller.reasons import CERTIFICATE_REVOKED, ISSUANCE_FAILED, ISSUER_MISSING, POLICY_REFUSED, UNAVAILABLE
from spork.ids import IssuerId
from spork.keys.ephemeral import EphemeralKey
from spork.policy.issuer import Issuer, KeyPolicy, NamePolicy
from spork.policy.proposal import Verdict
from spork.x509.authority import Authority
from spork.x509.der import KeyPurpose

Change = Callable[[Snapshot], Snapshot]
UID = "5f0c1b3e-7f7e-4f0e-9a58-1f0b53a3f001"


@cache
def a_ca() -> CA:
    return a_root().subordinate("Web")


def an_issuer(authority: Authority, name: str = "web", **changes: Any) -> Issuer:
    fields: dict[str, Any] = {"profiles": ("tls-server", "tls-client"), **changes}
    return Issuer(
        id=IssuerId(1), namespace="", name=name, authority_id=authority.id, names=NamePolicy(), keys=KeyPolicy(),
        max_validity=None, protocols={}, origin="kubernetes", **fields,
    )  # fmt: skip


def an_item(**spec: Any) -> dict[str, Any]:
    changes = {f"spec/{key}": value for key, value in spec.items()}
    item = a_resource("Certificate", {"spec/dnsNames": ["www.example"], "spec/duration": "240h", **changes})
    if "renewBefore" not in spec:
        del item["spec"]["renewBefore"]
    item["metadata"] |= {"uid": UID, "generation": 1, "resourceVersion": "1"}
    return item


def bare(item: dict[str, Any] | None = None, wanted: Wanted | None = None) -> Snapshot:
    """A Certificate without a Secret."""
    item = item or an_item()
    spec = CertificateSpec.model_validate(item["spec"])
    authority = a_ca().authority
    wanted = wanted or wanted_of(spec, an_issuer(authority), authority)
    return Snapshot(item=item, spec=spec, owner=owner_of(item), past=past_of(item), wanted=wanted)


@cache
def _secret(at: datetime = NOW) -> dict[str, Any]:
    """The Secret as it is written for the first revision."""
    snapshot, ca = bare(), a_ca()
    assert snapshot.wanted is not None
    key = EphemeralKey.generate("ecdsa-p256", KeyPurpose.LEAF)
    leaf = ca.certify(
        spki=key.spki,
        names=snapshot.wanted.names,
        subject=snapshot.wanted.subject(snapshot.owner),
        not_before=at - timedelta(seconds=60),
        not_after=at + timedelta(days=10) - timedelta(seconds=61),
    )
    contents = Contents(key, leaf.public_bytes(Encoding.DER), ca.authority, 1, None, "")
    return secret_of(snapshot, snapshot.wanted, contents)


def good(**spec: Any) -> Snapshot:
    """One that is as it should be."""
    return replace(bare(an_item(**spec)), target=stored_of(copy.deepcopy(_secret())), past=Past(revision=1))


def data(**changes: bytes | None) -> Change:
    """With other values in the Secret; double underscores stand for dots."""

    def change(snapshot: Snapshot) -> Snapshot:
        item = copy.deepcopy(dict(snapshot.target.item)) if snapshot.target else {}
        for name, value in changes.items():
            key = name.replace("__", ".")
            if value is None:
                del item["data"][key]
            else:
                item["data"][key] = base64.b64encode(value).decode()
        return replace(snapshot, target=stored_of(item))

    return change


def said(**changes: str) -> Change:
    """With other annotations on the Secret, by the names of `marks`."""

    def change(snapshot: Snapshot) -> Snapshot:
        item = copy.deepcopy(dict(snapshot.target.item)) if snapshot.target else {}
        item["metadata"]["annotations"] |= {getattr(marks, name): value for name, value in changes.items()}
        return replace(snapshot, target=stored_of(item))

    return change


def issuer(**changes: Any) -> Change:
    def change(snapshot: Snapshot) -> Snapshot:
        assert snapshot.wanted is not None
        return replace(snapshot, wanted=replace(snapshot.wanted, **changes))

    return change


def having(**changes: Any) -> Change:
    return lambda snapshot: replace(snapshot, **changes)


def annotated(value: str) -> Change:
    def change(snapshot: Snapshot) -> Snapshot:
        item = copy.deepcopy(dict(snapshot.item))
        item["metadata"]["annotations"] = {"spork-ca.org/renew": value}
        return replace(snapshot, item=item)

    return change


def nothing(snapshot: Snapshot) -> Snapshot:
    return snapshot


def failed(snapshot: Snapshot) -> Snapshot:
    past = Past(1, "", 2, NOW, NOW + timedelta(minutes=2), request_digest(snapshot))
    return replace(snapshot, past=past)


def without_issuer(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, wanted=None, obstacle=Finding(ISSUER_MISSING))


def foreign_key() -> bytes:
    return EphemeralKey.generate("ecdsa-p256", KeyPurpose.LEAF).pkcs8_pem()


def both(*changes: Change) -> Change:
    def change(snapshot: Snapshot) -> Snapshot:
        for one in changes:
            snapshot = one(snapshot)
        return snapshot

    return change


LATER = NOW + timedelta(days=20)
TABLE: dict[str, tuple[dict[str, Any], Change, datetime, Action, str, bool]] = {
    # sentence: spec, change, instant, action, reason of what is to be mended, is it ready
    "one that is as it should be needs nothing": ({}, nothing, NOW, Action.NOTHING, "", True),
    "without a Secret it is issued": ({}, having(target=None), NOW, Action.ISSUE, "SecretMissing", False),
    "without a readable key it is issued": ({}, data(tls__key=b"x"), NOW, Action.ISSUE, "SecretDamaged", False),
    "without a key it is issued": ({}, data(tls__key=None), NOW, Action.ISSUE, "SecretDamaged", False),
    "without a certificate it is restored": ({}, data(tls__crt=None), NOW, Action.RESTORE, "SecretDamaged", False),
    "with rubbish for a certificate it is restored": (
        {}, data(tls__crt=b"\xff"), NOW, Action.RESTORE, "SecretDamaged", False),
    "with the key of somebody else it is restored if that can be": (
        {}, data(tls__key=foreign_key()), NOW, Action.RESTORE, "KeyMismatch", False),
    "with another serial than the recorded one it is restored": (
        {}, said(SERIAL="AB"), NOW, Action.RESTORE, "CertificateReplaced", False),
    "through another issuer it is looked for and issued": (
        {"issuerRef": {"name": "other"}}, nothing, NOW, Action.RESTORE, "IssuerChanged", False),
    "an Issuer and a ClusterIssuer of one name are two": (
        {"issuerRef": {"name": "web", "kind": "ClusterIssuer"}}, nothing, NOW, Action.RESTORE, "IssuerChanged", False),
    "with a new key of the CA it is issued": (
        {}, issuer(authority=a_root().subordinate("Web").authority), NOW, Action.ISSUE, "CAChanged", False),
    "with one name more it is issued": (
        {"dnsNames": ["www.example", "b.example"]}, nothing, NOW, Action.ISSUE, "NamesChanged", False),
    "with one name less it is issued": (
        {"dnsNames": ["b.example"], "ipAddresses": ["192.0.2.1"]}, nothing, NOW, Action.ISSUE, "NamesChanged", False),
    "with its names in capitals it needs nothing": (
        {"dnsNames": ["WWW.Example"]}, nothing, NOW, Action.NOTHING, "", True),
    "with another subject it is issued": (
        {"profile": "tls-server", "subject": {"organizations": ["X"]}}, nothing, NOW, Action.ISSUE, "SubjectChanged", False),
    "with another profile it is looked for and issued": (
        {"profile": "tls-client"}, nothing, NOW, Action.RESTORE, "ProfileChanged", False),
    "with another default profile of the issuer too": (
        {}, lambda s: bare_with(s, profiles=("tls-client",)), NOW, Action.RESTORE, "ProfileChanged", False),
    "with another key algorithm it is issued": (
        {"privateKey": {"algorithm": "ed25519"}}, nothing, NOW, Action.ISSUE, "KeyAlgorithmChanged", False),
    "with another duration it is looked for and issued": (
        {"duration": "480h"}, nothing, NOW, Action.RESTORE, "DurationChanged", False),
    "a duration in other words is the same": ({"duration": "239h60m"}, nothing, NOW, Action.NOTHING, "", True),
    "a revoked one is issued anew": ({}, having(revoked=1), NOW, Action.ISSUE, "Revoked", False),
    "one on hold waits": ({}, having(revoked=6), NOW, Action.NOTHING, "", False),
    "one on hold is not renewed either": (
        {}, both(having(revoked=6), annotated("x")), NOW, Action.WAIT, "OnHold", False),
    "an expired one is issued anew": ({}, nothing, LATER, Action.ISSUE, "Expired", False),
    "one that is due is renewed and stays ready": (
        {}, nothing, NOW + timedelta(days=9), Action.ISSUE, "RenewalDue", True),
    "one second before it is due it needs nothing": (
        {"renewBefore": "1h"}, nothing, NOW + timedelta(days=9), Action.NOTHING, "", True),
    "a clock that went back renews nothing": ({}, nothing, NOW - timedelta(days=900), Action.NOTHING, "", False),
    "a clock a minute behind is no reason to say anything": (
        {}, nothing, NOW - timedelta(seconds=100), Action.NOTHING, "", True),
    "a renewal that is asked for is done": ({}, annotated("1"), NOW, Action.ISSUE, "RenewalRequested", True),
    "a renewal that was done is not done again": (
        {}, both(said(HANDLED_RENEWAL="1"), annotated("1")), NOW, Action.NOTHING, "", True),
    "a renewal that is no longer asked for is nothing": (
        {}, both(said(HANDLED_RENEWAL="1"), annotated("")), NOW, Action.NOTHING, "", True),
    "an edited ca.crt is written again": ({}, data(ca__crt=b"x"), NOW, Action.REWRITE, "SecretEdited", True),
    "an edited annotation is written again": ({}, said(AUTHORITY="x/1"), NOW, Action.REWRITE, "SecretEdited", True),
    "a store that nobody asked for is taken away": (
        {}, data(keystore__p12=b"x"), NOW, Action.REWRITE, "SecretEdited", True),
    "a new template is written": (
        {"secretTemplate": {"labels": {"a": "b"}}}, nothing, NOW, Action.REWRITE, "SecretEdited", True),
    "a Secret of another Certificate is left alone": (
        {}, said(CERTIFICATE_NAME="two"), NOW, Action.WAIT, "SecretNotOurs", False),
    "a Secret of nobody is left alone even if it expires": (
        {}, said(CERTIFICATE_NAME=""), LATER, Action.WAIT, "SecretNotOurs", False),
    "a rival that came first has the Secret": (
        {}, having(target=None, rival="two"), NOW, Action.WAIT, "SecretNameTaken", False),
    "a failure a moment ago makes it wait": (
        {}, both(having(target=None), failed), NOW, Action.BACK_OFF, "SecretMissing", False),
    "a failure a while ago does not": (
        {}, both(having(target=None), failed), NOW + timedelta(minutes=3), Action.ISSUE, "SecretMissing", False),
    "a failure with another issuer does not": (
        {}, both(having(target=None), failed, issuer(issuer=an_issuer(a_ca().authority, "other"))), NOW,
        Action.ISSUE, "SecretMissing", False),
    "a failure is forgotten when a renewal is asked for": (
        {}, both(having(target=None), failed, annotated("now")), NOW, Action.ISSUE, "SecretMissing", False),
    "without an issuer it waits": (
        {}, both(having(target=None), without_issuer), NOW, Action.WAIT, "IssuerMissing", False),
    "without an issuer a valid one needs nothing": ({}, without_issuer, NOW, Action.NOTHING, "", True),
    "without an issuer a due one stays ready": (
        {}, without_issuer, NOW + timedelta(days=9), Action.WAIT, "IssuerMissing", True),
    "without an issuer an expired one is not ready": ({}, without_issuer, LATER, Action.WAIT, "IssuerMissing", False),
}  # fmt: skip


def bare_with(snapshot: Snapshot, **changes: Any) -> Snapshot:
    """The same with another issuer."""
    authority = a_ca().authority
    return replace(snapshot, wanted=wanted_of(snapshot.spec, an_issuer(authority, **changes), authority))


@pytest.mark.parametrize("sentence", TABLE)
def test_decision(sentence: str) -> None:
    spec, change, now, action, reason, ready = TABLE[sentence]
    base = good(**{"issuerRef": {"name": "web"}, **spec})
    decision = decide(change(base), now)
    assert decision.action is action, decision
    assert (decision.why.reason.name if decision.why else "") == reason
    assert (decision.unready is None) is ready, decision.unready


@pytest.mark.parametrize("sentence", TABLE)
def test_the_statement_agrees_with_the_decision_and_says_it_twice_alike(sentence: str) -> None:
    spec, change, now, _, _, ready = TABLE[sentence]
    snapshot = change(good(**{"issuerRef": {"name": "web"}, **spec}))
    decision = decide(snapshot, now, restorable=False)
    said = statement_of(snapshot, decision, now)
    assert [one.type for one in said.conditions] == ["Ready", "Issuing"]
    assert said.conditions[0].status is ready
    assert said == statement_of(snapshot, decision, now + timedelta(seconds=5))
    assert all(len(one.message) < 1000 for one in said.conditions)


def test_every_check_passes_over_what_an_earlier_one_found_missing() -> None:
    for snapshot in (
        replace(good(), target=None, wanted=None),
        replace(good(), wanted=None),
        data(tls__key=None, tls__crt=None)(good()),
        replace(good(), target=None),
    ):
        found = [check.find(snapshot, NOW) for check in CHECKS]
        assert all(one is None or one.sentence for one in found)


@pytest.mark.parametrize(
    "junk",
    [b"", b"\x00" * 10, b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", b"x" * 300_000],
    ids=["empty", "zeros", "hollow PEM", "huge"],
)
@pytest.mark.parametrize("name", ["tls__key", "tls__crt", "ca__crt", "keystore__p12"])
def test_rubbish_in_a_secret_is_a_finding_and_no_error(name: str, junk: bytes) -> None:
    snapshot = data(**{name: junk})(good())
    assert decide(snapshot, NOW).action in (Action.ISSUE, Action.RESTORE, Action.REWRITE)


@pytest.mark.parametrize("value", [None, 5, {"tls.crt": 5}, {"tls.crt": "%%%", "tls.key": "é"}])
def test_data_of_other_forms_is_a_finding_and_no_error(value: Any) -> None:
    item = {**copy.deepcopy(_secret()), "data": value} if not isinstance(value, int) else copy.deepcopy(_secret())
    snapshot = replace(good(), target=stored_of(item))
    assert decide(snapshot, NOW).action in (Action.ISSUE, Action.RESTORE, Action.NOTHING)


@pytest.mark.parametrize("text", ["", "x", "-1", "1" * 40, "１"])
def test_a_revision_that_is_none_counts_as_none(text: str) -> None:
    snapshot = said(REVISION=text)(good())
    assert snapshot.target is not None
    assert snapshot.target.revision == 0
    assert snapshot.revision == 1


@pytest.mark.parametrize(
    "status", [{"revision": "x"}, {"lastFailureTime": "yesterday"}, {"failedAttempts": []}, {"revision": None}]
)
def test_a_spoilt_status_counts_as_none(status: dict[str, Any]) -> None:
    assert past_of({**an_item(), "status": status}) == Past()


class TestStatement:
    def test_a_failure_is_counted_and_dated_and_its_rules_are_listed(self) -> None:
        snapshot = replace(good(), target=None)
        trace = (Verdict("names_permitted", False, "No.", "dns:x"), Verdict("key_is_strong", True))
        failure = Failure(Finding(POLICY_REFUSED, "No."), trace)
        said = statement_of(snapshot, decide(snapshot, NOW), NOW, failure=failure)
        assert said.fields["failedAttempts"] == 1
        assert said.fields["nextAttemptTime"] == "2026-11-24T12:01:00Z"
        assert said.fields["policyTrace"] == [
            {"rule": "names_permitted", "verdict": "refuse", "message": "No."},
            {"rule": "key_is_strong", "verdict": "pass"},
        ]

    def test_what_cannot_be_reached_is_said_and_not_counted(self) -> None:
        snapshot = replace(good(), target=None)
        failure = Failure(Finding(UNAVAILABLE, "The database is away."), counts=False)
        said = statement_of(snapshot, decide(snapshot, NOW), NOW, failure=failure)
        assert said.fields["failedAttempts"] is None
        assert [one.reason for one in said.conditions] == [UNAVAILABLE, UNAVAILABLE]

    def test_failures_about_another_spec_begin_anew(self) -> None:
        snapshot = replace(good(), target=None, past=Past(failed_attempts=7, last_failure=NOW, failed_request="other"))
        failure = Failure(Finding(ISSUANCE_FAILED, "No."))
        assert statement_of(snapshot, decide(snapshot, NOW), NOW, failure=failure).fields["failedAttempts"] == 1

    def test_ready_stays_true_while_a_renewal_fails(self) -> None:
        snapshot, now = good(issuerRef={"name": "web"}), NOW + timedelta(days=9)
        failure = Failure(Finding(ISSUANCE_FAILED, "The CA is sealed."))
        said = statement_of(snapshot, decide(snapshot, now), now, failure=failure)
        ready, issuing = said.conditions
        assert ready.status is True
        assert (issuing.status, issuing.reason) == (False, ISSUANCE_FAILED)
        assert "The CA is sealed." in issuing.message

    def test_a_revoked_one_says_why(self) -> None:
        snapshot = replace(good(issuerRef={"name": "web"}), revoked=1)
        ready = statement_of(snapshot, decide(snapshot, NOW), NOW).conditions[0]
        assert (ready.status, ready.reason) == (False, CERTIFICATE_REVOKED)
        assert "keyCompromise" in ready.message

    def test_of_a_secret_that_is_not_ours_nothing_is_told(self) -> None:
        snapshot = said(CERTIFICATE_NAME="two")(replace(good(), past=Past()))
        fields = statement_of(snapshot, decide(snapshot, NOW), NOW).fields
        assert "serial" not in fields
        assert fields["revision"] is None
