"""Hierarchy files: what is wrong with one is said with file, line, key and the nearest valid word."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_world import ISSUER, ISSUING, POLICY, ROOT, TREE, a_tree

from spork.errors import ConfigurationError, SporkError
from spork.hierarchy.load import load_hierarchy, load_text
from spork.hierarchy.positions import line_numbers
from spork.hierarchy.presets import preset_names, preset_summary, preset_text
from spork.hierarchy.problems import HierarchyError
from spork.x509.authority import AuthorityKind, KeyMode

FLAT = '[[issuing_cas]]\ncommon_name = "Flat"\nalgorithm = "ed25519"\nvalidity_days = 365\n'
CROSS = '[[cross_certificates]]\nissuer = "policy"\nsubject = "other"\nvalidity_days = 100\npath_length = 0\n'
OTHER = '[[policy_cas]]\ncommon_name = "Other"\nalgorithm = "ecdsa-p256"\nvalidity_years = 10\n'
ACME = "[issuers.protocols.acme]\n"


def faults(text: str) -> list[str]:
    with pytest.raises(HierarchyError) as refusal:
        load_text(text, "h.toml")
    return list(refusal.value.lines)


def lower(text: str, line: str, after: str) -> str:
    """The text with a line added after another one."""
    assert after in text
    return text.replace(after, f"{after}{line}\n", 1)


def in_root(line: str) -> str:
    return ROOT + line + "\n" + POLICY + ISSUING


def in_policy(line: str) -> str:
    return ROOT + POLICY + line + "\n" + ISSUING


def in_issuing(line: str) -> str:
    return ROOT + POLICY + ISSUING + line + "\n"


def in_issuer(line: str) -> str:
    return TREE + line + "\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(
            in_root('algoritm = "x"'),
            r"h.toml:5: root.algoritm: unknown key 'algoritm'; did you mean 'algorithm'\?",
            id="an unknown key gets the nearest one",
        ),
        pytest.param(
            "[rot]\n" + TREE, r"h.toml:1: rot: unknown key 'rot'; did you mean 'root'\?", id="an unknown table"
        ),
        pytest.param("", r"h.toml:1: root: is missing\.", id="an empty file has no root"),
        pytest.param(
            TREE.replace('"Root"', "7"),
            r"h.toml:2: root.common_name: a text in quotes is expected\.",
            id="a number is no name",
        ),
        pytest.param(
            TREE.replace("validity_years = 20", 'validity_years = "20"'),
            r"h.toml:4: root.validity_years: a whole number is expected\.",
            id="a text is no number",
        ),
        pytest.param(
            TREE.replace("validity_years = 20", "validity_years = true"),
            r"h.toml:4: root.validity_years: a whole number is expected\.",
            id="true is no number",
        ),
        pytest.param(
            TREE.replace('profiles = ["tls-server"]', 'profiles = "tls-server"'),
            r"h.toml:16: issuers\[0\].profiles: a list in \[ \] is expected\.",
            id="a text is no list",
        ),
        pytest.param("[root\n", r"h.toml:1: not valid TOML: ", id="a bracket is missing"),
        pytest.param(
            "version = 2\n" + TREE, r"h.toml:1: version: version 2 is not known", id="a version of the future"
        ),
        pytest.param(
            TREE.replace("ecdsa-p256", "ecdsa-p255"),
            r"h.toml:3: root.algorithm: unknown algorithm 'ecdsa-p255'; did you mean 'ecdsa-p256'\?",
            id="an unknown algorithm",
        ),
        pytest.param(
            TREE.replace('algorithm = "ecdsa-p256"\nvalidity_years = 20', "validity_years = 20"),
            r"h.toml:1: root: `algorithm` is missing; known are rsa-2048, ",
            id="no algorithm",
        ),
        pytest.param(
            TREE + ISSUING.replace("Issuing", "issuing!"), r"the id 'issuing' is taken already", id="two CAs of one id"
        ),
        pytest.param(
            in_issuing('id = "root"'),
            r"h.toml:13: policy_cas\[0\].issuing_cas\[0\].id: the id 'root' is reserved",
            id="a child called root",
        ),
        pytest.param(
            TREE + FLAT.replace("Flat", "Issuing").replace("\n", '\nid = "flat"\n', 1),
            r"issuing_cas\[0\].common_name: the name 'CN=Issuing' is taken already by 'issuing'",
            id="two CAs of one name",
        ),
        pytest.param(
            ROOT + OTHER + 'id = "a"\nparent = "b"\n' + POLICY + 'id = "b"\nparent = "a"\n',
            r"policy_cas\[0\].parent: a loop of parents: a -> b -> a\.",
            id="parents in a circle",
        ),
        pytest.param(
            ROOT + POLICY + 'parent = "policy"\n',
            r"a loop of parents: policy -> policy\.",
            id="a CA that is its own parent",
        ),
        pytest.param(
            TREE + FLAT + 'parent = "polcy"\n',
            r"issuing_cas\[0\].parent: unknown CA 'polcy'; did you mean 'policy'\?",
            id="an unknown parent",
        ),
        pytest.param(
            TREE + FLAT + 'parent = "issuing"\n',
            r"'issuing' is an issuing CA; only the root and policy CAs",
            id="a parent that is an issuing CA",
        ),
        pytest.param(
            in_issuing('parent = "root"'),
            r"it stands inside 'policy', which is its parent; leave `parent` out",
            id="a nested CA with another parent",
        ),
        pytest.param(
            TREE.replace("validity_years = 10", "validity_years = 21"),
            r"h.toml:8: policy_cas\[0\].validity_years: 21 years outlive its parent 'root', which has 20 years\.",
            id="a CA that outlives its root",
        ),
        pytest.param(
            TREE.replace("validity_years = 5", "validity_days = 3700"),
            r"3700 days outlive its parent 'policy', which has 10 years\.",
            id="a CA that outlives its parent in days",
        ),
        pytest.param(
            TREE.replace("validity_years = 20", "validity_years = 41"),
            r"41 years are too long for a certificate of the profile 'root'",
            id="a root that lives too long",
        ),
        pytest.param(
            in_root("validity_days = 9"), r"h.toml:5: root.validity_days: say either .* not both\.", id="years and days"
        ),
        pytest.param(
            TREE.replace("validity_years = 20\n", ""),
            r"root: a certificate needs `validity_years` or `validity_days`",
            id="neither years nor days",
        ),
        pytest.param(
            TREE.replace("validity_years = 20", "validity_years = 0"),
            r"validity_years: 0 is out of range",
            id="no years",
        ),
        pytest.param(
            in_policy("path_length = 0"),
            r"'policy' has path_length 0, which allows no CA below it\.",
            id="a path length that leaves no room",
        ),
        pytest.param(
            in_issuing("path_length = 1"),
            r"path_length: path_length 1 is impossible below 'policy', which has 1; at most 0",
            id="a path length above what the parent allows",
        ),
        pytest.param(in_policy("path_length = -1"), r"path_length: -1 is out of range", id="a negative path length"),
        pytest.param(
            in_policy('name_constraints.permitted.dns = ["example"]\n')
            + 'name_constraints.permitted.dns = ["elsewhere"]\n',
            r"name_constraints: dns:elsewhere is outside of what 'policy' permits\.",
            id="a subtree outside of the parent's",
        ),
        pytest.param(
            in_policy('name_constraints.excluded.dns = ["example"]\n')
            + 'name_constraints.permitted.dns = ["www.example"]\n',
            r"dns:www.example is inside of dns:example, which 'policy' excludes\.",
            id="a subtree that the parent excludes",
        ),
        pytest.param(
            in_policy('name_constraints.permitted.ip = ["10.0.0.0/8"]\n')
            + 'name_constraints.permitted.ip = ["10.0.0.0/7"]\n',
            r"ip:10.0.0.0/7 is outside of what 'policy' permits",
            id="a network wider than the parent's",
        ),
        pytest.param(
            in_policy('name_constraints.permitted.ip = ["10.0.0.1/8"]'),
            r"permitted.ip\[0\]: '10.0.0.1/8' is not a subtree",
            id="a network with host bits",
        ),
        pytest.param(
            in_policy('name_constraints.permitted.dn = ["O=A"]\n'),
            r"its own name is outside of the name constraints of 'policy'",
            id="a CA whose name its parent does not permit",
        ),
        pytest.param(
            in_policy("name_constraints = {}"), r"name constraints need at least one", id="empty name constraints"
        ),
        pytest.param(
            in_policy('name_constraints.permitted.dns = [".example"]'),
            r"write 'example', which covers the names below",
            id="a DNS subtree with a leading dot",
        ),
        pytest.param(
            in_policy('name_constraints.permitted.uri = ["http://example"]'),
            r"a constraint on URIs is a host",
            id="a URI subtree that is a URI",
        ),
        pytest.param(
            in_policy('policies = ["1.2.x"]'),
            r"policies\[0\]: '1.2.x' is not an object identifier",
            id="a bad policy OID",
        ),
        pytest.param(
            in_policy('policies = ["1.3.6.1.4.1.99999.1"]\n') + 'policies = ["1.3.6.1.4.1.99999.2"]\n',
            r"1.3.6.1.4.1.99999.2 is not among the policies of 'policy'",
            id="a policy that the parent does not assert",
        ),
        pytest.param(
            in_issuing('policies = ["1.3.6.1.4.1.56266.1.20.4"]'),
            r"reserved for administrators' certificates",
            id="the policy of an administrator level",
        ),
        pytest.param(
            in_policy('extended_key_usage = ["serverAut"]'),
            r"unknown extended key usage 'serverAut'; did you mean 'serverAuth'\?",
            id="an unknown extended key usage",
        ),
        pytest.param(
            in_policy('extended_key_usage = ["codeSigning"]\n') + 'extended_key_usage = ["serverAuth"]\n',
            r"1.3.6.1.5.5.7.3.1 is not among the extended key usages of 'policy'",
            id="a usage that the parent forbids",
        ),
        pytest.param(
            in_policy('extended_key_usage = ["codeSigning"]') + ISSUER,
            r"issuers\[0\].profiles\[0\]: 'policy' is limited to other extended key usages",
            id="a profile that the tree makes void",
        ),
        pytest.param(
            in_issuing('crl.interval = "1 day"'), r"crl.interval: '1 day' is not a duration", id="a bad duration"
        ),
        pytest.param(in_issuing('crl.interval = "0h"'), r"'0h' is not a duration", id="no duration at all"),
        pytest.param(
            in_issuing('crl = { interval = "1h", delta_interval = "2h" }'),
            r"delta_interval: delta CRLs come between",
            id="deltas that are rarer than full lists",
        ),
        pytest.param(
            in_policy('crl.delta_interval = "1h"'), r"delta CRLs need an online key", id="deltas of a sealed CA"
        ),
        pytest.param(in_issuing("crl_shards = 0"), r"crl_shards: 0 is out of range", id="no shards"),
        pytest.param(in_issuing('crl_urls = ["https://x/y.crl"]'), r"must be plain http", id="a CRL behind https"),
        pytest.param(
            in_issuing('crl_shards = 2\ncrl_urls = ["http://x/y.crl"]'), r"needs \{shard\}", id="shards at one URL"
        ),
        pytest.param(
            in_issuing('crl_urls = ["http://x/{shard}.crl"]'),
            r"has \{shard\}, but there is one CRL",
            id="a shard of one",
        ),
        pytest.param(
            in_issuing('ocsp_urls = ["http://x/{ca}"]'), r"a placeholder that is neither", id="an unknown placeholder"
        ),
        pytest.param(in_issuing('ocsp_urls = ["http://[::1"]'), r"is not a URL\.", id="half an address"),
        pytest.param(
            in_issuing('key_mode = "onlin"'),
            r"unknown key mode 'onlin'; did you mean 'online'\?",
            id="an unknown key mode",
        ),
        pytest.param(in_issuing('key_mode = "pkcs11"'), r"not part of this version", id="a key in a module"),
        pytest.param(
            in_issuing('id = "Not A Slug"'),
            r"the id 'Not A Slug' is no slug .*; such as 'not-a-slug'\.",
            id="an id with blanks",
        ),
        pytest.param(
            in_issuing('id = "management"'), r"the id 'management' is reserved", id="the id of the management CA"
        ),
        pytest.param(in_issuing('id = "x-chain"'), r"the id 'x-chain' is reserved", id="an id that a file name needs"),
        pytest.param(
            in_issuing('profiles = ["tls-sever"]'),
            r"unknown profile 'tls-sever'; did you mean 'tls-server'\?",
            id="an unknown profile of a CA",
        ),
        pytest.param(
            in_root('country = "DEU"'), r"root.country: 'DEU' cannot stand in a name", id="a country of three letters"
        ),
        pytest.param(
            in_root('organization = "A\\u0000B"'),
            r"organization: a name is made of printable characters",
            id="NUL in a name",
        ),
        pytest.param(
            in_root('subject = "CN=Other"'),
            r"`subject` is the whole name; leave out 'common_name'",
            id="a name said twice",
        ),
        pytest.param(
            TREE.replace('common_name = "Root"', 'subject = "Root"'),
            r"'Root' is not a distinguished name",
            id="no RFC 4514",
        ),
        pytest.param(
            TREE.replace('common_name = "Root"', ""),
            r"h.toml:1: root: a CA needs `common_name` or `subject`",
            id="no name",
        ),
        pytest.param(
            in_root(f'organizational_unit = "{"x" * 65}"'),
            r"organizational_unit: it is 65 characters long; at most 64\.",
            id="a name longer than RFC 5280 allows",
        ),
        pytest.param(
            TREE.replace('ca = "issuing"', 'ca = "isuing"'),
            r"issuers\[0\].ca: unknown CA 'isuing'; did you mean 'issuing'\?",
            id="an issuer of an unknown CA",
        ),
        pytest.param(
            TREE.replace('ca = "issuing"', 'ca = "root"'),
            r"'root' is a root CA; certificates are issued by issuing CAs",
            id="an issuer on the root",
        ),
        pytest.param(
            TREE.replace('"tls-server"', '"tls-servr"'),
            r"unknown profile 'tls-servr'; did you mean 'tls-server'\?",
            id="an unknown profile",
        ),
        pytest.param(
            TREE.replace('"tls-server"', '"ocsp-signing"'),
            r"unknown profile 'ocsp-signing'",
            id="a profile of SPORK's own",
        ),
        pytest.param(
            TREE.replace('"tls-server"', '"admin-admin"'),
            r"unknown profile 'admin-admin'",
            id="an administrator's profile",
        ),
        pytest.param(TREE.replace('["tls-server"]', "[]"), r"an issuer offers at least one profile", id="no profile"),
        pytest.param(
            in_issuing('profiles = ["tls-client"]') + ISSUER,
            r"the CA 'issuing' does not offer the profile 'tls-server'",
            id="a profile that the CA does not offer",
        ),
        pytest.param(
            TREE.replace("**.example", "exa mple"),
            r"names.permit.dns\[0\]: The dns pattern 'exa mple'",
            id="a bad pattern",
        ),
        pytest.param(
            TREE
            + ISSUER.replace("web", "second")
            + "default = true\n"
            + ISSUER.replace("web", "third")
            + "default = true\n",
            r"issuers\[2\].default: 'second' is the default issuer already\.",
            id="two default issuers",
        ),
        pytest.param(
            TREE + ISSUER, r"issuers\[1\].name: there is an issuer 'web' already\.", id="two issuers of one name"
        ),
        pytest.param(TREE.replace('"web"', '"a.b"'), r"'a.b' has a dot", id="an issuer with a dot"),
        pytest.param(
            TREE.replace('"web"', '"simpleenroll"'),
            r"'simpleenroll' is reserved",
            id="an issuer named like an EST operation",
        ),
        pytest.param(
            TREE.replace('"web"', '"directory"'), r"'directory' is reserved", id="an issuer named like ACME's directory"
        ),
        pytest.param(
            in_issuer('keys.algorithms = ["rsa-1024"]'),
            r"unknown algorithm 'rsa-1024'; did you mean 'rsa-",
            id="a weak key",
        ),
        pytest.param(
            in_issuer("max_validity_days = 0"), r"max_validity_days: 0 is out of range", id="no validity at all"
        ),
        pytest.param(
            in_issuing('key_mode = "sealed"') + ISSUER + ACME,
            r"the key of 'issuing' is sealed, and a server can sign only",
            id="ACME on a sealed CA",
        ),
        pytest.param(
            in_issuing('key_mode = "offline"') + ISSUER + ACME,
            r"the key of 'issuing' is offline",
            id="ACME on an offline CA",
        ),
        pytest.param(
            in_issuer(ACME + 'challenges = ["http-1"]'),
            r"unknown challenge 'http-1'; did you mean 'http-01'\?",
            id="a challenge",
        ),
        pytest.param(in_issuer(ACME + "challenges = []"), r"at least one challenge is needed", id="no challenge"),
        pytest.param(
            in_issuer(ACME + 'networks = ["10.0.0.1/8"]'),
            r"networks\[0\]: not a network",
            id="a network with host bits set",
        ),
        pytest.param(in_issuer(ACME + 'ports = { "http-01" = 0 }'), r"0 is no port", id="port zero"),
        pytest.param(in_issuer("[issuers.protocols.est]"), r"unknown key 'est'", id="a protocol that is not there"),
        pytest.param(
            TREE + OTHER + CROSS.replace('"other"', '"othr"'),
            r"cross_certificates\[0\].subject: unknown CA 'othr'; did you",
            id="a cross-certificate for an unknown CA",
        ),
        pytest.param(
            TREE + CROSS.replace('"other"', '"root"'),
            r"a loop: policy -> root -> policy\.",
            id="a CA that certifies its root",
        ),
        pytest.param(
            TREE
            + OTHER
            + CROSS
            + CROSS.replace('"policy"', '"x"').replace('"other"', '"policy"').replace('"x"', '"other"'),
            r"cross_certificates\[1\]: a loop: other -> policy -> other\.",
            id="two CAs that certify each other",
        ),
        pytest.param(
            TREE + CROSS.replace('"other"', '"issuing"'),
            r"'policy' is the parent of 'issuing'",
            id="a child certified twice",
        ),
        pytest.param(
            TREE + CROSS.replace('"other"', '"policy"'),
            r"'policy' cannot cross-certify itself",
            id="a CA certifying itself",
        ),
        pytest.param(
            TREE + OTHER + CROSS.replace("validity_days = 100", "validity_years = 11"),
            r"11 years outlive its issuer 'policy'",
            id="a cross-certificate that outlives its issuer",
        ),
        pytest.param(
            TREE + OTHER + CROSS + CROSS,
            r"there is a cross-certificate 'other-by-policy' already",
            id="two of one kind",
        ),
        pytest.param(
            TREE + CROSS.replace('subject = "other"\n', ""),
            r"exactly one of `subject`",
            id="a cross-certificate for nobody",
        ),
        pytest.param(
            TREE + CROSS.replace('subject = "other"', 'subject_csr = "x.csr"'),
            r"a file cannot be named here",
            id="a file where there is no folder",
        ),
    ],
)
def test_a_fault_is_named_with_line_key_and_a_way_out(text: str, fault: str) -> None:
    lines = faults(text)
    assert any(re.search(fault, line) for line in lines), lines
    assert all(re.match(r"h\.toml:\d+: ", line) for line in lines)


def test_all_faults_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        TREE.replace("ecdsa-p256", "rsa-1")
        .replace('"web"', '"a.b"')
        .replace("validity_years = 5", "validity_years = 11")
    )
    lines = faults(text)
    numbers = [int(line.split(":")[1]) for line in lines]
    assert len(lines) == 5
    assert numbers == sorted(numbers)


def test_a_whole_tree_gets_its_defaults() -> None:
    tree = a_tree()
    root, policy, issuing = tree.authorities
    assert [root.kind, policy.kind, issuing.kind] == [AuthorityKind.ROOT, AuthorityKind.POLICY, AuthorityKind.ISSUING]
    assert [one.constraints.path_length for one in tree.authorities] == [None, 1, 0]
    assert [one.key_mode for one in tree.authorities] == [KeyMode.SEALED, KeyMode.SEALED, KeyMode.ONLINE]
    assert [one.id for one in tree.ancestors(issuing.id)] == ["policy", "root"]
    assert tree.issuers[0].default
    assert (root.common_name, root.subject.rfc4514_string()) == ("Root", "CN=Root")


def test_derived_urls_name_the_ca_and_its_generation() -> None:
    root, _, issuing = a_tree(
        TREE, ("validity_years = 5\n", 'validity_years = 5\ncrl_shards = 4\ncrl.delta_interval = "1h"\n')
    ).authorities
    urls = issuing.urls_of(2, "http://pki.example/")
    assert urls.crl == ("http://pki.example/crl/issuing/2/{shard}.crl",)
    assert urls.delta_crl == ("http://pki.example/crl/issuing/2/{shard}/delta.crl",)
    assert urls.ocsp == ("http://pki.example/ocsp/issuing",)
    assert urls.ca_issuers == ("http://pki.example/ca/issuing/2.cer",)
    assert root.urls_of(1, "http://pki.example").ocsp == (), "a sealed CA has no running responder"
    assert root.urls_of(1, "http://pki.example").crl == ("http://pki.example/crl/root/1.crl",)


def test_declared_urls_win_and_an_empty_list_leaves_the_extension_out() -> None:
    text = in_policy(
        'crl_urls = ["http://a.example/{generation}.crl"]\nca_issuer_urls = []\nocsp_urls = ["http://o.example"]'
    )
    urls = a_tree(text).authorities[1].urls_of(3, "http://pki.example")
    assert (urls.crl, urls.ca_issuers, urls.ocsp) == (("http://a.example/3.crl",), (), ("http://o.example",))


def test_deeper_trees_are_declared_with_parent() -> None:
    tree = a_tree(ROOT + FLAT + 'parent = "lower"\n' + OTHER + 'id = "lower"\nparent = "policy"\n' + POLICY)
    assert [one.id for one in tree.authorities] == ["root", "policy", "lower", "flat"]
    assert [one.constraints.path_length for one in tree.authorities] == [None, 2, 1, 0]


def test_a_full_name_comes_in_the_order_of_certificates() -> None:
    text = in_root('organization = "Org"\ncountry = "DE"\nstate = "S"\nlocality = "L"\norganizational_unit = "U"')
    assert a_tree(text).root.subject.rfc4514_string() == "CN=Root,OU=U,O=Org,L=L,ST=S,C=DE"


def test_years_are_calendar_years_and_the_end_is_inclusive() -> None:
    validity = a_tree().root.validity
    assert validity.end(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2044, 2, 28, 23, 59, 59, tzinfo=UTC)
    leap = a_tree(TREE, ("validity_years = 20", "validity_years = 11")).root.validity
    assert leap.end(datetime(2024, 2, 29, tzinfo=UTC)) + timedelta(seconds=1) == datetime(2035, 2, 28, tzinfo=UTC)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name: str) -> None:
    assert load_text(preset_text(name), name).authorities
    assert preset_summary(name).endswith(".")


def test_an_unknown_preset_gets_the_nearest_one() -> None:
    with pytest.raises(SporkError, match="did you mean 'device'"):
        preset_text("devices")


def test_the_quickstart_is_valid() -> None:
    tree = load_hierarchy(Path("examples/quickstart/hierarchy.toml"))
    assert [one.common_name for one in tree.authorities] == [
        "SPORK Root CA",
        "SPORK TLS Policy CA",
        "SPORK TLS Web Server Issuing CA",
    ]
    issuer = tree.issuers[0]
    assert (issuer.name, issuer.default, list(issuer.protocols)) == ("tls-web", True, ["acme"])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"\xff", r":1: is not UTF-8", id="octets that are no text"),
        pytest.param(b"#" * (1 << 20) + b"#", r"too large", id="a file of more than a megabyte"),
        pytest.param(b"a = " + b"[" * 100_000, r"nested too deeply", id="brackets without end"),
    ],
)
def test_a_file_that_is_no_hierarchy_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "h.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=fault):
        load_hierarchy(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read: No such file"):
        load_hierarchy(tmp_path / "none.toml")


@given(st.text(max_size=200))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    with pytest.raises(ConfigurationError):
        load_text(text)


WORDS = st.sampled_from(
    [
        "[root]",
        "[[policy_cas]]",
        "[[issuing_cas]]",
        "[[policy_cas.issuing_cas]]",
        "[[issuers]]",
        "[[cross_certificates]]",
    ]
    + [
        f"{key} = {value}"
        for key in (
            "id",
            "common_name",
            "parent",
            "name",
            "ca",
            "issuer",
            "subject",
            "algorithm",
            "key_mode",
            "validity_years",
            "crl_shards",
            "path_length",
            "profiles",
            "policies",
            "names.permit.dns",
            "name_constraints.permitted.dn",
            "name_constraints.excluded.ip",
            "crl.interval",
            "crl_urls",
            "default",
            "protocols.acme.networks",
            "subject_csr",
        )
        for value in (
            '"a"',
            '"root"',
            '"ecdsa-p256"',
            '"offline"',
            "1",
            "-1",
            '["a"]',
            '["CN=a"]',
            '["10.0.0.0/8"]',
            "true",
            '"\\u0000"',
            '["http://a/{shard}"]',
            "1979-05-27",
            "0x7fffffffffffffffffff",
            '["1.2.3"]',
            '""',
            "{}",
            '"O=\\\\"',
        )
    ]
)


@given(st.lists(WORDS, max_size=25))
def test_no_mixture_of_known_keys_ends_in_a_traceback(lines: list[str]) -> None:
    with contextlib.suppress(HierarchyError):
        load_text("\n".join([*ROOT.splitlines(), *lines]))


VALUES = st.recursive(
    st.text(max_size=8) | st.integers(-9, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{as_toml(key)} = {as_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[\n" + ", # x = 1 ]\n".join(as_toml(one) for one in value) + "\n]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if c in '\\"' or not c.isprintable() else c for c in value) + '"'
    return str(value).lower()


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_every_key_of_a_valid_text_has_its_line(document: dict[str, object]) -> None:
    text = "\n".join(f"{as_toml(key)} = {as_toml(value)}" for key, value in document.items())
    lines = line_numbers(text)

    def check(value: object, path: tuple[str | int, ...]) -> None:
        if path:
            assert path in lines
        if isinstance(value, dict):
            for key, one in value.items():
                check(one, (*path, key))
        if isinstance(value, list):
            for index, one in enumerate(value):
                check(one, (*path, index))

    check(document, ())
    starts = [lines[(key,)] for key in document]
    assert starts == sorted(starts)


def test_lines_are_right_around_strings_that_look_like_syntax() -> None:
    text = 'a = """\n[x]\n""""\nb = \'\'\'\n]]\'\'\'\n[t]\n"c.d" = "# ]"\ne.f = 1\n[[u]]\n[[u]]\ng = 1\n'
    lines = line_numbers(text)
    assert [lines[path] for path in [("a",), ("b",), ("t", "c.d"), ("t", "e", "f"), ("u", 1), ("u", 1, "g")]] == [
        1,
        4,
        7,
        8,
        10,
        11,
    ]
