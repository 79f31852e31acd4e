"""ServiceAccount tokens at the enrolment route, believed because a real API server vouches for them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from admin_world import csr_pem
from cryptography import x509
from enrolment_world import TOKEN_TREE, Enrolment, spiffe
from live_admin import live_admin
from operator_world import Cluster
from postgres import PostgresServer
from proposals import an_issuer

from spork.api.admin.addresses import AddressLimit
from spork.api.admin.tokenreview import TokenReviewer
from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.issuance.ports import AuditEvent
from spork.policy.issuer import NamePolicy
from spork.x509.names import NameKind, SubjectName, dns

pytestmark = [
    pytest.mark.operator,
    pytest.mark.store,
    pytest.mark.expected_skip("a user's machine need not have a Kubernetes control plane"),
]
ACCOUNTS = ("shop:web", "shop:api", "team-a:web", "team-a:api", "stranger:web", "shop:a.b")


def _server_of(kube: Cluster) -> str:
    found = json.loads(kube.kubectl("config", "view", "-o", "json").stdout)
    return str(found["clusters"][0]["cluster"]["server"])


def _token(kube: Cluster, account: str, *words: str, audience: str | None = "spork-ca.org") -> str:
    namespace, name = account.split(":")
    audiences = () if audience is None else ("--audience", audience)
    done = kube.kubectl("create", "token", name, "--namespace", namespace, *audiences, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def accounts(kube: Cluster) -> Iterator[Cluster]:
    namespaces = sorted({account.split(":")[0] for account in ACCOUNTS} | {"spork-tokens"})
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces
    ]
    for account in (*ACCOUNTS, "spork-tokens:api"):
        namespace, name = account.split(":")
        objects.append(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        )
    objects.append(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "spork-tokens"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "api", "namespace": "spork-tokens"}],
        }
    )
    done = kube.apply(*objects)
    assert done.returncode == 0, done.stderr
    yield kube
    kube.kubectl("delete", "clusterrolebinding", "spork-tokens", "--wait=false")
    kube.kubectl("delete", "namespace", *namespaces, "--wait=false")


@pytest.fixture(scope="module")
def own_files(accounts: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the CA itself comes to the API server with: its token, and the CA of the server's certificate."""
    folder = tmp_path_factory.mktemp("own")
    token, ca = folder / "token", folder / "ca.crt"
    token.write_text(_token(accounts, "spork-tokens:api", audience=None))
    ca.write_text((accounts.kubeconfig.parent / "apiserver" / "apiserver.crt").read_text())
    return token, ca


@pytest.fixture(scope="module")
def door(
    accounts: Cluster,
    own_files: tuple[Path, Path],
    postgres_server: PostgresServer,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Enrolment]:
    name = f"spork_test_accounts_{os.getpid()}"
    url = postgres_server.create(name, migrated_template)
    settings = {
        "kubernetes_url": _server_of(accounts),
        "kubernetes_token_file": own_files[0],
        "kubernetes_ca_file": own_files[1],
    }
    with live_admin(url, tmp_path_factory.mktemp("home"), TOKEN_TREE, **settings) as running:
        yield Enrolment(running)
    postgres_server.drop(name)


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AddressLimit, "take", lambda self, address: None)


