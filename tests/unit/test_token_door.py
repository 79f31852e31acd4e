"""The token door: which ServiceAccounts it admits, which names they get, and how often an address may try."""

from __future__ import annotations

from datetime import timedelta

import pytest
from proposals import an_issuer

from spork.api.admin.addresses import MAX_ADDRESSES, AddressLimit
from spork.errors import Code, SporkError
from spork.hierarchy.load import load_text
from spork.hierarchy.problems import HierarchyError
from spork.issuance.onetime import mint, read
from spork.policy.tokendoor import ServiceAccount, TokenDoor, service_account, subject_fault, template_fault, token_door

WEB = ServiceAccount("shop", "web", "uid-1")


def a_door(
    subjects: tuple[str, ...] = ("*:*",), names: tuple[str, ...] = ("{serviceaccount}.{namespace}.svc",)
) -> TokenDoor:
    return TokenDoor(("spork-ca.org",), subjects, names)


def texts(door: TokenDoor, account: ServiceAccount) -> list[str]:
    return [str(name) for name in door.names_of(account)]


# Settings


def test_a_door_is_shut_unless_it_is_opened_and_admits_nobody_unless_named() -> None:
    assert token_door(an_issuer()) is None
    door = token_door(an_issuer(protocols={"token": {}}))
    assert door is not None
    assert door.audiences == ("spork-ca.org",)
    assert not door.admits(WEB)
    assert door.names_of(WEB) == ()


@pytest.mark.parametrize(
    ("pattern", "admitted"),
    [
        ("shop:web", True),
        ("shop:*", True),
        ("*:web", True),
        ("sh*p:w*", True),
        ("shop:we", False),
        ("sho:web", False),
        ("*shop:web2", False),
        ("shop:", False),
        ("*", False),
        ("shop.web", False),
        ("shop:w.b", False),
    ],
)
def test_a_pattern_covers_whole_names_and_a_star_no_separator(pattern: str, admitted: bool) -> None:
    assert a_door((pattern,)).admits(WEB) is admitted
    assert not a_door(("shop:web",)).admits(ServiceAccount("shop", "web:x", "u"))


@pytest.mark.parametrize(
    ("pattern", "name", "admitted"),
    [
        # A regular expression of the first would not come to its end while this machine stands.
        ("*a" * 60 + "*b", "a" * 253, False),
        ("*a" * 60 + "*", "a" * 253, True),
        ("*a" * 60, "a" * 59, False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*a", "aba", True),
        ("ab*ba", "aba", False),
        ("*ab*ab*", "aab-ab", True),
        ("*ab*ab*", "abb-a", False),
        ("**", "web", True),
        ("w*b**", "web", True),
    ],
)
def test_many_stars_are_judged_at_once_and_rightly(pattern: str, name: str, admitted: bool) -> None:
    door = TokenDoor(("spork-ca.org",), (f"shop:{pattern}",), ("{serviceaccount}.example",))
    assert door.admits(ServiceAccount("shop", name, "uid")) is admitted


@pytest.mark.parametrize(
    "text",
    ["shop", "shop:", ":web", "shop:web:x", "Shop:web", "shop:w b", "shop:[a-z]", "", "shop.x:web", "shop:web\n"],
)
def test_what_is_no_pattern_of_subjects_is_refused(text: str) -> None:
    assert subject_fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "{serviceaccount}-{namespace}.svc",
        "{namespace}{serviceaccount}.svc",
        "x{namespace}.svc",
        "{namespace}x.svc",
        "{pod}.svc",
        "{namespace.svc",
        "*.{namespace}.svc",
        "{serviceaccount}..svc",
        "spiffe://",
        "",
        "{namespace}.svc\n",
        "{0.__class__}",
        "{namespace!r}.svc",
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    assert template_fault(text)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{serviceaccount}.{namespace}.svc", "dns:web.shop.svc"),
        ("{serviceaccount}.{namespace}.svc.cluster.local", "dns:web.shop.svc.cluster.local"),
        ("spiffe://cluster.local/ns/{namespace}/sa/{serviceaccount}", "uri:spiffe://cluster.local/ns/shop/sa/web"),
        ("{serviceaccount}@{namespace}.example.com", "email:web@shop.example.com"),
        ("fixed.example.com", "dns:fixed.example.com"),
    ],
)
def test_a_template_gives_the_name_of_the_account(template: str, name: str) -> None:
    assert template_fault(template) is None
    assert texts(a_door(names=(template,)), WEB) == [name]


def test_a_dot_in_an_accounts_name_never_reaches_a_host_name() -> None:
    dotted = ServiceAccount("c", "a.b", "u")
    assert texts(a_door(names=("{serviceaccount}.svc", "{serviceaccount}.{namespace}.svc")), dotted) == []
    assert texts(a_door(names=("spiffe://{serviceaccount}.x/",)), dotted) == []
    assert texts(a_door(names=("spiffe://x/{namespace}/{serviceaccount}",)), dotted) == ["uri:spiffe://x/c/a.b"]


