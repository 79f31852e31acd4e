"""The built-in profiles hold together."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spork.errors import Code, ConfigurationError
from spork.x509.names import NameKind
from spork.x509.profile import SubjectRule
from spork.x509.profiles import PROFILES, profile_named


def test_all_profiles_are_there_under_their_own_names() -> None:
    assert set(PROFILES) == {
        "tls-server", "tls-client", "code-signing", "email", "device", "ocsp-signing", "timestamping",
        "root", "policy-ca", "issuing-ca", "cross",
        "admin-superadmin", "admin-admin", "admin-operator", "admin-viewer", "listener",
    }  # fmt: skip
    assert all(name == profile.name and profile.description for name, profile in PROFILES.items())
    assert all(hash(profile) for profile in PROFILES.values())


def test_defaults_never_exceed_the_maxima() -> None:
    assert all(profile.default_validity <= profile.max_validity for profile in PROFILES.values())


def test_servers_live_398_days_at_most_and_90_by_default() -> None:
    assert PROFILES["tls-server"].max_validity == timedelta(days=398)
    assert PROFILES["tls-server"].default_validity == timedelta(days=90)


def test_ocsp_responders_live_a_week_and_cannot_be_requested() -> None:
    profile = PROFILES["ocsp-signing"]
    assert profile.default_validity == timedelta(days=7)
    assert profile.ocsp_no_check
    assert not profile.revocation_urls
    assert not profile.requestable


def test_ca_profiles_are_declared_and_for_superadmins() -> None:
    authorities = [profile for profile in PROFILES.values() if profile.ca]
    assert {profile.name for profile in authorities} == {"root", "policy-ca", "issuing-ca", "cross"}
    for profile in authorities:
        assert profile.key_usage == {"keyCertSign", "cRLSign"}
        assert profile.subject is SubjectRule.DECLARED
        assert not profile.requestable
        assert profile.minimum_level == "superadmin"


def test_only_cas_may_sign_certificates() -> None:
    assert all(profile.ca == ("keyCertSign" in profile.key_usage) for profile in PROFILES.values())


def test_administrators_need_a_superadmin() -> None:
    assert all(PROFILES[name].minimum_level == "superadmin" for name in PROFILES if name.startswith("admin-"))


def test_the_listener_is_a_server_that_nobody_requests() -> None:
    assert not PROFILES["listener"].requestable
    assert PROFILES["listener"].extended_key_usage == PROFILES["tls-server"].extended_key_usage


def test_a_server_has_no_mailbox() -> None:
    assert PROFILES["tls-server"].name_kinds == {NameKind.DNS, NameKind.IP}
    assert PROFILES["email"].name_kinds == {NameKind.EMAIL}
    assert PROFILES["device"].name_kinds == set(NameKind)


def test_a_profile_is_found_by_name() -> None:
    assert profile_named("tls-server") is PROFILES["tls-server"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tls-sever", "tls-server"),
        ("isuing-ca", "issuing-ca"),
        ("admin", "admin-"),
        ("", "known are"),
        ("zzz", "known are"),
    ],
)
def test_an_unknown_profile_is_refused_with_the_nearest_word(name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        profile_named(name)
    assert caught.value.code is Code.CONFIGURATION
    assert hint in caught.value.detail