def _code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def _names(answer: Any) -> list[str]:
    assert answer.status_code == 201, answer.text
    certificate = x509.load_pem_x509_certificate(answer.json()["pem"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def test_an_account_gets_the_names_that_it_stands_for(door: Enrolment, accounts: Cluster) -> None:
    token = _token(accounts, "shop:web")
    uri, host = "spiffe://cluster.local/ns/shop/sa/web", "web.shop.svc"
    assert _names(door.enrol(token, csr_pem())) == [uri, host]
    assert _names(door.enrol(token, csr_pem(spiffe("shop", "web")))) == [uri]
    answer = door.enrol(token, csr_pem(dns(host)), profile="tls-server")
    assert _names(answer) == [host]
    serial = answer.json()["serial"]
    shown = door.administrator("GET", f"/certificates/test-web-issuing-ca/{serial}").json()
    assert (shown["requester"], shown["evidence"]["kind"]) == ("service-account:shop:web", "service-account")
    assert shown["evidence"]["reference"].startswith("shop:web#")
    assert "JTI=" in shown["evidence"]["reference"]


def test_the_same_token_and_request_get_the_same_certificate_and_a_new_token_a_new_one(
    door: Enrolment, accounts: Cluster
) -> None:
    token, csr = _token(accounts, "shop:web"), csr_pem(spiffe("shop", "web"))
    first, again, other = door.enrol(token, csr), door.enrol(token, csr), door.enrol(token, csr_pem())
    renewed = door.enrol(_token(accounts, "shop:web"), csr)
    assert first.json() == again.json()
    assert len({one.json()["serial"] for one in (first, other, renewed)}) == 3


def test_a_namespace_pattern_admits_one_name_only(door: Enrolment, accounts: Cluster) -> None:
    assert door.enrol(_token(accounts, "team-a:web"), csr_pem()).status_code == 201
    for account in ("team-a:api", "stranger:web"):
        answer = door.enrol(_token(accounts, account), csr_pem())
        assert _code(answer) == (403, "forbidden"), account
        assert account in answer.json()["detail"]


@pytest.mark.parametrize(
    "names",
    [
        [spiffe("shop", "api")],
        [spiffe("team-a", "web")],
        [SubjectName(NameKind.URI, "spiffe://cluster.local/ns/shop")],
        [spiffe("shop", "web"), dns("api.shop.svc")],
        [dns("web.shop.svc"), dns("www.test")],
        [dns("*.shop.svc")],
    ],
    ids=["another account", "another namespace", "a shorter path", "one too many", "a permitted host", "a wildcard"],
)
def test_names_of_somebody_else_are_refused_even_where_policy_permits_them(
    door: Enrolment, accounts: Cluster, names: list[SubjectName]
) -> None:
    answer = door.enrol(_token(accounts, "shop:web"), csr_pem(*names))
    assert _code(answer) == (422, "rejectedIdentifier")


def test_a_common_name_is_a_name_too(door: Enrolment, accounts: Cluster) -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api.shop.svc")])
    answer = door.enrol(_token(accounts, "shop:web"), csr_pem(spiffe("shop", "web"), subject=subject))
    assert _code(answer) == (422, "rejectedIdentifier")


def test_a_dotted_account_gets_no_host_name(door: Enrolment, accounts: Cluster) -> None:
    token = _token(accounts, "shop:a.b")
    assert _names(door.enrol(token, csr_pem())) == ["spiffe://cluster.local/ns/shop/sa/a.b"]
    assert _code(door.enrol(token, csr_pem(dns("a.b.shop.svc")))) == (422, "rejectedIdentifier")


@pytest.mark.parametrize("audience", [None, "other-audience", "https://localhost"])
def test_a_token_for_another_audience_is_not_believed(door: Enrolment, accounts: Cluster, audience: str | None) -> None:
    answer = door.enrol(_token(accounts, "shop:web", audience=audience), csr_pem())
    assert _code(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_each_issuer_has_its_own_audience(door: Enrolment, accounts: Cluster) -> None:
    right = _token(accounts, "stranger:web", audience="other-audience")
    assert _names(door.enrol(right, csr_pem(), issuer="other")) == ["web.stranger.test"]
    assert _code(door.enrol(_token(accounts, "stranger:web"), csr_pem(), issuer="other")) == (401, "unauthenticated")


def test_an_issuer_of_a_namespace_serves_the_accounts_of_that_namespace_alone(
    door: Enrolment, accounts: Cluster
) -> None:
    settings = {"subjects": ["*:*"], "names": ["{serviceaccount}.{namespace}.svc"]}
    fields = an_issuer(
        name="own",
        authority_id=AuthorityId("test-web-issuing-ca"),
        profiles=("tls-server",),
        names=NamePolicy(permit={"dns": ("**.{namespace}.svc",)}),
        protocols={"token": settings},
    )
    services = door.live.world.services
    audit = AuditEvent("issuer.configure", "test", "issuer:team-a.own")
    door.live.call(services.issuers.put(fields, namespace="team-a", origin="kubernetes", audit=audit))
    assert _names(door.enrol(_token(accounts, "team-a:api"), csr_pem(), issuer="team-a.own")) == ["api.team-a.svc"]
    answer = door.enrol(_token(accounts, "shop:web"), csr_pem(), issuer="team-a.own")
    assert _code(answer) == (403, "forbidden")
    # Not even the names of that namespace help somebody of another one.
    answer = door.enrol(_token(accounts, "shop:web"), csr_pem(dns("api.team-a.svc")), issuer="team-a.own")
    assert _code(answer) == (403, "forbidden")


@pytest.mark.parametrize("issuer", ["web", "lab", "nothing"])
def test_an_issuer_whose_door_is_shut_looks_like_one_that_is_not_there(
    door: Enrolment, accounts: Cluster, issuer: str
) -> None:
    answer = door.enrol(_token(accounts, "shop:web"), csr_pem(), issuer=issuer)
    assert _code(answer) == (403, "forbidden")
    assert answer.json()["detail"] == f"There is no such issuer, or it takes no tokens: {issuer}."


@pytest.mark.parametrize("profile", ["code-signing", "email"])
def test_no_account_gets_what_an_operator_would_not_or_the_issuer_does_not_offer(
    door: Enrolment, accounts: Cluster, profile: str
) -> None:
    answer = door.enrol(_token(accounts, "shop:web"), csr_pem(), profile=profile)
    assert answer.status_code in (403, 422)
    assert door.enrol(_token(accounts, "shop:web"), csr_pem(), validityS=31 * 86400).status_code == 422


def test_a_deleted_account_is_not_believed_any_more(door: Enrolment, accounts: Cluster) -> None:
    # The API server remembers for ten seconds what it found of a token, so each try takes one that it has not seen yet.
    tokens = [_token(accounts, "shop:api") for _ in range(10)]
    assert door.enrol(tokens.pop(), csr_pem()).status_code == 201
    accounts.kubectl("delete", "serviceaccount", "api", "--namespace", "shop", "--wait")
    assert 401 in (door.enrol(token, csr_pem()).status_code for token in tokens)


def _changed(token: str, **claims: Any) -> str:
    """The token with other claims and the old signature."""
    head, body, signature = token.split(".")
    values = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    payload = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    return f"{head}.{payload}.{signature}"


def test_no_forgery_is_believed(door: Enrolment, accounts: Cluster) -> None:
    good = _token(accounts, "shop:web")
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    forgeries = {
        "another subject": _changed(good, sub="system:serviceaccount:team-a:web"),
        "a later end": _changed(good, exp=4102444800),
        "no signature": f"{head}.{good.split('.')[1]}.AA",
        "nothing of it": "a.b.c",
        "two parts": ".".join(good.split(".")[:2]),
        "text": "letmein",
    }
    for what, token in forgeries.items():
        assert _code(door.enrol(token, csr_pem())) == (401, "unauthenticated"), what
    assert door.enrol(good, csr_pem()).status_code == 201


def test_the_token_stands_neither_in_the_log_nor_in_the_database(
    door: Enrolment,
    accounts: Cluster,
    own_files: tuple[Path, Path],
    postgres_server: PostgresServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    token = _token(accounts, "shop:web")
    door.enrol(token, csr_pem())
    door.enrol(token, csr_pem(dns("www.test")))
    with psycopg.connect(postgres_server.url_of(f"spork_test_accounts_{os.getpid()}", admin=True)) as connection:
        rows = [
            row
            for table in ("audit_event", "certificate", "job", "outbox")
            for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall()
        ]
    out, err = capfd.readouterr()
    for secret in (token, own_files[0].read_text()):
        for part in secret.split(".")[1:]:
            assert part not in out + err + caplog.text + str(rows)


@pytest.mark.parametrize("trouble", ["another CA", "no CA", "no token of our own", "a token that may not ask"])
def test_where_the_api_server_cannot_be_asked_it_is_tried_again_later(
    door: Enrolment, accounts: Cluster, own_files: tuple[Path, Path], trouble: str
) -> None:
    own, ca = own_files
    file, content = {
        "another CA": (ca, door.live.ca_file.read_text()),
        "no CA": (ca, ""),
        "no token of our own": (own, None),
        "a token that may not ask": (own, _token(accounts, "stranger:web", audience=None)),
    }[trouble]
    token, before = _token(accounts, "shop:web"), file.read_text()
    try:
        file.unlink()
        if content is not None:
            file.write_text(content)
        answer = door.enrol(token, csr_pem())
    finally:
        file.write_text(before)
    assert _code(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert token not in answer.text
    # Both files are read each time, because both are replaced while a pod runs.
    assert door.enrol(token, csr_pem()).status_code == 201


async def test_an_api_server_that_is_away_is_no_verdict_about_the_token(own_files: tuple[Path, Path]) -> None:
    reviewer = TokenReviewer("https://127.0.0.1:1", *own_files)
    with pytest.raises(SporkError) as caught:
        await reviewer.review("a.b.c", ["spork-ca.org"])
    assert caught.value.code is Code.UNAVAILABLE
    assert "a.b.c" not in caught.value.detail
