"""Where validators may connect to, and the total table of problems."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spork.api.acme.networks import refusal
from spork.api.acme.problems import PROBLEMS, problem_document
from spork.errors import Code, SporkError, Subproblem


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0",
                                  "192.167.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860::8888",
                                  "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"])  # fmt: skip
def test_public_addresses_may_be_reached(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), ()) is None


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
        "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1",
        "ff02::1", "2001:db8::1", "2001::1", "3fff::1", "fec0::1", "4000::1", "100::1", "::7f00:1", "5f00::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
        "2002:7f00:1::1", "2002:a00:1::1", "2002:a9fe:a9fe::1",
    ],
)  # fmt: skip
def test_all_other_addresses_are_refused_unless_listed(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert refusal(address, ()) is not None
    assert refusal(address, [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]) is None


def test_a_listed_network_opens_itself_alone() -> None:
    listed = [ipaddress.ip_network("10.1.0.0/16")]
    assert refusal(ipaddress.ip_address("10.1.2.3"), listed) is None
    assert refusal(ipaddress.ip_address("::ffff:10.1.2.3"), listed) is None
    assert refusal(ipaddress.ip_address("64:ff9b::10.1.2.3"), listed) is None
    assert refusal(ipaddress.ip_address("10.2.0.1"), listed) == "a private address"
    assert refusal(ipaddress.ip_address("127.0.0.1"), listed) == "a loopback address"


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_the_address_it_maps(address: ipaddress.IPv4Address) -> None:
    assert refusal(ipaddress.IPv6Address(f"::ffff:{address}"), ()) == refusal(address, ())


@given(st.ip_addresses())
def test_what_python_calls_private_or_local_is_never_reached(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.version == 6 and any(address in ipaddress.ip_network(one) for one in ("::ffff:0:0/96", "64:ff9b::/96")):
        # Those are judged by the IPv4 address inside.
        return
    if (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    ):
        assert refusal(address, ()) is not None


def test_every_code_has_its_problem() -> None:
    assert set(PROBLEMS) == set(Code)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_makes_a_document_that_clients_can_read(code: Code) -> None:
    document = problem_document(SporkError(code, "One sentence."))
    assert document["type"].startswith("urn:ietf:params:acme:error:")
    assert 400 <= document["status"] < 600
    assert PROBLEMS[code].withheld == ("One sentence." not in document["detail"])


def test_what_is_about_the_inside_is_withheld_only_with_a_5xx() -> None:
    assert all(row.status >= 500 for row in PROBLEMS.values() if row.withheld)


def test_subproblems_name_their_identifier() -> None:
    part = Subproblem(Code.CAA, "Not here.", "dns", "a.example")
    document = problem_document(SporkError(Code.REJECTED_IDENTIFIER, "No.", subproblems=[part]))
    assert document["subproblems"] == [
        {
            "type": "urn:ietf:params:acme:error:caa",
            "detail": "Not here.",
            "identifier": {"type": "dns", "value": "a.example"},
        }
    ]