def test_an_account_whose_name_is_too_long_for_a_label_gets_no_such_name() -> None:
    assert texts(a_door(), ServiceAccount("shop", "a" * 64, "u")) == []


@pytest.mark.parametrize(
    ("username", "uid"),
    [
        ("admin", "u"),
        ("system:serviceaccount:shop", "u"),
        ("system:serviceaccount:shop:web:more", "u"),
        ("system:serviceaccount::web", "u"),
        ("system:serviceaccount:shop:", "u"),
        ("system:serviceaccount:Shop:web", "u"),
        ("system:serviceaccount:shop:we/b", "u"),
        ("system:serviceaccount:shop:../x", "u"),
        ("system:node:shop:web", "u"),
        ("x:serviceaccount:shop:web", "u"),
        ("system:serviceaccount:shop:web", ""),
    ],
)
def test_no_other_user_is_a_service_account(username: str, uid: str) -> None:
    assert service_account(username, uid) is None


def test_a_service_account_is_read_from_its_user_name() -> None:
    assert service_account("system:serviceaccount:shop:web", "uid-1") == WEB


_FILE = """
[root]
common_name = "Root"
algorithm = "ecdsa-p256"
validity_years = 20
[[issuing_cas]]
id = "web"
common_name = "Web"
algorithm = "ecdsa-p256"
validity_years = 5
key_mode = "MODE"
[[issuers]]
name = "mesh"
ca = "web"
profiles = ["tls-client"]
[issuers.protocols.token]
"""


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ('subjects = ["shop"]\nnames = ["a.svc"]', "A subject is namespace:serviceaccount"),
        ('subjects = ["*:*"]\nnames = ["{pod}.svc"]', "A template is a name"),
        ('subjects = ["*:*"]', "one needs the other"),
        ('names = ["a.svc"]', "one needs the other"),
        ("audiences = []", "at least one audience"),
        ('audiences = ["a b"]', "one word without blanks"),
        ("secret = 1", "secret"),
    ],
)
def test_a_file_with_a_fault_in_the_door_is_refused(lines: str, sentence: str) -> None:
    with pytest.raises(HierarchyError) as caught:
        load_text(_FILE.replace("MODE", "online") + lines)
    assert sentence in str(caught.value)


def test_a_door_needs_an_online_key() -> None:
    with pytest.raises(HierarchyError) as caught:
        load_text(_FILE.replace("MODE", "sealed"))
    assert "only with an online one" in str(caught.value)
    assert load_text(_FILE.replace("MODE", "online")).issuers[0].protocols == {
        "token": {"audiences": ["spork-ca.org"], "subjects": [], "names": []}
    }


# One-time tokens


def test_tokens_are_long_random_and_readable() -> None:
    made = [mint() for _ in range(100)]
    assert len({text for text, _ in made}) == 100
    for text, presented in made:
        assert read(text) == presented
        assert presented.is_that_of(presented.digest)
        assert not presented.is_that_of(bytes(32))
        assert not presented.is_that_of(None)
        assert text.split("_", 2)[2] not in repr(presented)


@pytest.mark.parametrize("form", ["{0}A", " {0}", "{0}\n", "spork1_{1}", "{2}", "SPORK1{3}", "Bearer {0}", ""])
def test_what_has_not_the_form_is_no_token(form: str) -> None:
    text, presented = mint()
    assert read(form.format(text, presented.id, text.split("_", 2)[2], text.removeprefix("spork1"))) is None


# Addresses


def test_an_address_may_try_so_often_and_again_after_a_while() -> None:
    now = [0.0]
    limit = AddressLimit(3, 0.5, lambda: now[0])
    for _ in "123":
        limit.take("192.0.2.1")
    with pytest.raises(SporkError) as caught:
        limit.take("192.0.2.1")
    assert (caught.value.code, caught.value.retry_after_s) == (Code.RATE_LIMITED, 2)
    limit.take("192.0.2.2")
    now[0] = 2
    limit.take("192.0.2.1")
    limit.give_back("192.0.2.1")
    limit.take("192.0.2.1")
    with pytest.raises(SporkError):
        limit.take("192.0.2.1")


def test_time_alone_never_gives_more_than_the_burst() -> None:
    now = [0.0]
    limit = AddressLimit(2, 1, lambda: now[0])
    limit.give_back("a")
    now[0] = timedelta(days=1).total_seconds()
    limit.take("a")
    limit.take("a")
    with pytest.raises(SporkError):
        limit.take("a")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:db8::1", "2001:db8::ffff"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("fe80::1%eth0", "fe80::2"),
        (None, ""),
    ],
)
def test_addresses_of_one_place_share_a_bucket(first: str | None, second: str | None) -> None:
    limit = AddressLimit(1, 0.001, lambda: 0)
    limit.take(first)
    with pytest.raises(SporkError):
        limit.take(second)


def test_many_addresses_do_not_fill_the_memory() -> None:
    limit = AddressLimit(1, 1, lambda: 0)
    for number in range(MAX_ADDRESSES + 100):
        limit.take(f"10.0.{number >> 8}.{number & 255}")
    assert len(limit._left) == MAX_ADDRESSES
