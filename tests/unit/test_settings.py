"""Settings: where they come from, what wins, and what a user is told about a wrong one."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

import pytest

from spork.errors import ConfigurationError
from spork.settings import Address, Settings, load_settings


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "spork.toml"
    file.write_text('acme_http01_port = 5002\nstatus_listen = "127.0.0.1:9000"\n')
    settings = load_settings(file, {"SPORK_ACME_HTTP01_PORT": "80"})
    assert (settings.acme_http01_port, settings.status_listen) == (80, Address("127.0.0.1", 9000))


def test_every_listener_is_on_loopback_by_default() -> None:
    settings = load_settings(environment={})
    listeners = (settings.status_listen, settings.enrol_listen, settings.admin_listen, settings.ops_listen)
    assert all(ipaddress.ip_address(address.host).is_loopback for address in listeners)


def test_a_path_in_a_file_is_relative_to_that_file(tmp_path: Path) -> None:
    file = tmp_path / "spork.toml"
    file.write_text('passphrase_file = "secrets/passphrase"\n')
    assert load_settings(file, {}).passphrase_file == tmp_path / "secrets" / "passphrase"


def test_networks_may_be_a_list_or_a_text_with_commas(tmp_path: Path) -> None:
    file = tmp_path / "spork.toml"
    file.write_text('acme_allowed_networks = ["10.0.0.0/8", "fd00::/8"]\n')
    expected = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    assert load_settings(file, {}).acme_allowed_networks == expected
    assert (
        load_settings(None, {"SPORK_ACME_ALLOWED_NETWORKS": "10.0.0.0/8, fd00::/8"}).acme_allowed_networks == expected
    )


def test_an_ipv6_listener_is_written_in_brackets() -> None:
    address = load_settings(environment={"SPORK_ADMIN_LISTEN": "[::1]:8444"}).admin_listen
    assert (address, str(address)) == (Address("::1", 8444), "[::1]:8444")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        pytest.param(
            "SPORK_STATUS_LISTN", "x", "did you mean 'status_listen'", id="a misspelt name gets the nearest one"
        ),
        pytest.param("SPORK_STATUS_LISTEN", "8080", "write it as host:port", id="a port without a host"),
        pytest.param("SPORK_STATUS_LISTEN", "127.0.0.1:99999", "SPORK_STATUS_LISTEN", id="a port that does not exist"),
        pytest.param("SPORK_ENROL_URL", "ca.example.com", "is not an http or https URL", id="a URL without a scheme"),
        pytest.param("SPORK_FIPS", "maybe", "neither on nor off", id="a switch that is neither on nor off"),
        pytest.param("SPORK_WORKERS", "many", "SPORK_WORKERS", id="a number that is none"),
        pytest.param("SPORK_ACME_ALLOWED_NETWORKS", "10.0.0.1/8", "host bits", id="a network with host bits"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(environment={variable: value})
    assert words in refused.value.detail
    assert variable in refused.value.detail


def test_an_unknown_key_in_a_file_names_the_file_and_the_nearest_word(tmp_path: Path) -> None:
    file = tmp_path / "spork.toml"
    file.write_text("acme_http_port = 1\n")
    with pytest.raises(ConfigurationError, match=r"spork\.toml.*acme_http_port.*acme_http01_port"):
        load_settings(file, {})


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    file = tmp_path / "spork.toml"
    file.write_text("workers = = 2\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        load_settings(file, {})


def test_variables_of_the_command_line_are_no_settings() -> None:
    assert load_settings(environment={"SPORK_SERVER": "https://ca", "SPORK_DEBUG": "1"}) == load_settings(
        environment={}
    )


def test_every_setting_is_described_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "running.md").read_text("utf-8")
    missing = [f.name for f in dataclasses.fields(Settings) if f"`SPORK_{f.name.upper()}`" not in text]
    assert missing == []


@pytest.mark.parametrize("value", ["zero", "", "0", "-1", "2.5", "99999999", "\u0661"])
def test_a_number_that_is_none_is_refused_in_words(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"SPORK_WORKERS: .* is not a whole number from 1 to 1024"):
        load_settings(environment={"SPORK_WORKERS": value})


def test_a_port_beyond_the_last_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "spork.toml"
    file.write_text("acme_http01_port = 65536\n")
    with pytest.raises(ConfigurationError, match="65536 is not a whole number from 1 to 65535"):
        load_settings(file, {})
